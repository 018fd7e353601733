"""TIFF and folders of sections, written by other libraries: the same voxels, their size, clear refusals."""

from __future__ import annotations

import logging
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from foreign import VOXEL, Array, facts, folder_of, pages, refused, voxels
from PIL import Image

from emgen.geometry import Box
from emgen.volumes.sources import open_foreign
from emgen.volumes.sources.sections import natural

# ---- TIFF

TIFFS: dict[str, Callable[[Path, Array], object]] = {
    "contiguous": lambda path, data: tifffile.imwrite(path, data),
    "big-endian": lambda path, data: tifffile.imwrite(path, data, byteorder=">"),
    "big": lambda path, data: tifffile.imwrite(path, data, bigtiff=True),
    "pages": pages,
    "big pages": lambda path, data: pages(path, data, bigtiff=True),
    "compressed": lambda path, data: pages(path, data, compression="zlib", rowsperstrip=5),
    "tiled": lambda path, data: pages(path, data, tile=(16, 16)),
    "imagej": lambda path, data: tifffile.imwrite(
        path, data, imagej=True, metadata={"axes": "ZYX"}
    ),
    "ome": lambda path, data: tifffile.imwrite(path, data, ome=True, metadata={"axes": "ZYX"}),
}


def test_sections_that_lie_in_one_page_are_told_apart(tmp_path: Path) -> None:
    """Three sections look like colours to the program that wrote them."""
    data = voxels(shape=(3, 17, 23))
    options = {"photometric": "rgb", "planarconfig": "separate", "compression": "zlib"}
    tifffile.imwrite(tmp_path / "a.tif", data, metadata={"axes": "ZYX"}, **options)
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        assert len(file.pages) == 1
    np.testing.assert_array_equal(facts(tmp_path / "a.tif")[1], data)


@pytest.mark.parametrize("kind", TIFFS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_tiff_gives_its_voxels_bit_by_bit(tmp_path: Path, kind: str, dtype: str) -> None:
    TIFFS[kind](tmp_path / "a.tif", voxels(dtype))
    source, found = facts(tmp_path / "a.tif")
    assert source.dtype.newbyteorder("=") == dtype
    assert source.voxel is None
    np.testing.assert_array_equal(found, voxels(dtype))


@pytest.mark.parametrize("kind", TIFFS)
def test_any_box_of_a_tiff_is_the_same_box_of_its_voxels(tmp_path: Path, kind: str) -> None:
    TIFFS[kind](tmp_path / "a.tif", voxels("uint16"))
    box = Box((1, 3, 4), (4, 11, 23))
    with open_foreign(str(tmp_path / "a.tif")) as source:
        np.testing.assert_array_equal(source.read(box), voxels("uint16")[box.slices])


@pytest.mark.parametrize("unit", ["um", "micron", "\\u00B5m"])
def test_imagej_spacing_and_resolution_are_the_voxel_size(tmp_path: Path, unit: str) -> None:
    metadata = {"unit": unit, "spacing": 0.04, "axes": "ZYX"}
    resolution = (1 / 0.005, 1 / 0.004)  # pixels per unit along x, then y
    tifffile.imwrite(
        tmp_path / "a.tif", voxels(), imagej=True, resolution=resolution, metadata=metadata
    )
    voxel = facts(tmp_path / "a.tif")[0].voxel
    assert voxel is not None and tuple(voxel) == pytest.approx(tuple(VOXEL), rel=1e-6)


def test_imagej_without_spacing_or_with_a_unit_of_pixels_says_no_voxel_size(tmp_path: Path) -> None:
    cases: list[dict[str, Any]] = [{"unit": "um"}, {"unit": "pixel", "spacing": 1.0}]
    for number, metadata in enumerate(cases):
        path = tmp_path / f"{number}.tif"
        tifffile.imwrite(
            path, voxels(), imagej=True, resolution=(250, 250), metadata={**metadata, "axes": "ZYX"}
        )
        assert facts(path)[0].voxel is None


@pytest.mark.parametrize(("unit", "nm"), [("nm", 1), ("µm", 1e3), ("Å", 0.1), (None, 1e3)])
def test_ome_physical_sizes_are_the_voxel_size(tmp_path: Path, unit: str | None, nm: float) -> None:
    metadata: dict[str, Any] = {"axes": "ZYX"}
    for axis, size in zip("ZYX", VOXEL, strict=True):
        metadata[f"PhysicalSize{axis}"] = size / nm
        if unit is not None:
            metadata[f"PhysicalSize{axis}Unit"] = unit
    tifffile.imwrite(tmp_path / "a.ome.tif", voxels(), ome=True, metadata=metadata)
    voxel = facts(tmp_path / "a.ome.tif")[0].voxel
    assert voxel is not None and tuple(voxel) == pytest.approx(tuple(VOXEL))


def test_dots_per_inch_are_not_a_voxel_size(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", voxels(), resolution=(72, 72), resolutionunit="INCH")
    assert facts(tmp_path / "a.tif")[0].voxel is None


def test_a_single_tiff_page_is_one_section(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", voxels()[0])
    np.testing.assert_array_equal(facts(tmp_path / "a.tif")[1], voxels()[:1])


@pytest.mark.parametrize(("axis", "name"), [("T", "time points"), ("C", "channels")])
def test_time_points_and_many_channels_are_taken_as_sections_and_said_so(
    tmp_path: Path, axis: str, name: str
) -> None:
    tifffile.imwrite(tmp_path / "a.tif", voxels(), imagej=True, metadata={"axes": f"{axis}YX"})
    source, found = facts(tmp_path / "a.tif")
    np.testing.assert_array_equal(found, voxels())
    assert name in source.notes[0]


def test_white_is_zero_is_kept_and_said_so(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", voxels(), photometric="miniswhite")
    source, found = facts(tmp_path / "a.tif")
    np.testing.assert_array_equal(found, voxels())
    assert "inverted" in source.notes[0]


def test_tiff_refuses_colour_channels_and_mixed_pages(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "rgb.tif", voxels(shape=(8, 9, 3)), photometric="rgb")
    refused(tmp_path / "rgb.tif", "colour image")
    tifffile.imwrite(
        tmp_path / "czyx.tif", voxels(shape=(2, 5, 8, 9)), ome=True, metadata={"axes": "CZYX"}
    )
    refused(tmp_path / "czyx.tif", "axes CZYX .*export the channel")
    tifffile.imwrite(tmp_path / "cyx.tif", voxels()[:3], ome=True, metadata={"axes": "CYX"})
    refused(tmp_path / "cyx.tif", "axes CYX")
    with tifffile.TiffWriter(tmp_path / "mixed.tif") as writer:
        writer.write(voxels(), metadata=None)
        writer.write(voxels()[0, :8], metadata=None)
    refused(tmp_path / "mixed.tif", "2 images of different kinds")


@pytest.mark.parametrize("kind", ["contiguous", "pages", "compressed", "big", "imagej", "ome"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.97])
def test_a_tiff_cut_short_is_refused_and_never_shortened(
    tmp_path: Path, kind: str, part: float
) -> None:
    TIFFS[kind](tmp_path / "a.tif", voxels())
    whole = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(whole[: int(len(whole) * part)])
    if (kind, part) == ("imagej", 0.97):
        # what is lost here is a directory that ImageJ stacks do not need: the voxels are all there
        np.testing.assert_array_equal(facts(tmp_path / "a.tif")[1], voxels())
    else:
        refused(tmp_path / "a.tif", "damaged|incomplete")


def test_lzw_is_read_or_says_what_to_install(tmp_path: Path) -> None:
    Image.fromarray(voxels()[0]).save(tmp_path / "a.tif", compression="tiff_lzw")
    if find_spec("imagecodecs") is None:
        refused(tmp_path / "a.tif", "compressed with LZW; `pip install imagecodecs`")
    else:
        np.testing.assert_array_equal(facts(tmp_path / "a.tif")[1], voxels()[:1])


def test_the_log_of_tifffile_is_left_as_it_was(tmp_path: Path) -> None:
    before = logging.getLogger("tifffile").handlers[:]
    tifffile.imwrite(tmp_path / "a.tif", voxels())
    facts(tmp_path / "a.tif")
    assert logging.getLogger("tifffile").handlers == before


def test_what_is_no_tiff_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"not a TIFF at all")
    refused(tmp_path / "a.tif", r"a\.tif cannot be read .*damaged")


# ---- folders of sections


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_a_folder_is_sorted_by_number(tmp_path: Path, suffix: str, dtype: str) -> None:
    # 12 sections without leading zeros: by letters, 10 would come before 2
    data = voxels(dtype, (12, 9, 11))
    source, found = facts(folder_of(tmp_path / "s", data, suffix))
    np.testing.assert_array_equal(found, data)
    assert source.voxel is None and source.notes == ()


def test_natural_order() -> None:
    names = ["b1", "a10", "a2", "a02b", "a1"]
    assert [p.name for p in sorted(map(Path, names), key=natural)] == [
        "a1",
        "a2",
        "a02b",
        "a10",
        "b1",
    ]


def test_the_odd_section_is_named(tmp_path: Path) -> None:
    for number, odd in enumerate([voxels(shape=(9, 12)), voxels("uint16", (9, 11))]):
        folder = folder_of(tmp_path / str(number), voxels(shape=(4, 9, 11)))
        Image.fromarray(odd).save(folder / "slice_3.png")
        refused(folder, r"slice_3\.png has .*the other sections have 9 x 11 pixels of uint8")
        # the first may be the odd one too
        (folder / "slice_3.png").rename(folder / "slice_0.png")
        refused(folder, r"slice_0\.png has")


def test_a_jump_in_the_numbers_and_other_files_are_said(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "s", voxels(shape=(6, 9, 11)))
    (folder / "slice_3.png").unlink()
    (folder / "Thumbs.db").write_text("")
    notes = facts(folder)[0].notes
    assert "1 other files" in notes[0] and "jump from 2 to 4" in notes[1]


def test_a_folder_refuses_colour_stacks_and_broken_sections(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "s", voxels(shape=(3, 9, 11)))
    Image.fromarray(voxels(shape=(9, 11, 3))).save(folder / "slice_2.png")
    refused(folder, r"slice_2\.png is a colour image")
    (folder / "slice_2.png").write_bytes((folder / "slice_1.png").read_bytes()[:60])
    refused(folder, r"slice_2\.png cannot be read")
    stacks = folder_of(tmp_path / "t", voxels(shape=(2, 5, 9, 11)), ".tif")
    refused(stacks, "5 pages; expected one section per file")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "no sections")


def test_a_single_png_is_one_section(tmp_path: Path) -> None:
    Image.fromarray(voxels()[0]).save(tmp_path / "a.png")
    np.testing.assert_array_equal(facts(tmp_path / "a.png")[1], voxels()[:1])


def test_sections_larger_than_pillow_likes_are_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    facts(folder_of(tmp_path / "s", voxels()))
