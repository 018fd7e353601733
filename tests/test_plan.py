import dataclasses
import json
import shutil

import numpy as np
import pytest

from emgen.config import parse
from emgen.config.qc import Qc
from emgen.config.restore import Restore
from emgen.errors import EmgenError
from emgen.geometry import Box, VoxelSize
from emgen.modes import mode
from emgen.physics.noise_model import NoiseModel
from emgen.run import output
from emgen.run.identity import unchanged
from emgen.run.mend import begin, mend
from emgen.run.output import create_output, refuse_other_settings
from emgen.run.plan import DamagedPlan, Plan, make
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
    with pytest.raises(EmgenError, match=r"[Nn]othing was overwritten"):
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
    assert {"volume", "lost", "voxel_size"} <= set(kept["input"]) and set(kept["grid"]) == {
        "block",
        "halo",
    }


def test_more_threads_and_thinner_blocks_project_more_memory(tmp_path):
    volume = measured(tmp_path)
    spec = resolve(config(volume))
    assert spec.memory_mb(1) < spec.memory_mb(8) < spec.memory_mb(64)
    flat = {"restore": {"mode": "denoise"}, "grid": {"block": [1, 8, 8], "halo": [0, 4, 4]}}
    thin = resolve(config(volume, output={"chunk": [1, 8, 8], "shard": [1, 8, 8]}, **flat))
    assert concurrent_blocks(thin.mode, thin.grid, 8) == 8
    assert thin.memory_mb(8) > thin.memory_mb(1)


def planned(folder, **changes):
    """A run that was planned: its specification, plan and folder."""
    spec, run = resolve(config(measured(folder), **changes)), folder / "results"
    plan = make(spec)
    begin(plan, spec, run)
    return spec, plan, run


def test_settings_of_quality_control_are_in_no_plan(tmp_path):
    plan = make(resolve(config(measured(tmp_path), qc={"tiles": 3})))
    plan.write(tmp_path / "plan.json")
    assert "qc" not in json.loads((tmp_path / "plan.json").read_text())["config"]
    assert plan.config.qc == Qc() == Plan.read(tmp_path / "plan.json").config.qc


DAMAGE = {
    "missing": lambda text: None,
    "empty": lambda text: "",
    "cut": lambda text: text[: len(text) // 2],
    "garbage": lambda text: "\0\1" + text,
    "a list": lambda text: "[]",
    "deep": lambda text: "[" * 100_000,
    "without its key": lambda text: json.dumps({**json.loads(text), "key": None}),
    "without shape": lambda text: text.replace("measured_shape", "shape"),
    "of other settings": lambda text: text.replace('"seed"', '"sed"'),
    "one digit": lambda text: text.replace('"seed": 0', '"seed": 8'),
    "empty facts": lambda text: "{}",
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_plan_that_is_lost_or_damaged_is_made_again_and_the_run_goes_on(tmp_path, damage):
    spec, plan, run = planned(tmp_path)
    text = damage((run / "plan.json").read_text())
    (run / "plan.json").unlink()
    if text is not None:
        (run / "plan.json").write_text(text)
    with pytest.raises(DamagedPlan, match="start the run again"):
        Plan.of(run)
    refuse_other_settings(spec, run)
    mark = (run / "planned.json").stat()
    mend(spec, run)
    assert Plan.of(run) == plan
    assert (run / "planned.json").stat().st_size == mark.st_size


def test_a_plan_that_is_lost_does_not_hide_other_settings_or_other_input(tmp_path):
    spec, _, run = planned(tmp_path)
    (run / "plan.json").unlink()
    with pytest.raises(EmgenError, match=r"restore\.seed was 0, now 5"):
        refuse_other_settings(
            resolve(config(Volume.open(spec.measured.path), restore={"seed": 5})), run
        )
    shutil.rmtree(spec.measured.path)
    other = np.random.default_rng(1).integers(40, 200, (5, 20, 22)).astype(np.uint8)
    spec = resolve(config(measured(tmp_path, other)))
    with pytest.raises(EmgenError, match="its checksum of sampled voxels was"):
        refuse_other_settings(spec, run)
    with pytest.raises(EmgenError, match=r"its checksum of sampled voxels was .*overwritten"):
        create_output(make(spec), spec, run / "restored.ome.zarr")


@pytest.mark.parametrize("samples", [1, 2])
def test_an_output_that_is_lost_is_written_again_as_a_whole(tmp_path, samples):
    spec, plan, run = planned(tmp_path, restore={"samples": samples})
    marks = ("stitch/0.json", "pyramid/1.json", "restored.json")
    for name in marks:
        (run / name).parent.mkdir(exist_ok=True)
        (run / name).write_text("{}")
    lost = run / ("restored.ome.zarr" if samples == 1 else "uncertainty.ome.zarr")
    shutil.rmtree(lost)
    refuse_other_settings(spec, run)
    mend(spec, run)
    assert not any((run / name).exists() for name in marks)
    assert Volume.open(lost).shape == plan.shape and (run / "planned.json").exists()


def test_a_run_that_was_never_planned_is_left_to_the_rule(tmp_path):
    spec, run = resolve(config(measured(tmp_path))), tmp_path / "results"
    mend(spec, run)
    assert not run.exists()
    run.mkdir()
    (run / "plan.json").write_text("{")
    (run / "planned.json").write_text("{}")
    refuse_other_settings(spec, run)
    mend(spec, run)
    assert not (run / "planned.json").exists()


def test_a_start_stopped_at_any_file_is_gone_on_with(tmp_path):
    spec, plan, run = planned(tmp_path, restore={"samples": 2})
    for gone in (["planned.json"], ["plan.json"], ["uncertainty.ome.zarr"], ["restored.ome.zarr"]):
        for name in gone:
            path = run / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            refuse_other_settings(spec, run)
            mend(spec, run)
            assert Plan.of(run) == plan and (run / "planned.json").exists()
            assert {path.name for path in run.iterdir()} == {
                *("plan.json", "planned.json", "restored.ome.zarr", "uncertainty.ome.zarr")
            }


def test_another_division_into_jobs_is_in_the_plan_before_any_job_starts(tmp_path):
    spec, plan, run = planned(tmp_path)
    other = resolve(config(spec.measured, grid={"blocks_per_job": 2}, qc={"tiles": 9}))
    refuse_other_settings(other, run)
    mend(other, run)
    assert Plan.of(run).grid.jobs == other.grid.jobs != plan.grid.jobs
    assert Plan.of(run).key == plan.key and Plan.of(run).config.qc == Qc()


def test_an_output_of_another_run_under_this_name_is_not_filled(tmp_path):
    spec, plan, run = planned(tmp_path)
    other = dataclasses.replace(plan, key="other", settings={**plan.settings, "prior": "none"})
    other.write(run / "plan.json")
    with pytest.raises(EmgenError, match=r"was not made from .*plan\.json: prior was"):
        refuse_other_settings(spec, run)


CHANGES = {
    "grown": (
        lambda v: np.concatenate([v, v]),
        THICK,
        r"its shape was \(5, 20, 22\), now \(10, 20",
    ),
    "voxels": (lambda v: v + np.uint8(1), THICK, "its checksum of sampled voxels was"),
    "type": (lambda v: v.astype(np.uint16), THICK, r"its type was \|u1, now <u2"),
    "voxel size": (lambda v: v, VoxelSize(24, 8.001, 8.001), "its voxel size was 24"),
}


@pytest.mark.parametrize(("change", "voxel", "words"), CHANGES.values(), ids=CHANGES)
def test_input_that_changed_is_refused_at_the_start_and_in_a_job(tmp_path, change, voxel, words):
    spec, plan, run = planned(tmp_path, restore={"factor": 3})
    voxels = spec.measured.read(Box.whole(spec.measured.shape))
    refuse_other_settings(spec, run)
    assert unchanged(plan, spec.measured) is spec.measured
    shutil.rmtree(spec.measured.path)
    now = measured(tmp_path, change(voxels), voxel)
    with pytest.raises(EmgenError, match=words):
        unchanged(plan, now)
    again = resolve(config(now, restore={"factor": 3}))
    with pytest.raises(EmgenError, match=words):
        refuse_other_settings(again, run)
    (run / "plan.json").unlink()
    with pytest.raises(EmgenError, match=words):
        refuse_other_settings(again, run)
