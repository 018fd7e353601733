"""From a source to an OME-Zarr: exact voxels, bounded memory, whole or not there at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import tifffile
import yaozarrs
from hypothesis import given
from hypothesis import strategies as st
from ome_zarr_models import open_ome_zarr
from PIL import Image

from emgen.errors import EmgenError
from emgen.geometry import Box, VoxelSize
from emgen.volumes import importers
from emgen.volumes.importers import convert, import_volume, stored_dtype
from emgen.volumes.sources import Allowed, ForeignVolume, open_foreign
from emgen.volumes.volume import Ngff, Volume

Array = npt.NDArray[Any]
VOXEL = VoxelSize(40, 4, 4)
SHAPE = (37, 70, 45)
SMALL: dict[str, Any] = {"voxel": VOXEL, "chunk": (8, 16, 16), "shard": (16, 32, 32)}


def voxels(dtype: npt.DTypeLike = "uint8", shape: tuple[int, ...] = SHAPE) -> Array:
    return np.random.default_rng(0).integers(0, 200, shape).astype(dtype)


@pytest.fixture
def stack(tmp_path: Path) -> Path:
    """A TIFF stack without a voxel size."""
    tifffile.imwrite(tmp_path / "a.tif", voxels())
    return tmp_path / "a.tif"


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Where the OME-Zarr goes: a folder with nothing else in it."""
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "a.ome.zarr"


def all_of(volume: Volume) -> Array:
    return volume.read(Box.whole(volume.shape))


def nothing_left(target: Path) -> bool:
    return list(target.parent.iterdir()) == []


# ---- the result


@pytest.mark.parametrize("ngff", ["0.5", "0.4"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_voxels_and_voxel_size_arrive_exactly(
    tmp_path: Path, target: Path, ngff: Ngff, dtype: str
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", voxels(dtype))
    volume = import_volume(str(tmp_path / "a.tif"), target, ngff=ngff, **SMALL)
    assert (volume.dtype, volume.voxel, volume.shape) == (np.dtype(dtype), VOXEL, SHAPE)
    np.testing.assert_array_equal(all_of(volume), voxels(dtype))
    assert [path.name for path in target.parent.iterdir()] == [target.name]


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 200, 3), (130, 5, 6), (16, 32, 32), (17, 33, 31)])
def test_odd_shapes(tmp_path: Path, target: Path, shape: tuple[int, int, int]) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = voxels(shape=shape)
    volume = import_volume(str(tmp_path / "a.h5"), target, **SMALL)
    np.testing.assert_array_equal(all_of(volume), voxels(shape=shape))


@pytest.mark.parametrize("ngff", ["0.5", "0.4"])
@pytest.mark.parametrize("label", [False, True])
def test_the_result_is_valid_ome_zarr_with_levels(
    tmp_path: Path, target: Path, ngff: Ngff, label: bool
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", voxels(shape=(5, 300, 200)))
    volume = import_volume(str(tmp_path / "a.tif"), target, ngff=ngff, voxel=VOXEL, label=label)
    yaozarrs.validate_zarr_store(str(target))
    assert open_ome_zarr(str(target)) is not None
    # object numbers are not averaged
    assert len(volume.levels) == (1 if label else 3)
    if not label:
        coarse = Volume.open(target, level=1)
        assert coarse.voxel == VoxelSize(40, 8, 8)
        mean = voxels(shape=(5, 300, 200)).reshape(5, 150, 2, 100, 2).mean((2, 4))
        np.testing.assert_allclose(all_of(coarse), mean, atol=0.5)


def test_a_single_image_becomes_a_single_section(tmp_path: Path, target: Path) -> None:
    Image.fromarray(voxels()[0]).save(tmp_path / "a.png")
    volume = import_volume(str(tmp_path / "a.png"), target, **SMALL)
    np.testing.assert_array_equal(all_of(volume), voxels()[:1])


def test_the_display_window_covers_the_grey_values_in_use(tmp_path: Path, target: Path) -> None:
    data = np.random.default_rng(0).integers(90, 160, SHAPE).astype(np.uint16)
    data[0, 0, :3] = 60000
    tifffile.imwrite(tmp_path / "a.tif", data)
    import_volume(str(tmp_path / "a.tif"), target, **SMALL)
    window = json.loads((target / "zarr.json").read_text())["attributes"]["ome"]["omero"][
        "channels"
    ][0]["window"]
    assert (window["min"], window["max"]) == (0, 65535)
    assert 90 <= window["start"] <= 92 and 157 <= window["end"] <= 160


@pytest.mark.parametrize("value", [0, np.nan])
def test_constant_and_empty_volumes_have_a_window_too(
    tmp_path: Path, target: Path, value: float
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.full((5, 8, 9), value, np.float32))
    volume = import_volume(str(tmp_path / "a.tif"), target, **SMALL)
    np.testing.assert_array_equal(all_of(volume), value)


def test_a_voxel_offset_becomes_the_origin(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = ForeignVolume(
        "a",
        (2, 3, 4),
        np.dtype("uint8"),
        VOXEL,
        lambda box: np.zeros(box.shape, "uint8"),
        offset=(1, 2, 3),
    )
    monkeypatch.setattr("emgen.volumes.sources._open", lambda *_: source)
    assert import_volume("a", target).translation == (40, 8, 12)


# ---- voxel size


def test_an_unknown_voxel_size_is_not_guessed(stack: Path, target: Path) -> None:
    with pytest.raises(
        EmgenError, match="does not guess: give the size in nm, for example --voxel-size 40,4,4"
    ):
        import_volume(str(stack), target)
    assert nothing_left(target)


def test_the_given_voxel_size_wins_and_says_so(tmp_path: Path, target: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = voxels()
        file["raw"].attrs["resolution"] = (30.0, 4.0, 4.0)
    said: list[str] = []
    assert import_volume(str(tmp_path / "a.h5"), target, say=said.append, **SMALL).voxel == VOXEL
    assert (
        said[0] == "the file says its voxels are 30 x 4 x 4 nm (z, y, x); "
        "--voxel-size wins: 40 x 4 x 4 nm (z, y, x)"
    )


def test_the_voxel_size_of_the_file_is_used_without_words(tmp_path: Path, target: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = voxels(shape=(3, 8, 9))
        file["raw"].attrs["resolution"] = (40.0, 4.0, 4.0)
    said: list[str] = []
    assert import_volume(str(tmp_path / "a.h5"), target, say=said.append).voxel == VOXEL
    assert said == []


# ---- dtypes


@pytest.mark.parametrize(
    ("found", "image", "label"),
    [
        ("uint8", "uint8", "uint8"),
        ("int8", "int16", "uint8"),
        (">u2", "uint16", "uint16"),
        ("int16", "int16", "uint16"),
        ("uint32", "uint32", "uint32"),
        ("int32", "int32", "uint32"),
        ("int64", "int32", "uint64"),
        ("uint64", "uint32", "uint64"),
        ("float16", "float32", None),
        (">f4", "float32", None),
        ("float64", "float32", None),
        ("bool", None, None),
        ("complex64", None, None),
    ],
)
def test_stored_types(found: str, image: str | None, label: str | None) -> None:
    for expected, is_label in ((image, False), (label, True)):
        if expected is None:
            with pytest.raises(EmgenError, match=r"expected one integer or real|must be integers"):
                stored_dtype(np.dtype(found), is_label)
        else:
            assert stored_dtype(np.dtype(found), is_label) == np.dtype(expected)


@given(
    st.lists(st.integers(-(2**63), 2**64 - 1), min_size=1),
    st.sampled_from(["int8", "int32", "int64", "uint64"]),
)
def test_integers_arrive_exactly_or_not_at_all(values: list[int], found: str) -> None:
    limits = np.iinfo(found)
    stored = np.array([v for v in values if limits.min <= v <= limits.max] or [0], found)
    target = stored_dtype(np.dtype(found), label=False)
    fits = all(np.iinfo(target).min <= int(v) <= np.iinfo(target).max for v in stored)
    if fits:
        assert [int(v) for v in convert(stored, target)] == [int(v) for v in stored]
    else:
        with pytest.raises(EmgenError, match="do not fit"):
            convert(stored, target)


def test_negative_labels_and_too_large_floats_are_refused_and_placed(
    tmp_path: Path, target: Path
) -> None:
    data = voxels("int16")
    data[20, 0, 0] = -1
    tifffile.imwrite(tmp_path / "a.tif", data)
    with pytest.raises(
        EmgenError, match=r"a\.tif, sections 16 to 31: values from -1 to 199 do not fit into uint16"
    ):
        import_volume(str(tmp_path / "a.tif"), target, label=True, **SMALL)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = data * 1e300
    with pytest.raises(EmgenError, match="do not fit into float32"):
        import_volume(str(tmp_path / "a.h5"), target, **SMALL)
    assert nothing_left(target)


def test_a_change_of_type_is_said(tmp_path: Path, target: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = voxels("float64") / 7
    said: list[str] = []
    volume = import_volume(str(tmp_path / "a.h5"), target, say=said.append, **SMALL)
    assert said == ["float64 voxels become float32"]
    np.testing.assert_array_equal(all_of(volume), (voxels("float64") / 7).astype(np.float32))


# ---- memory


class Meter:
    """Wraps a source and keeps the largest and the total number of voxels read."""

    def __init__(self, source: ForeignVolume) -> None:
        self.inner, self.boxes = source, list[Box]()

    def __call__(self, box: Box) -> Array:
        self.boxes.append(box)
        return self.inner.fetch(box)


@pytest.mark.parametrize("whole_sections", [False, True])
@pytest.mark.parametrize("memory", [1, 40_000, 10**9])
def test_no_more_than_the_memory_or_one_row_of_shards_is_read_at_once(
    target: Path, monkeypatch: pytest.MonkeyPatch, whole_sections: bool, memory: int
) -> None:
    data = voxels(shape=(37, 150, 45))
    inner = ForeignVolume("a", (37, 150, 45), data.dtype, VOXEL, lambda box: data[box.slices])
    meter = Meter(inner)
    source = ForeignVolume(
        "a", inner.shape, data.dtype, VOXEL, meter, whole_sections=whole_sections
    )
    monkeypatch.setattr("emgen.volumes.sources._open", lambda *_: source)
    monkeypatch.setattr(importers, "_window", lambda *_: (0, 0, 255, 255))
    volume = import_volume("a", target, memory=memory, **SMALL)
    np.testing.assert_array_equal(all_of(volume), data)
    row_of_shards = 16 * 32 * 45
    assert max(box.size for box in meter.boxes) <= max(memory, row_of_shards)
    # each voxel once: sections that can only be read whole are unpacked, not decoded again
    assert sum(box.size for box in meter.boxes) == data.size
    if whole_sections:
        # a box of such a source is either one whole section, or a slab of whole ones
        assert all(box.shape[1:] == (150, 45) for box in meter.boxes)


def test_progress_ends_at_all_voxels(stack: Path, target: Path) -> None:
    seen: list[tuple[int, int]] = []
    import_volume(
        str(stack),
        target,
        memory=1,
        progress=lambda done, total: seen.append((done, total)),
        **SMALL,
    )
    assert [done for done, _ in seen] == sorted({done for done, _ in seen})
    assert seen[-1] == (voxels().size, voxels().size)


def test_the_window_is_taken_from_few_voxels(target: Path) -> None:
    boxes: list[Box] = []

    def fetch(box: Box) -> Array:
        boxes.append(box)
        return np.broadcast_to(np.uint8(7), box.shape)

    huge = ForeignVolume("a", (50_000, 100_000, 3000), np.dtype("uint8"), VOXEL, fetch)
    importers._window(huge, np.dtype("uint8"))
    assert sum(box.size for box in boxes) <= 5 * 1024 * 3000


# ---- whole or not at all


def test_an_existing_target_stays_as_it_was(stack: Path, target: Path) -> None:
    target.mkdir()
    (target / "mine").write_text("precious")
    with pytest.raises(EmgenError, match="exists already; emgen never overwrites"):
        import_volume(str(stack), target, **SMALL)
    assert (target / "mine").read_text() == "precious" and [
        p.name for p in target.parent.iterdir()
    ] == [target.name]


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit, EmgenError, RuntimeError])
def test_an_interrupted_import_leaves_nothing(
    stack: Path, target: Path, interrupt: type[BaseException]
) -> None:
    def stop(done: int, total: int) -> None:
        if done > total / 2:
            # level 0 is half there, under a hidden name only
            assert not target.exists() and [p.suffix for p in target.parent.iterdir()] == [
                ".partial"
            ]
            raise interrupt("stop")

    with pytest.raises(interrupt):
        import_volume(str(stack), target, progress=stop, **SMALL)
    assert nothing_left(target)


def test_a_full_disk_is_one_message_and_leaves_nothing(
    stack: Path, target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Volume, box: Box, data: Array) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Volume, "write", full)
    with pytest.raises(
        EmgenError, match=r"a\.ome\.zarr cannot be written: No space left on device"
    ):
        import_volume(str(stack), target, **SMALL)
    assert nothing_left(target)


def test_a_target_that_appears_meanwhile_is_not_replaced(stack: Path, target: Path) -> None:
    def other(done: int, total: int) -> None:
        target.mkdir(exist_ok=True)
        (target / "mine").write_text("precious")

    with pytest.raises(EmgenError, match="cannot be written"):
        import_volume(str(stack), target, progress=other, **SMALL)
    assert (target / "mine").read_text() == "precious"
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_damage_found_late_leaves_nothing(tmp_path: Path, target: Path) -> None:
    folder = tmp_path / "s"
    folder.mkdir()
    for k in range(20):
        Image.fromarray(voxels()[k]).save(folder / f"{k}.png")
    broken = (folder / "17.png").read_bytes()
    (folder / "17.png").write_bytes(broken[:200])
    with pytest.raises(EmgenError, match=r"17\.png cannot be read"):
        import_volume(str(folder), target, **SMALL)
    assert nothing_left(target)


def test_targets_and_layouts_that_make_no_sense_are_refused(stack: Path, target: Path) -> None:
    cases: list[tuple[Path, dict[str, Any], str]] = [
        (target.with_suffix(".tif"), {}, r"named like data\.ome\.zarr"),
        (target.parent / "missing" / "a.ome.zarr", {}, "does not exist; make it first"),
        (target, {"chunk": (64, 64, 64), "shard": (100, 128, 128)}, "whole multiples of chunk"),
        (target, {"chunk": (0, 64, 64)}, "at least 1"),
    ]
    for where, layout, message in cases:
        with pytest.raises(EmgenError, match=message):
            import_volume(str(stack), where, voxel=VOXEL, **layout)
    assert nothing_left(target)


@pytest.mark.parametrize("address", ["s3://bucket/a.ome.zarr", "gs://b/c/a.zarr", "https:/a.zarr"])
def test_an_address_as_target_is_refused_and_no_folder_of_its_name_made(
    stack: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(EmgenError, match="must be a folder on this machine, not the address"):
        import_volume(str(stack), Path(address), **SMALL)
    assert sorted(tmp_path.iterdir()) == before


def test_missing_chunks_and_voxels_that_are_no_numbers_are_said(
    tmp_path: Path, target: Path
) -> None:
    data = voxels("float32")
    data[3, 4, 5:8] = np.nan
    with h5py.File(tmp_path / "a.h5", "w") as file:
        stored = file.create_dataset("raw", SHAPE, "float32", chunks=(37, 70, 9))
        stored[..., 9:] = data[..., 9:]
        stored[3, 4, 9:12] = np.inf
        stored.attrs["offset"] = [400.0, 8.0, 4.0]
    said: list[str] = []
    allowed = Allowed(missing_chunks="blank")
    volume = import_volume(
        str(tmp_path / "a.h5"), target, say=said.append, allowed=allowed, **SMALL
    )
    assert said[0] == "1 of 5 chunks are not there; their voxels became 0"
    assert said[1] == "3 voxels (0.0026 %) are NaN or infinite; they are kept as they are"
    assert volume.translation == (400, 8, 4)


def test_a_size_that_no_microscope_gives_is_refused(tmp_path: Path, target: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = voxels()
        file["raw"].attrs["resolution"] = (0.04, 0.004, 0.004)
    with pytest.raises(EmgenError, match="give the size with --voxel-size"):
        import_volume(str(tmp_path / "a.h5"), target)
    assert import_volume(str(tmp_path / "a.h5"), target, **SMALL).voxel == VOXEL


def test_the_source_may_be_read_while_open_only(stack: Path) -> None:
    with open_foreign(str(stack)) as source:
        assert source.read(Box((0, 0, 0), (1, 2, 3))).shape == (1, 2, 3)
