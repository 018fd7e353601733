"""MRC and HDF5, written by their own libraries: the same voxels, their size, clear refusals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import mrcfile
import numpy as np
import pytest
import tifffile
from foreign import VOXEL, Array, facts, refused, voxels

from emgen.geometry import VoxelSize

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
    refused(tmp_path / "a.tif", "--dataset is for HDF5", "raw")
