"""What was damaged is found at the next start and made again, and nothing else; the outputs are bit for bit the same."""

import json
import os
import shutil

import numpy as np
import pytest
import simulated

from emgen.cli import main
from emgen.errors import EmgenError
from emgen.run.head import leading
from emgen.run.mend import damage
from emgen.run.provenance import checksums
from emgen.run.resolve import resolve
from emgen.run.verify import put_right
from emgen.volumes.volume import Volume
from emgen.volumes.write_units import WriteUnits


def flip(text: bytes) -> bytes:
    """With one bit of its first byte the other way round."""
    return bytes([text[0] ^ 1]) + text[1:]


KINDS = {
    "torn": lambda text: text[: len(text) // 2],
    "empty": lambda text: b"",
    "flipped": lambda text: text[: len(text) // 2] + flip(text[len(text) // 2 :]),
    "garbage": lambda text: b"\xff{\0" * 50,
    "deleted": lambda text: None,
}


@pytest.fixture(
    scope="module", params=["0.5", pytest.param("0.4, two samples", marks=pytest.mark.slow)]
)
def finished(request, tmp_path_factory):
    """A run that ended well."""
    folder = tmp_path_factory.mktemp("run")
    old = {
        "output": {"ngff": "0.4", "chunk": [16, 16, 16]},
        "restore": {"samples": 2, "steps": 1},
    }
    spec = simulated.spec(folder, **(old if "0.4" in request.param else {}))
    run = simulated.Run(spec, folder / "small")
    run.start()
    assert run.restored and not run.said
    return run


@pytest.fixture
def copy(finished, tmp_path):
    """A copy of it that may be damaged."""
    shutil.copytree(finished.folder, tmp_path / "small")
    return simulated.Run(finished.spec, tmp_path / "small")


def spoil(path, kind, quietly=False):
    """Damage a file; quietly, so that its time stays what it was."""
    status, text = path.stat(), KINDS[kind](path.read_bytes())
    path.unlink()
    if text is not None:
        path.write_bytes(text)
        if quietly:
            os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def unit_file(run, level, number, field="mean"):
    return WriteUnits(Volume.open(run.results.volume(field), level)).file(number)


def mended(run, finished, restored=(), written=(), said=True) -> None:
    """The next start makes these again and nothing else; afterwards everything is as it was, and nothing is to do."""
    run.start()
    assert sorted(run.restored) == sorted(restored)
    assert {level: n for level, n in run.written.items() if n} == dict(written)
    assert bool(run.said) == said
    assert run.contents() == finished.contents()
    for name in ("blocks/1.json", "stitch/2.json", "pyramid/1.json", "restored.json"):
        assert json.loads((run.folder / name).read_text())["key"] == run.results.plan.key
    again = simulated.Run(run.spec, run.folder)
    again.start()
    assert (again.restored, again.written, again.said) == ([], {}, [])


def test_a_run_that_is_sound_is_left_alone(copy, finished):
    mended(copy, finished, said=False)


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_block_is_restored_again(copy, finished, kind):
    for path in copy.results.blocks.files(5).values():
        spoil(path, kind)
    mended(copy, finished, restored=[5])
    for name, path in copy.results.blocks.files(5).items():
        assert path.read_bytes() == finished.results.blocks.files(5)[name].read_bytes()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("level", "number"), [(0, 0), (0, 39), (1, 3), (2, 4)])
def test_a_damaged_write_unit_is_written_again(copy, finished, kind, level, number):
    field = copy.results.fields[-1]
    spoil(unit_file(copy, level, number, field), kind)
    # a block's core is two write units of this grid, and is written as one
    mended(copy, finished, written={level: 2 if level == 0 else 1})


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_metadata_are_written_again(copy, finished, kind):
    volume = copy.results.volume(copy.results.fields[-1])
    files = [path for path in volume.rglob("*") if path.name.startswith((".z", "zarr.json"))]
    assert len(files) >= 4
    for path in files:
        spoil(path, kind)
    mended(copy, finished)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_metadata_of_blocks_are_written_again(copy, finished, kind):
    store = copy.results.blocks.existing()[0]
    for path in store.rglob("zarr.json"):
        spoil(path, kind)
    spoil(copy.results.blocks.files(7)["mean"], "torn")
    mended(copy, finished, restored=[7])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["blocks/1", "stitch/2", "pyramid/1", "pyramid/2", "restored"])
def test_a_damaged_fact_is_written_again_and_nothing_is_computed(copy, finished, kind, name):
    if kind == "flipped":
        kind = "garbage"
    spoil(copy.folder / f"{name}.json", kind)
    mended(copy, finished, said=kind != "deleted")


@pytest.mark.parametrize("kind", ["torn", "empty", "garbage"])
@pytest.mark.parametrize(
    ("name", "gone"),
    [
        ("qc/fsc.json", {"qc/fsc.json", "qc/summary.json"}),
        ("qc/fsc.npz", {"qc/fsc.npz", "qc/summary.json"}),
        ("qc/summary.json", {"qc/summary.json"}),
        (
            "provenance/ro-crate-metadata.json",
            {"provenance/ro-crate-metadata.json", "provenance/run.json"},
        ),
        ("ro-crate-metadata.json", {"ro-crate-metadata.json"}),
        ("report.html", {"report.html"}),
    ],
)
def test_a_damaged_figure_goes_with_what_was_asked_for_and_is_made_of_it(copy, kind, name, gone):
    names = {"qc/fsc.json", "qc/seams.json", "qc/summary.json", "provenance/run.json"}
    names |= {"provenance/ro-crate-metadata.json", "ro-crate-metadata.json"}
    files = {*names, "qc/fsc.npz", "report.html"}
    for each in files:
        (copy.folder / each).parent.mkdir(exist_ok=True)
        (copy.folder / each).write_text("{}" if each in names else "<html></html>")
    np.savez_compressed(copy.folder / "qc/fsc.npz", a=np.ones(9))
    spoil(copy.folder / name, kind)
    assert put_right(copy.results) == [f"{copy.folder / name} is damaged"]
    assert {each for each in files if not (copy.folder / each).exists()} == gone


@pytest.mark.parametrize("kind", KINDS)
def test_what_a_damaged_ledger_does_not_say_is_made_again(copy, finished, kind):
    path = copy.folder / "ledger/blocks/4-7.jsonl"
    before = copy.results.ledgers.blocks.read(range(4, 8))
    spoil(path, kind)
    after = copy.results.ledgers.blocks.read(range(4, 8))
    lost = {unit for unit in before if unit not in after}
    # the end of a line belongs to two lines
    assert 1 <= len(lost) <= {"torn": 3, "flipped": 2}.get(kind, 4)
    mended(copy, finished, restored=lost, said=False)


@pytest.mark.parametrize("kind", ["torn", "deleted"])
@pytest.mark.parametrize("level", [0, 1])
def test_what_a_damaged_ledger_of_a_level_does_not_say_is_written_again(
    copy, finished, kind, level
):
    name = copy.results.volume("mean").name
    path = next((copy.folder / "ledger" / name / str(level)).glob("*.jsonl"))
    spoil(path, kind)
    copy.start()
    assert not copy.restored and copy.written[level] > 0
    assert copy.contents() == finished.contents()


def test_damage_of_several_kinds_at_once(copy, finished):
    spoil(copy.results.blocks.files(0)["mean"], "torn")
    spoil(copy.results.blocks.files(11)["mean"], "deleted")
    spoil(unit_file(copy, 0, 7), "flipped")
    spoil(unit_file(copy, 1, 0), "empty")
    spoil(copy.folder / "restored.json", "torn")
    spoil(copy.results.volume("mean") / "1" / unit_metadata(copy), "torn")
    mended(copy, finished, restored=[0, 11], written={0: 2, 1: 1})


def unit_metadata(run):
    return "zarr.json" if (run.results.volume("mean") / "zarr.json").exists() else ".zarray"


def test_files_that_were_copied_without_their_times_are_read_once_and_kept(copy, finished):
    for path in copy.folder.rglob("*"):
        if path.is_file():
            os.utime(path)
    mended(copy, finished, said=False)


def test_blocks_that_were_removed_after_stitching_are_not_missed(copy, finished):
    shutil.rmtree(copy.folder / "blocks")
    copy.start()
    facts = {path.name for path in (copy.folder / "blocks").glob("*")}
    assert copy.contents() == finished.contents() and copy.said == []
    # the simulated workflow asks for every job's facts, as a start of all rules would
    assert facts == {"0-999.zarr", "0.json", "1.json", "2.json", "3.json", "4.json"}


def test_another_division_into_jobs_makes_nothing_again(copy, finished):
    config = copy.spec.config
    grid = config.grid.model_copy(update={"blocks_per_job": 7})
    run = simulated.Run(resolve(config.model_copy(update={"grid": grid})), copy.folder)
    run.start()
    assert (run.restored, run.said) == ([], []) and run.contents() == finished.contents()
    assert not any(run.written.values())
    facts = json.loads((run.folder / "blocks/1.json").read_text())
    assert (facts["first"], facts["stop"], facts["found"]) == (7, 14, 7)


def test_a_dry_start_says_what_is_damaged_and_touches_nothing(copy):
    spoil(unit_file(copy, 0, 7), "flipped")
    before = {path: path.stat().st_mtime_ns for path in copy.folder.rglob("*")}
    assert ["holds other bytes" in line for line in damage(copy.spec, copy.folder)] == [True]
    assert before == {path: path.stat().st_mtime_ns for path in copy.folder.rglob("*")}


def test_verify_finds_what_rotted_without_a_word(copy, finished, capsys):
    assert main.main(["verify", str(copy.folder)]) == 0
    assert "is sound" in capsys.readouterr().out
    block, unit = copy.results.blocks.files(5)["mean"], unit_file(copy, 1, 3)
    for path in (block, unit):
        spoil(path, "flipped", quietly=True)
    assert damage(copy.spec, copy.folder) == []
    assert main.main(["verify", str(copy.folder)]) == 1
    said = capsys.readouterr().out
    assert f"{block} holds other bytes" in said and f"{unit} holds other bytes" in said
    assert "19 of 20 done and sound, 1 damaged" in said
    assert main.main(["verify", str(copy.folder)]) == 1
    mended(copy, finished, restored=[5], written={1: 1})
    assert main.main(["verify", str(copy.folder)]) == 0


def test_the_digest_of_an_output_tells_whether_a_voxel_is_another(copy, finished):
    before = checksums(finished.results)
    assert list(before) == [path.name for path in copy.results.volumes]
    assert checksums(copy.results) == before
    units = WriteUnits(Volume.open(copy.results.volume("mean"), mode="r+"))
    box = units.box(3)
    voxels = units.volume.read(box)
    voxels[0, 0, 0] ^= 1
    book = copy.results.ledgers.level(units.volume.path, 0).open(units)
    book.add(*units.write(box, voxels, None))
    assert checksums(copy.results)["restored.ome.zarr"] != before["restored.ome.zarr"]


def test_a_run_at_work_is_not_verified(copy, capsys):
    with leading(copy.folder):
        assert main.main(["verify", str(copy.folder)]) == 2
    assert "damaged" not in capsys.readouterr().out


def test_verify_needs_a_run(tmp_path, capsys):
    assert main.main(["verify", str(tmp_path)]) == 2
    assert "there is no plan" in capsys.readouterr().err


def test_a_block_that_rots_before_it_is_stitched_is_never_stitched(finished, tmp_path):
    run = simulated.Run(finished.spec, tmp_path / "small")
    stitch = run._stitch

    def rot(plan, number, again):
        if number == 2:
            spoil(run.results.blocks.files(9)["mean"], "flipped", quietly=True)
        return stitch(plan, number, again)

    run._stitch = rot
    with pytest.raises(EmgenError, match="other bytes than were written; start again: block 9 is"):
        run.start()
    run._stitch = stitch
    run.restored.clear()
    run.start()
    assert run.restored == [9] and len(run.said) == 1
    assert run.contents() == finished.contents()
