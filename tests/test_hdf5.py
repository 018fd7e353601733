"""HDF5 as its usual writers make it: axes, sizes, places, storage; and what would be read as a constant is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from foreign import SHAPE, VOXEL, Array, facts, refused, voxels

from emgen.volumes.sources import Allowed


def one(path: Path, data: Array, *, name: str = "raw", **attributes: Any) -> Path:
    """A file with one data set."""
    with h5py.File(path, "w") as file:
        file[name] = data
        file[name].attrs.update(attributes)
    return path


def tags(keys: str, **more: list[Any]) -> str:
    """ilastik's axistags."""
    axes = [
        {"key": key, "typeFlags": 2, "resolution": 0, "description": ""}
        | {name: values[i] for name, values in more.items()}
        for i, key in enumerate(keys)
    ]
    return json.dumps({"axes": axes})


# ---- axes


@pytest.mark.parametrize("order", ["zyx", "xyz", "yxz", "tzyxc", "txyzc", "cxtzy"])
def test_ilastik_axes_are_followed_and_single_ones_looked_through(
    tmp_path: Path, order: str
) -> None:
    data = voxels().transpose(["zyx".index(axis) for axis in order if axis in "zyx"])
    shape = iter(data.shape)
    data = data.reshape([next(shape) if axis in "zyx" else 1 for axis in order])
    np.testing.assert_array_equal(
        facts(one(tmp_path / "a.h5", data, axistags=tags(order)))[1], voxels()
    )
    # and the other ways to name them
    np.testing.assert_array_equal(
        facts(one(tmp_path / "b.h5", data, axis_names=list(order)))[1], voxels()
    )
    path = one(tmp_path / "c.h5", data)
    with h5py.File(path, "a") as file:
        for dimension, axis in zip(file["raw"].dims, order, strict=True):
            dimension.label = axis
    np.testing.assert_array_equal(facts(path)[1], voxels())


@pytest.mark.parametrize("shape", [(1, *SHAPE, 1), (1, 1, *SHAPE), (*SHAPE, 1), (5, 1, 17, 23, 1)])
def test_single_axes_without_names_are_looked_through(
    tmp_path: Path, shape: tuple[int, ...]
) -> None:
    path = one(tmp_path / "a.h5", voxels().reshape(shape))
    np.testing.assert_array_equal(facts(path)[1], voxels())


def test_axes_that_are_no_volume_are_refused(tmp_path: Path) -> None:
    data = voxels(shape=(2, 5, 8, 9))
    refused(
        one(tmp_path / "a.h5", data, axistags=tags("czyx")), "2 entries along its axis c", "raw"
    )
    refused(one(tmp_path / "b.h5", voxels(), axistags=tags("zyc")), "expected z, y and x")
    refused(one(tmp_path / "c.h5", voxels(), axistags=tags("zyxc")), "has 3 of them")
    refused(one(tmp_path / "d.h5", voxels(), axistags="[}"), "axistags are damaged")
    both = {"axistags": tags("xyz"), "axis_names": ["z", "y", "x"]}
    refused(one(tmp_path / "e.h5", voxels(), **both), "name its axes differently")


# ---- sizes and places

WRITERS: dict[str, dict[str, Any]] = {
    "CREMI": {"resolution": [40.0, 4.0, 5.0], "offset": [3200.0, 800.0, 400.0]},
    "funlib": {
        "voxel_size": [40, 4, 5],
        "offset": [3200, 800, 400],
        "units": ["nm"] * 3,
        "axis_names": ["z", "y", "x"],
    },
    "micrometres": {"resolution": [0.04, 0.004, 0.005], "offset": [3.2, 0.8, 0.4], "unit": "um"},
    "Fiji": {"element_size_um": [0.04, 0.004, 0.005], "offset": [3200, 800, 400]},
}


@pytest.mark.parametrize("writer", WRITERS)
def test_voxel_size_and_place_of_each_writer(tmp_path: Path, writer: str) -> None:
    source = facts(one(tmp_path / "a.h5", voxels(), **WRITERS[writer]))[0]
    assert source.voxel is not None and tuple(source.voxel) == pytest.approx(tuple(VOXEL))
    assert source.origin == pytest.approx((3200, 800, 400))


def test_ilastik_sizes_need_a_unit(tmp_path: Path) -> None:
    data = voxels().transpose(2, 1, 0)[None]
    sized = tags("txyz", resolution=[0, 0.005, 0.004, 0.04], unit=["", "µm", "um", "micron"])
    source, found = facts(one(tmp_path / "a.h5", data, axistags=sized))
    np.testing.assert_array_equal(found, voxels())
    assert source.voxel is not None and tuple(source.voxel) == pytest.approx(tuple(VOXEL))
    source = facts(one(tmp_path / "b.h5", voxels(), axistags=tags("zyx", resolution=[4, 1, 1])))[0]
    assert source.voxel is None and "no unit" in source.notes[0]


@pytest.mark.parametrize("value", [[1.0, 2.0], "many", [np.nan, 1, 1]])
def test_sizes_that_are_no_three_numbers_are_refused(tmp_path: Path, value: Any) -> None:
    refused(one(tmp_path / "a.h5", voxels(), resolution=value), "one number for each axis")


def test_bigdataviewer_has_unsigned_numbers_and_its_size_elsewhere(tmp_path: Path) -> None:
    data = voxels("uint16") + 40000
    path = one(tmp_path / "a.h5", data.view(np.int16), name="t00000/s00/0/cells")
    with h5py.File(path, "a") as file:
        file["s00/resolutions"] = [[1.0, 1.0, 1.0]]
        file["s00/subdivisions"] = [[16, 16, 16]]
    source, found = facts(path)
    assert source.dtype == found.dtype == np.uint16 and source.voxel is None
    np.testing.assert_array_equal(found, data)
    assert "XML beside it" in source.notes[0]


def test_white_is_zero_of_the_image_specification(tmp_path: Path) -> None:
    path = one(tmp_path / "a.h5", voxels(), IMAGE_WHITE_IS_ZERO=1)
    refused(path, "counts from white to black")
    turned = facts(path, allowed=Allowed(white_is_zero="invert"))[1]
    np.testing.assert_array_equal(turned, 255 - voxels())


# ---- where the voxels are


def virtual(path: Path, name: str, source_shape: tuple[int, ...] = SHAPE, part: int = 5) -> Path:
    layout = h5py.VirtualLayout(SHAPE, "uint8")
    layout[:part] = h5py.VirtualSource(name, "raw", source_shape)[:part]
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("raw", layout, fillvalue=7)
    return path


def test_virtual_data_sets_are_read_whole_or_not_at_all(tmp_path: Path) -> None:
    one(tmp_path / "b.h5", voxels())
    np.testing.assert_array_equal(facts(virtual(tmp_path / "a.h5", "b.h5"))[1], voxels())
    refused(virtual(tmp_path / "a.h5", "c.h5"), "c.h5, which cannot be opened")
    refused(virtual(tmp_path / "a.h5", "b.h5", part=3), "cover 1173 of its 1955 voxels")
    refused(virtual(tmp_path / "a.h5", "a.h5"), "cannot be opened|holds none itself")
    refused(virtual(tmp_path / "a.h5", "."), "holds none itself")
    one(tmp_path / "b.h5", voxels(shape=(5, 17, 20)))
    refused(
        virtual(tmp_path / "a.h5", "b.h5"),
        r"up to \(4, 16, 22\) from b.h5:raw, whose shape is \(5, 17, 20\)",
    )
    (tmp_path / "in").mkdir()
    refused(virtual(tmp_path / "in/a.h5", "../b.h5"), "only files beside it")


def test_virtual_data_sets_of_any_number_of_files_are_refused(tmp_path: Path) -> None:
    one(tmp_path / "s0.h5", voxels()[:1])
    _, height, width = SHAPE
    unlimited = h5py.h5s.UNLIMITED
    whole = h5py.h5s.create_simple(SHAPE, (unlimited, height, width))
    whole.select_hyperslab((0, 0, 0), (unlimited, 1, 1), (1, 1, 1), (1, height, width))
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_virtual(whole, b"s%b.h5", b"raw", h5py.h5s.create_simple((1, height, width)))
    space = h5py.h5s.create_simple(SHAPE, (unlimited, height, width))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        h5py.h5d.create(file.id, b"raw", h5py.h5t.NATIVE_UINT8, space, layout)
    refused(tmp_path / "a.h5", "a pattern of sources .s%b.h5:raw")


def external(path: Path) -> None:
    (path.parent / "raw.bin").write_bytes(voxels().tobytes())
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", SHAPE, "uint8", external=[("raw.bin", 0, voxels().size)])


def linked(path: Path) -> None:
    one(path.with_name("other.h5"), voxels())
    with h5py.File(path, "w") as file:
        file["there"] = h5py.ExternalLink("other.h5", "/raw")
        file["raw"] = h5py.SoftLink("/there")


def unwritten(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", SHAPE, "uint8", fillvalue=9)


def filtered(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset(
            "raw", SHAPE, "uint8", chunks=(5, 8, 8), compression=32013, allow_unknown_filter=True
        )


def compound(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", SHAPE, np.dtype([("a", "u1"), ("b", "u1")]))


def objects(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", SHAPE, h5py.string_dtype())


def references(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", SHAPE, h5py.ref_dtype)


def huge(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", (2**40, 4, 4), "uint8", chunks=(8, 4, 4))


def huge_chunks(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", (2**11, 2**11, 2**10), "uint8", chunks=(2**11, 2**11, 2**9 + 1))


def imaris(path: Path) -> None:
    one(path, voxels(), name="DataSet/ResolutionLevel 0/TimePoint 0/Channel 0/Data")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (external, "in other files .raw.bin.*h5repack"),
        (linked, "lies in another file, other.h5"),
        (unwritten, "was never written: every voxel would read 9"),
        (filtered, "HDF5 filter 32013 .*not installed"),
        (compound, "expected one number per voxel"),
        (objects, "expected one number per voxel"),
        (references, "expected one number per voxel"),
        (huge, "which cannot be"),
        (huge_chunks, "chunks of"),
        (imaris, "file of Imaris"),
    ],
)
def test_what_would_read_wrong_is_refused_with_what_to_do(
    tmp_path: Path, make: Callable[[Path], None], message: str
) -> None:
    make(tmp_path / "a.h5")
    refused(tmp_path / "a.h5", message, "raw")


def test_missing_chunks_are_counted_and_refused_unless_allowed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        data = file.create_dataset("raw", SHAPE, "uint8", chunks=(5, 8, 8), fillvalue=3)
        data[:, :8] = voxels()[:, :8]
    refused(tmp_path / "a.h5", "6 of its 9 chunks are not there, so that their voxels would read 3")
    source, found = facts(tmp_path / "a.h5", allowed=Allowed(missing_chunks="blank"))
    assert source.chunks is not None and source.chunks.missing() == 6
    np.testing.assert_array_equal(found[:, :8], voxels()[:, :8])
    assert np.all(found[:, 8:] == 3)


@pytest.mark.parametrize("options", [{"compression": "gzip", "shuffle": True}, {"compression": "lzf"}, {"fletcher32": True}, {"scaleoffset": 0}])  # fmt: skip
def test_filters_of_the_library_are_read(tmp_path: Path, options: dict[str, Any]) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("raw", data=voxels("uint16"), chunks=(2, 8, 8), **options)
    np.testing.assert_array_equal(facts(tmp_path / "a.h5")[1], voxels("uint16"))


def test_links_in_a_circle_end(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = h5py.SoftLink("/round")
        file["round"] = h5py.SoftLink("/raw")
    refused(tmp_path / "a.h5", "cannot be read|no data set", "raw")
