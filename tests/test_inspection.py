"""What is found in an input before anything is restored: faults that are planted, and nothing where there are none."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from runs import ROOT, settings
from runs import snakemake as run_workflow
from synthetic import volume

from emgen.arrays import Array
from emgen.cli.main import main
from emgen.config.restore import Restore
from emgen.config.run import parse
from emgen.errors import EmgenError
from emgen.geometry import Box, VoxelSize
from emgen.run.inspection import asked, columns, findings, inspect, refuse
from emgen.run.inspection.finding import Finding, accepted, listed
from emgen.run.inspection.look import Look
from emgen.volumes.volume import Volume

sys.path.insert(0, str(ROOT / "benchmarks"))
from faults import FAULTS, Case

VOXEL = (32.0, 8.0, 8.0)


@pytest.fixture(scope="module")
def whole() -> np.ndarray:
    """The demo's FIB-SEM crop, (96, 160, 160)."""
    volume = Volume.open(ROOT / "demo/reference.ome.zarr")
    return volume.read(Box.whole(volume.shape))


@pytest.fixture(scope="module")
def stack(whole) -> np.ndarray:
    """Every fourth section of it."""
    return whole[::4]


def look(case: Case) -> Look:
    voxel = VoxelSize(*case.voxel)
    mode = "isotropic" if voxel.anisotropy > 1.5 else "denoise"
    return Look.at(Array(case.voxels, voxel=voxel), Restore(**({"mode": mode} | case.settings)))


def found(case: Case) -> dict[str, Finding]:
    return {finding.what: finding for finding in findings(look(case))}


def test_nothing_is_found_in_sound_tissue(stack):
    assert found(Case(stack, VOXEL)) == {}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_found(whole, name):
    plant, codes = FAULTS[name]
    # a gap shows where neighbours are alike; some faults need sections that are far apart
    for every in (1,) if "neighbours missing" in name else (4, 8):
        sound = Case(whole[::every].copy(), (8.0 * every, 8.0, 8.0))
        case = plant(sound, np.random.default_rng(1))
        if case is not None:
            break
    assert {*found(case)} & {*codes}


@pytest.mark.parametrize(
    ("plant", "code", "sections"),
    [
        (lambda v: v.__setitem__(9, v[8]), "copied-sections", [9]),
        (lambda v: v.__setitem__([7, 8], v[[8, 7]]), "swapped-sections", [7, 8]),
        (lambda v: v.__setitem__(slice(5, 7), 0), "blank-sections", [5, 6]),
        (lambda v: v.__setitem__(slice(0, 2), 0), "blank-sections", [0, 1]),
        (lambda v: v.__setitem__(12, v[12] // 4 + 90), "contrast-jumps", [12, 13]),
    ],
)
def test_a_finding_says_which_sections(stack, plant, code, sections):
    voxels = stack.copy()
    plant(voxels)
    assert found(Case(voxels, VOXEL))[code].sections == sections


@pytest.mark.parametrize("blank", [[0, 1], [5], [11, 12, 23], [3, 4, 12]])
def test_blank_sections_say_nothing_of_the_voxel_size(stack, blank):
    voxels = stack[:24, :96, :96].copy()
    voxels[blank] = 0
    assert {*found(Case(voxels, VOXEL))} == {"blank-sections"}


def test_what_is_said_to_be_lost_is_not_found(stack):
    voxels = stack.copy()
    voxels[9] = np.random.default_rng(0).normal(3, 1, voxels[9].shape).clip(0, 255)
    array = Array(voxels, voxel=VoxelSize(*VOXEL))
    assert [f.what for f in findings(Look.at(array, Restore()))] == ["faint-sections"]
    assert findings(Look.at(array, Restore(), lost=(9,))) == []


def test_other_grey_values_change_no_finding(stack):
    voxels = stack.astype(np.uint16) * 200 + 1000
    voxels[9] = voxels[8]
    assert {*found(Case(voxels, VOXEL))} == {"copied-sections"}
    assert {*found(Case((voxels / 65535).astype(np.float32), VOXEL))} == {"copied-sections"}


@pytest.mark.parametrize("chunk", [None, (1, 300, 300), (16, 64, 64), (40, 40, 40), (7, 300, 11)])
@pytest.mark.parametrize("shape", [(1, 20, 30), (9, 159, 300), (70, 161, 300)])
def test_columns_lie_in_the_volume_and_hold_its_voxels(shape, chunk):
    voxels = np.arange(np.prod(shape), dtype=np.uint32).reshape(shape)
    where = columns.layout(shape, chunk, 4)
    h, w = where.side
    read = np.stack(list(columns.read(Array(voxels), where)))
    assert where.sections.tolist() == list(range(shape[0]))
    for number, (y, x) in enumerate(where.places):
        assert (read[:, number] == voxels[:, y : y + h, x : x + w]).all()


@pytest.mark.parametrize("chunk", [(1, 20000, 20000), (64, 64, 64), (128, 1024, 1024), None])
def test_what_is_decoded_has_a_bound(chunk):
    where = columns.layout((100_000, 20_000, 20_000), chunk, 2)
    assert len(where.sections) <= max(columns.MOST_SECTIONS, 4 * columns.RUN)
    assert where.sections[0] == 0
    assert where.sections[-1] == 99_999
    assert (np.diff(where.runs, axis=1) >= columns.RUN).all()


def test_runs_of_a_long_volume_are_compared_within_themselves(stack, monkeypatch):
    monkeypatch.setattr(columns, "MOST_SECTIONS", 8)
    monkeypatch.setattr(columns, "RUN", 4)
    voxels = np.concatenate([stack] * 2)
    traces = look(Case(voxels, VOXEL)).traces
    assert len(traces.numbers) < len(voxels)
    breaks = np.append(np.diff(traces.numbers) > 1, True)
    assert np.isnan(traces.similarity[1][breaks]).all()
    assert np.isfinite(traces.similarity[1][~breaks]).all()


def test_a_refusal_that_is_accepted_warns():
    refusal = Finding(what="no-tissue", severity="refuse", sentence="", evidence="", what_to_do="")
    note = refusal.model_copy(update={"what": "saturated", "severity": "note"})
    assert [f.severity for f in accepted([note, refusal], [])] == ["refuse", "note"]
    assert [f.severity for f in accepted([note, refusal], ["no-tissue"])] == ["warn", "note"]


@pytest.mark.parametrize(
    ("size", "word"), [(2.0, "finer"), (8.0, None), (20.0, None), (60.0, "coarser")]
)
def test_pixels_unlike_what_the_networks_learnt_are_noted(stack, size, word):
    finding = found(Case(stack, (4 * size, size, size))).get("pixel-size-unlike-training")
    assert (finding is None) == (word is None)
    assert word is None or word in finding.sentence


def test_sections_are_listed_as_runs():
    assert listed([1, 2]) == "sections 1, 2"
    assert listed(list(range(0, 40, 2)), most=2) == "sections 0, 2 and 18 more"


def noise(folder: Path, **more) -> Path:
    grey = np.random.default_rng(0).normal(120, 30, (12, 48, 48)).clip(0, 255)
    return Path(volume(folder / "noise.ome.zarr", grey.astype(np.uint8), VoxelSize(*VOXEL)))


def test_white_noise_is_refused_and_may_be_accepted(tmp_path):
    config = parse(settings(noise(tmp_path)))
    with pytest.raises(EmgenError, match=r"There is no tissue.*accept"):
        refuse(inspect(Volume.open(config.input.volume), config))
    yes = parse(settings(noise(tmp_path / "b"), input={"accept": ["no-tissue"]}))
    refuse(inspect(Volume.open(yes.input.volume), yes))
    assert asked(yes) != asked(config)


def test_accepting_changes_no_voxel(tmp_path):
    from emgen.run.resolve import resolve

    path = noise(tmp_path)
    one, other = (
        resolve(parse(settings(path, input=given))) for given in ({}, {"accept": ["no-tissue"]})
    )
    assert one.settings == other.settings


def test_the_command_prints_findings(tmp_path, capsys):
    path = str(noise(tmp_path))
    assert main(["inspect", path]) == 2
    assert "refuse: There is no tissue" in capsys.readouterr().out
    assert main(["inspect", path, "--json"]) == 2
    facts = json.loads(capsys.readouterr().out)
    assert facts["findings"][0]["what"] == "no-tissue"
    assert main(["inspect", str(ROOT / "demo/measured.ome.zarr")]) == 0
    assert "Nothing was found" in capsys.readouterr().out
    assert main(["inspect", str(ROOT / "demo/measured.ome.zarr"), "--voxel-size", "8,8,48"]) == 2
    assert "axes are swapped" in capsys.readouterr().out


def test_a_run_of_refused_input_ends_before_anything_is_done(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(settings(noise(tmp_path))))
    assert main(["run", "my.yaml"]) == 2
    assert "There is no tissue" in capsys.readouterr().err
    assert not (tmp_path / "results").exists()


@pytest.mark.slow
def test_the_workflow_stops_at_refused_input(tmp_path):
    done = run_workflow(tmp_path, settings(noise(tmp_path)))
    assert done.returncode == 1
    assert "There is no tissue" in done.stderr
    assert not list((tmp_path / "results/small").glob("blocks/*"))
