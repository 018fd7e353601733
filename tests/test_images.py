"""TIFF and folders of sections, written by other libraries: the same voxels, their size, clear refusals."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from foreign import VOXEL, Array, facts, folder_of, pages, refused, voxels
from PIL import Image

from emgen.geometry import Box
from emgen.volumes.sources import open_foreign
from emgen.volumes.sources.allowed import Allowed

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


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_white_is_zero_is_refused_kept_or_inverted(tmp_path: Path, dtype: str) -> None:
    data = voxels(dtype)
    tifffile.imwrite(tmp_path / "a.tif", data, photometric="miniswhite")
    refused(tmp_path / "a.tif", "counts from white to black.*--white-is-zero invert.*keep")
    source, kept = facts(tmp_path / "a.tif", allowed=Allowed(white_is_zero="keep"))
    np.testing.assert_array_equal(kept, data)
    assert "the numbers are kept" in source.notes[0]
    source, turned = facts(tmp_path / "a.tif", allowed=Allowed(white_is_zero="invert"))
    assert turned.dtype == data.dtype
    greatest = {"uint8": 255, "uint16": 65535, "int16": -1, "float32": 0}[dtype]
    np.testing.assert_array_equal(turned.astype(float), greatest - data.astype(float))


def test_a_tiff_that_is_turned_or_coloured_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", voxels(), extratags=[(274, "H", 1, 3, True)])
    refused(tmp_path / "a.tif", "tag Orientation is 3")
    ramp = np.arange(256, dtype=np.uint16) * 257
    for name, map_ in {"grey": [ramp] * 3, "fire": [ramp, ramp[::-1], ramp]}.items():
        path = tmp_path / f"{name}.tif"
        tifffile.imwrite(path, voxels(), photometric="palette", colormap=np.array(map_))
        if name == "fire":
            refused(path, "has a colour map")
        else:
            np.testing.assert_array_equal(facts(path)[1], voxels())


def test_packed_bits_are_unpacked(tmp_path: Path) -> None:
    data = (voxels("uint16") * 34).clip(0, 4095)
    tifffile.imwrite(tmp_path / "a.tif", data, bitspersample=12)
    np.testing.assert_array_equal(facts(tmp_path / "a.tif")[1], data)


def test_smaller_copies_of_a_stack_are_left_out(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(voxels(), metadata=None)
        writer.write(voxels()[0, :7, :5], metadata=None, subfiletype=1)
    source, found = facts(tmp_path / "a.tif")
    np.testing.assert_array_equal(found, voxels())
    assert "1 smaller copies" in source.notes[0]
    with tifffile.TiffWriter(tmp_path / "b.tif") as writer:
        writer.write(voxels(), metadata=None, subifds=1, tile=(16, 16))
        writer.write(voxels()[:, ::2, ::2], metadata=None, subfiletype=1, tile=(16, 16))
    np.testing.assert_array_equal(facts(tmp_path / "b.tif")[1], voxels())


def test_parts_of_a_page_that_were_never_written_are_missing_chunks(tmp_path: Path) -> None:
    pages(tmp_path / "a.tif", voxels(), tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
        counts = list(file.pages[2].databytecounts)
        file.pages[2].tags["TileByteCounts"].overwrite([0, *counts[1:]])
    refused(tmp_path / "a.tif", "1 of its 20 chunks are not there.*--missing-chunks blank")
    source, found = facts(tmp_path / "a.tif", allowed=Allowed(missing_chunks="blank"))
    assert source.chunks is not None and source.chunks.missing() == 1
    expected = voxels()
    expected[2, :16, :16] = 0
    np.testing.assert_array_equal(found, expected)


# ---- ImageJ and OME-XML


def imagej(path: Path, data: Array, unit: str = "um", **more: Any) -> Path:
    metadata = {"unit": unit, "spacing": 0.04, "axes": "ZYX", **more}
    tifffile.imwrite(path, data, imagej=True, resolution=(200, 250), metadata=metadata)
    return path


def test_imagej_units_of_each_axis_and_its_origin(tmp_path: Path) -> None:
    source = facts(imagej(tmp_path / "a.tif", voxels(), zunit="nm", xorigin=-5, zorigin=2.5))[0]
    assert source.voxel is not None and tuple(source.voxel) == pytest.approx((0.04, 4, 5))
    assert source.offset == (-2.5, 0, 5)


@pytest.mark.parametrize("unit", ["inch", "cm"])
def test_imagej_takes_printing_for_a_size_and_emgen_does_not(tmp_path: Path, unit: str) -> None:
    source = facts(imagej(tmp_path / "a.tif", voxels(), unit))[0]
    assert source.voxel is None and "about printing" in source.notes[0]


def test_imagej_signed_numbers_are_signed_again(tmp_path: Path) -> None:
    data = voxels("uint16") + 32700
    source, found = facts(imagej(tmp_path / "a.tif", data, cf=0, c0=-32768.0, c1=1.0))
    assert found.dtype == source.dtype == np.int16
    np.testing.assert_array_equal(found, data.astype(int) - 32768)
    source, found = facts(imagej(tmp_path / "b.tif", data, cf=0, c0=3.0, c1=2.0))
    np.testing.assert_array_equal(found, data)
    assert "not applied" in source.notes[0]


def ome_with(path: Path, old: str, new: str) -> Path:
    """An OME-TIFF with a part of its XML replaced."""
    tifffile.imwrite(path, voxels("uint16"), ome=True, metadata={"axes": "ZYX"})
    with tifffile.TiffFile(path) as file:
        text = file.ome_metadata
    assert text is not None and old in text
    tifffile.imwrite(
        path, voxels("uint16"), description=text.replace(old, new), metadata=None, contiguous=True
    )
    return path


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('Type="uint16"', 'Type="int16"', "says its pixels are int16, its TIFF tags uint16"),
        ('PlaneCount="5"', 'PlaneCount="1000000000"', "1000000000 planes, which cannot be"),
        ('SizeZ="5"', 'SizeZ="1000000000"', "which cannot be"),
        ('SizeZ="5"', 'SizeZ="many"', 'SizeZ is "many"; expected a whole number'),
        ('SizeZ="5"', 'SizeZ="7"', "7 sections, found 5|damaged"),
        ("<Pixels", '<BinaryOnly MetadataFile="a.companion.ome"/><Pixels', "companion"),
        (
            "</TiffData>",
            '<UUID FileName="../b.tif">urn:uuid:1</UUID></TiffData>',
            "only files beside it",
        ),
    ],
)
def test_ome_xml_that_cannot_be_is_refused(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    if old == "</TiffData>":
        old, new = 'PlaneCount="5"/>', f'PlaneCount="5">{new}'
    refused(ome_with(tmp_path / "a.ome.tif", old, new), message)


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


@pytest.mark.parametrize("kind", ["tiff_lzw", "jpeg", "packbits", "tiff_adobe_deflate"])
def test_compressions_of_other_writers_are_read_out_of_the_box(tmp_path: Path, kind: str) -> None:
    smooth = np.add.outer(np.arange(64), np.arange(80)).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "a.tif", compression=kind)
    found = facts(tmp_path / "a.tif")[1][0].astype(int)
    assert np.abs(found - smooth).max() <= (4 if kind == "jpeg" else 0)


@pytest.mark.parametrize("kind", ["zstd", "lzma", "lzw", "webp", "jpeg2000", "packbits"])
@pytest.mark.parametrize("part", [1.0, 0.5])
def test_compressed_strips_are_read_whole_or_not_at_all(
    tmp_path: Path, kind: str, part: float
) -> None:
    lossless: dict[str, Any] = {"webp": {"lossless": True, "level": 100}}
    colours = {"webp": {"photometric": "rgb"}}.get(kind, {})
    data = voxels(shape=(64, 64, 3) if kind == "webp" else (64, 64))
    options = {"compression": kind, "compressionargs": lossless.get(kind, {}), **colours}
    tifffile.imwrite(tmp_path / "a.tif", data, **options)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
        tag = file.pages.first.tags["StripByteCounts"]
        tag.overwrite([int(n * part) for n in file.pages.first.databytecounts])
    if kind == "webp":
        refused(tmp_path / "a.tif", "colour image")
    elif part == 1:
        np.testing.assert_array_equal(facts(tmp_path / "a.tif")[1][0], data)
    else:
        refused(tmp_path / "a.tif", r"a\.tif cannot be read")


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


def test_the_odd_section_is_named(tmp_path: Path) -> None:
    for number, odd in enumerate([voxels(shape=(9, 12)), voxels("uint16", (9, 11))]):
        folder = folder_of(tmp_path / str(number), voxels(shape=(4, 9, 11)))
        Image.fromarray(odd).save(folder / "slice_3.png")
        refused(folder, r"slice_3\.png has .*the other sections have 9 x 11 pixels of uint8")
        # the first may be the odd one too
        (folder / "slice_3.png").rename(folder / "slice_0.png")
        refused(folder, r"slice_0\.png has")


def test_lost_sections_are_refused_blank_or_closed(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "s", voxels(shape=(6, 9, 11)))
    (folder / "slice_3.png").unlink()
    (folder / "Thumbs.db").write_text("")
    refused(folder, "1 section numbers are left out: 2 .counted from 0.*--lost-sections blank")
    expected = voxels(shape=(6, 9, 11))
    source, found = facts(folder, allowed=Allowed(lost_sections="close"))
    np.testing.assert_array_equal(found, np.delete(expected, 2, 0))
    assert "1 other files" in source.notes[0] and "without gaps" in source.notes[1]
    source, found = facts(folder, allowed=Allowed(lost_sections="blank"))
    expected[2] = 0
    np.testing.assert_array_equal(found, expected)
    assert source.shape == (6, 9, 11) and "sections 2 (counted from 0) are blank" in source.notes[1]
    box = Box((1, 3, 4), (4, 9, 10))
    with open_foreign(str(folder), allowed=Allowed(lost_sections="blank")) as source:
        np.testing.assert_array_equal(source.read(box), expected[box.slices])


def test_a_folder_that_is_no_one_series_is_refused_unless_any_order_will_do(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "s", voxels(shape=(6, 9, 11)))
    Image.fromarray(voxels()[0, :9, :11]).save(folder / "slice_3 copy.png")
    refused(folder, r"slice_1\.png \(6 alike\), slice_3 copy\.png; expected one section per file")
    assert facts(folder, allowed=Allowed(any_order=True))[0].shape == (7, 9, 11)
    (folder / "slice_3 copy.png").unlink()
    (folder / "TileConfiguration.txt").write_text("")
    refused(folder, "tiles of a mosaic")


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


def test_a_png_that_does_not_fit_its_checksum_is_refused(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "a", voxels(shape=(3, 40, 40)))
    path = folder / "slice_2.png"
    content = bytearray(path.read_bytes())
    content[-30] ^= 1
    path.write_bytes(content)
    refused(folder, "slice_2.png cannot be read")
