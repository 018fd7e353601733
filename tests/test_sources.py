"""Every format, written by its own library: the same voxels, its voxel size, clear refusals."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import h5py
import mrcfile
import numpy as np
import numpy.typing as npt
import pytest
import tensorstore
import tifffile
from PIL import Image

from emgen.errors import EmgenError
from emgen.geometry import Box, VoxelSize
from emgen.sources import Source, natural, open_source

Array = npt.NDArray[Any]
SHAPE = (5, 17, 23)
VOXEL = VoxelSize(40, 4, 5)


def voxels(dtype: npt.DTypeLike = "uint8", shape: tuple[int, ...] = SHAPE) -> Array:
    return np.random.default_rng(0).integers(0, 120, shape).astype(dtype)


def facts(path: Path | str, dataset: str | None = None) -> tuple[Source, Array]:
    """The opened source and all its voxels."""
    with open_source(str(path), dataset) as source:
        return source, source.read(Box.whole(source.shape))


def refused(path: Path | str, message: str, dataset: str | None = None) -> None:
    with pytest.raises(EmgenError, match=message):
        facts(path, dataset)


def pages(path: Path, sections: Array, **options: Any) -> None:
    """A TIFF page by page, each with its own directory."""
    with tifffile.TiffWriter(path, bigtiff=options.pop("bigtiff", False)) as writer:
        for section in sections:
            writer.write(section, metadata=None, contiguous=False, **options)


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
    with open_source(str(tmp_path / "a.tif")) as source:
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
    assert (
        logging.getLogger("tifffile").handlers == before and logging.getLogger("tifffile").propagate
    )


def test_what_is_no_tiff_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"not a TIFF at all")
    refused(tmp_path / "a.tif", r"a\.tif cannot be read .*damaged")


# ---- folders of sections


def folder_of(path: Path, sections: Array, suffix: str = ".png", first: int = 1) -> Path:
    path.mkdir()
    for number, section in enumerate(sections, start=first):
        name = path / f"slice_{number}{suffix}"
        tifffile.imwrite(name, section) if suffix == ".tif" else Image.fromarray(section).save(name)
    return path


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
    assert Image.MAX_IMAGE_PIXELS == 10


# ---- MRC


def mrc(path: Path, data: Array, voxel: VoxelSize | None = VOXEL, **header: Any) -> Path:
    with mrcfile.new(path) as file:
        file.set_data(data)
        if voxel is not None:
            file.voxel_size = tuple(size * 10 for size in (voxel.x, voxel.y, voxel.z))
        for name, value in header.items():
            file.header[name] = value
    return path


@pytest.mark.parametrize("dtype", ["uint16", "int16", "float32", "float16", "int8"])
def test_mrc_gives_its_voxels_and_its_size_in_nanometres(tmp_path: Path, dtype: str) -> None:
    source, found = facts(mrc(tmp_path / "a.mrc", voxels(dtype)))
    np.testing.assert_array_equal(found, voxels(dtype))
    assert found.dtype == dtype
    assert source.voxel is not None and tuple(source.voxel) == pytest.approx(tuple(VOXEL), rel=1e-6)


def test_mrc_without_a_voxel_size(tmp_path: Path) -> None:
    assert facts(mrc(tmp_path / "a.mrc", voxels("int16"), voxel=None))[0].voxel is None


def test_mrc_of_one_angstrom_is_doubted(tmp_path: Path) -> None:
    source = facts(mrc(tmp_path / "a.mrc", voxels("int16"), VoxelSize(0.1, 0.1, 0.1)))[0]
    assert "when they do not know" in source.notes[0]


def test_mrc_bytes_are_signed_unless_imod_or_the_greatest_value_say_otherwise(
    tmp_path: Path,
) -> None:
    data = np.arange(256, dtype=np.uint8).repeat(2).reshape(2, 16, 16)
    signed = data.view(np.int8)

    def stamped(flags: int) -> bytes:
        return (
            bytes(40) + (1146047817).to_bytes(4, "little") + flags.to_bytes(4, "little") + bytes(36)
        )

    cases: list[tuple[Array, dict[str, Any]]] = [
        (signed, {}),
        (signed, {"extra2": stamped(1)}),
        (data, {"extra2": stamped(0)}),
        (data, {"dmin": 0, "dmax": 255}),
    ]
    for number, (expected, header) in enumerate(cases):
        found = facts(mrc(tmp_path / f"{number}.mrc", signed, **header))[1]
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def test_a_single_mrc_image_is_one_section(tmp_path: Path) -> None:
    np.testing.assert_array_equal(
        facts(mrc(tmp_path / "a.mrc", voxels("int16")[0], None))[1], voxels("int16")[:1]
    )


def test_mrc_refusals(tmp_path: Path) -> None:
    refused(mrc(tmp_path / "a.mrc", voxels("int16"), mapc=3, maps=1), r"order \(3, 2, 1\)")
    refused(mrc(tmp_path / "b.mrc", voxels("int16", (2, 3, 8, 9)), None), r"shape \(2, 3, 8, 9\)")
    whole = mrc(tmp_path / "c.mrc", voxels("int16")).read_bytes()
    (tmp_path / "c.mrc").write_bytes(whole[:2000])
    refused(tmp_path / "c.mrc", "damaged")


# ---- HDF5


def hdf5(path: Path, **data: Array) -> Path:
    with h5py.File(path, "w") as file:
        for name, array in data.items():
            file[name.replace("__", "/")] = array
    return path


@pytest.mark.parametrize(
    ("name", "value"), [("resolution", [40.0, 4.0, 5.0]), ("element_size_um", [0.04, 0.004, 0.005])]
)
def test_hdf5_gives_its_only_volume_and_its_voxel_size(
    tmp_path: Path, name: str, value: list[float]
) -> None:
    path = hdf5(tmp_path / "a.h5", volumes__raw=voxels(), table=voxels(shape=(4, 4)))
    with h5py.File(path, "a") as file:
        file["volumes/raw"].attrs[name] = value
    source, found = facts(path)
    np.testing.assert_array_equal(found, voxels())
    assert source.voxel is not None and tuple(source.voxel) == pytest.approx(tuple(VOXEL))


def test_hdf5_with_several_volumes_lists_them(tmp_path: Path) -> None:
    path = hdf5(tmp_path / "a.h5", volumes__raw=voxels(), volumes__labels=voxels("uint32"))
    refused(path, "one of volumes/labels, volumes/raw: choose with --dataset")
    refused(
        path,
        "no data set volumes/ram; 3-D data sets in it: volumes/labels, volumes/raw",
        "volumes/ram",
    )
    source, found = facts(path, "volumes/labels")
    assert found.dtype == "uint32" and source.voxel is None


def test_hdf5_refusals(tmp_path: Path) -> None:
    refused(hdf5(tmp_path / "a.h5", a=voxels(shape=(2, 3, 4, 5))), "found none")
    refused(tmp_path / "a.h5", r"shape \(2, 3, 4, 5\)", "a")
    refused(hdf5(tmp_path / "b.h5", rgb=voxels(shape=(8, 9, 3))), "colour image by the look of it")
    refused(hdf5(tmp_path / "c.h5", nothing=voxels(shape=(0, 3, 8))), "no voxels")
    (tmp_path / "d.h5").write_bytes(b"not HDF5")
    refused(tmp_path / "d.h5", "cannot be read")


# ---- N5 and precomputed


def n5(path: Path, data: Array, **attributes: Any) -> Path:
    spec = {
        "driver": "n5",
        "kvstore": {"driver": "file", "path": str(path)},
        "metadata": {
            "dimensions": data.shape[::-1],
            "blockSize": (8,) * data.ndim,
            "dataType": data.dtype.name,
            "compression": {"type": "gzip"},
        },
    }
    tensorstore.open(spec, create=True).result().write(data.T).result()
    file = path / "attributes.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **attributes}))
    return path


@pytest.mark.parametrize(
    "attributes",
    [
        {"resolution": [5.0, 4.0, 40.0], "units": ["nm", "nm", "nm"]},
        {"pixelResolution": {"dimensions": [0.005, 0.004, 0.04], "unit": "um"}},
        {
            "pixelResolution": {"dimensions": [2.5, 2, 40], "unit": "nm"},
            "downsamplingFactors": [2, 2, 1],
        },
    ],
)
def test_n5_gives_its_voxels_z_first_and_its_voxel_size(
    tmp_path: Path, attributes: dict[str, Any]
) -> None:
    source, found = facts(n5(tmp_path / "a.n5", voxels(), **attributes))
    np.testing.assert_array_equal(found, voxels())
    assert source.voxel is not None and tuple(source.voxel) == pytest.approx(tuple(VOXEL))


def test_n5_resolution_without_units_is_not_a_voxel_size(tmp_path: Path) -> None:
    assert facts(n5(tmp_path / "a.n5", voxels(), resolution=[5, 4, 40]))[0].voxel is None


def test_an_n5_container_is_searched(tmp_path: Path) -> None:
    n5(tmp_path / "a.n5" / "volumes" / "s0", voxels())
    np.testing.assert_array_equal(facts(tmp_path / "a.n5")[1], voxels())
    n5(tmp_path / "a.n5" / "volumes" / "s1", voxels(shape=(3, 8, 9)))
    refused(tmp_path / "a.n5", "one of volumes/s0, volumes/s1: choose with --dataset")
    assert facts(tmp_path / "a.n5", "volumes/s1")[0].shape == (3, 8, 9)
    assert facts(f"n5://{tmp_path}/a.n5", "volumes/s1")[0].shape == (3, 8, 9)
    refused(tmp_path / "a.n5", "no data set volumes/s2", "volumes/s2")


def test_n5_of_four_dimensions_is_refused(tmp_path: Path) -> None:
    refused(n5(tmp_path / "a.n5", voxels(shape=(2, 3, 8, 9))), r"shape \(2, 3, 8, 9\)")


def precomputed(
    path: Path, data: Array, offset: tuple[int, int, int] = (0, 0, 0), channels: int = 1
) -> Path:
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": {"driver": "file", "path": str(path)},
        "multiscale_metadata": {
            "data_type": data.dtype.name,
            "num_channels": channels,
            "type": "image",
        },
        "scale_metadata": {
            "size": data.shape[::-1],
            "encoding": "raw",
            "chunk_size": [8, 8, 8],
            "resolution": [5, 4, 40],
            "voxel_offset": offset[::-1],
        },
    }
    store = tensorstore.open(spec, create=True).result()
    store[..., 0].write(data.T).result()
    return path


def test_precomputed_gives_its_voxels_voxel_size_and_offset(tmp_path: Path) -> None:
    path = precomputed(tmp_path / "a", voxels("uint16"), offset=(3, 20, 100))
    for name in (str(path), f"precomputed://{path}"):
        source, found = facts(name)
        np.testing.assert_array_equal(found, voxels("uint16"))
        assert source.voxel == VOXEL and source.offset == (3, 20, 100)


def test_precomputed_refusals(tmp_path: Path) -> None:
    refused(precomputed(tmp_path / "a", voxels(), channels=2), "2 channels")
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "info").write_text("{")
    refused(tmp_path / "b", "cannot be opened as precomputed")


# ---- neither


def test_unknown_sources_are_refused(tmp_path: Path) -> None:
    refused(tmp_path / "missing.tif", "there is nothing at")
    (tmp_path / "a.czi").write_text("")
    refused(tmp_path / "a.czi", r"does not know the format \.czi")
    (tmp_path / "a").write_text("")
    refused(tmp_path / "a", "a file without a suffix")
    refused("https://example.org/a", 'put "precomputed://"')
    (tmp_path / "z").mkdir()
    (tmp_path / "z" / "zarr.json").write_text("{}")
    refused(tmp_path / "z", "Zarr already")
    tifffile.imwrite(tmp_path / "a.tif", voxels())
    refused(tmp_path / "a.tif", "--dataset is for HDF5 and N5", "raw")
