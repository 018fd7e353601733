import dataclasses
import json
import shutil

import numpy as np
import pytest

from emgen.config import parse
from emgen.config.restore import Restore
from emgen.errors import EmgenError
from emgen.geometry import Box, VoxelSize
from emgen.modes import mode
from emgen.physics.noise_model import NoiseModel
from emgen.run import output
from emgen.run.output import create_output, refuse_other_settings
from emgen.run.plan import PLAN_SCHEMA, Plan, make
from emgen.run.resolve import concurrent_blocks, resolve
from emgen.volumes.volume import Volume

THICK = VoxelSize(24, 8, 8)


def measured(folder, voxels=None, voxel=THICK, name="measured"):
    if voxels is None:
        voxels = np.random.default_rng(0).integers(40, 200, (5, 20, 22)).astype(np.uint8)
    volume = Volume.create(
        folder / f"{name}.ome.zarr",
        voxels.shape,
        voxels.dtype,
        voxel,
        chunk=(4, 8, 8),
        shard=(8, 16, 16),
    )
    volume.write(Box.whole(voxels.shape), voxels)
    return volume


def config(volume, **changes):
    settings = {
        "run": "r",
        "input": {"volume": volume.path},
        "restore": {},
        "grid": {"block": [8, 8, 8], "halo": [4, 4, 4]},
        "output": {"chunk": [4, 4, 4], "shard": [8, 8, 8]},
        "qc": {},
    }
    for key, value in changes.items():
        settings[key] = {**settings[key], **value} if isinstance(value, dict) else value
    return parse(settings)


def test_the_physical_extent_is_kept(tmp_path):
    found = resolve(config(measured(tmp_path)))
    assert (found.grid.shape, found.voxel, found.mode.acquisition.scale) == (
        (15, 20, 22),
        VoxelSize(8, 8, 8),
        (3, 1, 1),
    )


@pytest.mark.parametrize(("section", "centre"), [("slice", 0), ("mean", 1), ("gaussian", 1)])
def test_a_measured_section_lies_where_its_convention_says(tmp_path, section, centre):
    assert resolve(
        config(measured(tmp_path), restore={"section": section})
    ).mode.acquisition.centre == (
        centre,
        0,
        0,
    )


def test_the_output_starts_where_the_input_does(tmp_path):
    volume = measured(tmp_path)
    for section, first in (("slice", 0.0), ("mean", -8.0)):
        found = resolve(config(volume, restore={"section": section}))
        output = create_output(make(found), found, tmp_path / f"{section}.ome.zarr")
        assert (output.translation, output.voxel) == ((first, 0, 0), VoxelSize(8, 8, 8))


@pytest.mark.parametrize(
    ("size", "factor"), [(40.4, 10), (39.0, 10), (8.0, 1), (18.0, None), (4.0, None)]
)
def test_the_default_factor_is_the_anisotropy_near_a_whole_number(tmp_path, size, factor):
    volume = measured(tmp_path)
    voxel = VoxelSize(size, 4, 4) if size > 8 else VoxelSize(size, 8, 8)
    if factor:
        assert mode(Restore(), volume.shape, voxel).acquisition.scale == (factor, 1, 1)
    else:
        with pytest.raises(EmgenError, match=r"restore\.factor|nothing to restore"):
            mode(Restore(), volume.shape, voxel)


def test_a_plan_comes_back_from_its_file(tmp_path):
    plan = make(resolve(config(measured(tmp_path))))
    plan.write(tmp_path / "plan.json")
    assert Plan.read(tmp_path / "plan.json") == plan


def test_the_key_follows_what_the_voxels_depend_on_and_nothing_else(tmp_path):
    volume = measured(tmp_path)
    key = make(resolve(config(volume))).key
    same = [
        {"run": "other"},
        {"grid": {"blocks_per_job": 2}},
        {"qc": {"tiles": 3}},
        {"restore": {"factor": 3}},
        {"restore": {"steps": 6, "start": 0.85}},
    ]
    assert all(make(resolve(config(volume, **change))).key == key for change in same)
    other = [
        {"restore": {"seed": 1}},
        {"restore": {"steps": 11}},
        {"grid": {"halo": [2, 4, 4]}},
        {"restore": {"noise": 3.0}},
    ]
    assert all(make(resolve(config(volume, **change))).key != key for change in other)
    changed = volume.read(Box.whole(volume.shape))
    changed[2, 3, 4] += 1
    shutil.rmtree(volume.path)
    assert make(resolve(config(measured(tmp_path, changed)))).key != key


@pytest.mark.parametrize(
    ("voxels", "fault"),
    [
        (np.full((5, 20, 22), 7, np.uint8), "grey value 7"),
        (
            np.where(np.arange(22) == 3, np.nan, np.ones((5, 20, 22))).astype(np.float32),
            "grey value 1",
        ),
    ],
)
def test_input_that_holds_nothing_is_refused(tmp_path, voxels, fault):
    with pytest.raises(EmgenError, match=fault):
        make(resolve(config(measured(tmp_path, voxels))))


def test_a_reference_of_another_shape_is_refused(tmp_path):
    wrong = measured(tmp_path, name="reference")
    with pytest.raises(EmgenError, match=r"qc\.reference.*\(5, 20, 22\).*\(15, 20, 22\)"):
        resolve(config(measured(tmp_path), qc={"reference": wrong.path}))


def test_labels_must_be_integers(tmp_path):
    labels = measured(tmp_path, np.ones((15, 20, 22), np.float32), name="labels")
    with pytest.raises(EmgenError, match=r"qc\.labels.*float32.*expected integers"):
        resolve(config(measured(tmp_path), qc={"labels": labels.path}))


def test_a_missing_prior_is_refused_before_any_work(tmp_path):
    with pytest.raises(EmgenError, match="nothing-of-the-kind"):
        resolve(config(measured(tmp_path), restore={"prior": "nothing-of-the-kind"}))


def test_other_settings_are_named_and_nothing_is_overwritten(tmp_path):
    volume, run = measured(tmp_path), tmp_path / "results"
    run.mkdir()
    make(resolve(config(volume))).write(run / "plan.json")
    refuse_other_settings(resolve(config(volume, grid={"blocks_per_job": 3})), run)
    with pytest.raises(EmgenError, match=r"restore\.seed was 0, now 5"):
        refuse_other_settings(resolve(config(volume, restore={"seed": 5})), run)


def test_a_volume_that_belongs_to_no_plan_is_not_touched(tmp_path):
    volume, run = measured(tmp_path), tmp_path / "results"
    (run / "restored.ome.zarr").mkdir(parents=True)
    with pytest.raises(EmgenError, match="not made by this run"):
        refuse_other_settings(resolve(config(volume)), run)


def test_an_output_of_another_plan_is_not_touched(tmp_path):
    found = resolve(config(measured(tmp_path)))
    plan = make(found)
    first = create_output(plan, found, tmp_path / "o.ome.zarr")
    assert create_output(plan, found, tmp_path / "o.ome.zarr").path == first.path
    with pytest.raises(EmgenError, match="nothing was overwritten"):
        create_output(dataclasses.replace(plan, key="other"), found, tmp_path / "o.ome.zarr")


def test_a_run_that_the_disk_cannot_hold_never_starts(tmp_path, monkeypatch):
    found = resolve(config(measured(tmp_path)))
    usage = type("usage", (), {"free": found.disk_bytes - 1})
    monkeypatch.setattr(output.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(EmgenError, match="GB are free"):
        refuse_other_settings(found, tmp_path / "results")


def test_only_sections_beyond_the_last_measured_one_are_extrapolated(tmp_path):
    volume = measured(tmp_path)
    assert make(resolve(config(volume))).extrapolated == Box((13, 0, 0), (15, 20, 22))
    assert make(resolve(config(volume, restore={"section": "mean"}))).extrapolated is None
    for section, first in (("slice", 10), ("mean", 12)):
        lost = config(volume, restore={"section": section}, input={"lost": [4]})
        assert make(resolve(lost)).extrapolated == Box((first, 0, 0), (15, 20, 22))


def test_a_plan_of_another_version_is_named_and_refused(tmp_path):
    path = tmp_path / "plan.json"
    make(resolve(config(measured(tmp_path)))).write(path)
    facts = json.loads(path.read_text())
    del facts["schema_version"]  # which 0.1.0 did not write
    path.write_text(json.dumps(facts))
    with pytest.raises(EmgenError, match=r"another version of emgen: .*\(emgen 0\.1\.0\)"):
        Plan.read(path)
    path.write_text("{")
    with pytest.raises(EmgenError, match="is not a plan"):
        Plan.read(path)
    path.write_text(json.dumps({"schema_version": PLAN_SCHEMA, "config": facts["config"]}))
    with pytest.raises(EmgenError, match="is damaged"):
        Plan.read(path)


def test_the_noise_model_is_in_the_plan_as_a_whole(tmp_path):
    noise = {"gain": 0.5, "sigma": 2.0, "black": 10.0}
    plan = make(resolve(config(measured(tmp_path), restore={"noise": noise})))
    plan.write(tmp_path / "plan.json")
    stored = json.loads((tmp_path / "plan.json").read_text())["noise_model"]
    assert NoiseModel(**stored) == plan.noise_model and plan.noise_model.gain == 0.5


def test_what_the_voxels_depend_on_has_the_names_that_runs_are_compared_by(tmp_path):
    # kept by every run: whoever changes these names makes all finished runs look like runs with other settings
    kept = resolve(config(measured(tmp_path))).settings
    assert set(kept) == {"input", "restore", "grid", "output", "prior", "estimator"}
    assert set(kept["restore"]) == {
        *("mode", "factor", "section", "sampler", "steps", "estimator", "start", "alpha"),
        *("samples", "noise", "psf", "prior", "precision", "seed"),
    }
    assert (kept["restore"]["factor"], kept["restore"]["steps"], kept["restore"]["start"]) == (
        *(3, 6),
        0.85,
    )
    assert set(kept["input"]) == {"volume", "lost"} and set(kept["grid"]) == {"block", "halo"}


def test_more_threads_and_thinner_blocks_project_more_memory(tmp_path):
    volume = measured(tmp_path)
    spec = resolve(config(volume))
    assert spec.memory_mb(1) < spec.memory_mb(8) < spec.memory_mb(64)
    flat = {"restore": {"mode": "denoise"}, "grid": {"block": [1, 8, 8], "halo": [0, 4, 4]}}
    thin = resolve(config(volume, output={"chunk": [1, 8, 8], "shard": [1, 8, 8]}, **flat))
    assert concurrent_blocks(thin.mode, thin.grid, 8) == 8
    assert thin.memory_mb(8) > thin.memory_mb(1)
