"""MRC and HDF5, written by their own libraries: the same voxels, their size, clear refusals."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import h5py
import mrcfile
import numpy as np
import pytest
import tifffile
from foreign import VOXEL, Array, facts, refused, voxels

from emgen.geometry import Box, VoxelSize
from emgen.volumes.sources import open_foreign

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


def patched(path: Path, *changes: tuple[int, bytes]) -> Path:
    """A file with bytes of its header replaced."""
    data = bytearray(path.read_bytes())
    for at, new in changes:
        data[at : at + len(new)] = new
    path.write_bytes(bytes(data))
    return path


def swapped(path: Path, data: Array) -> Path:
    """The same file in the other order of bytes."""
    raw = path.read_bytes()
    words = np.frombuffer(raw[:208], "<u4").astype(">u4").tobytes()
    path.write_bytes(
        words
        + b"MAP \x11\x11\0\0"
        + raw[216:1024]
        + data.astype(data.dtype.newbyteorder(">")).tobytes()
    )
    return path


@pytest.mark.parametrize("dtype", ["int16", "uint16", "float32"])
@pytest.mark.parametrize(
    "stamp", [b"", b"\x44\x20\x20\x20", bytes(4), b"\x11\x11\0\0", b"\x44\x44\0\0"]
)
@pytest.mark.parametrize("big", [False, True])
def test_mrc_is_read_with_any_stamp_and_without_map(
    tmp_path: Path, dtype: str, stamp: bytes, big: bool
) -> None:
    path = mrc(tmp_path / "a.mrc", voxels(dtype))
    if big:
        swapped(path, voxels(dtype))
    odd = patched(path, (208, b"\0\0\0\0"), (212, stamp))
    source, found = facts(odd)
    np.testing.assert_array_equal(found, voxels(dtype))
    assert source.voxel is not None and tuple(source.voxel) == pytest.approx(tuple(VOXEL), rel=1e-6)
    fits = {b"": True, b"\x11\x11\0\0": big, b"\x44\x44\0\0": not big}.get(stamp, False)
    assert (source.notes == ()) == fits


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 1, 3), (3, 1, 2), (2, 3, 1)])
def test_mrc_axes_are_followed_whatever_their_order(
    tmp_path: Path, order: tuple[int, int, int]
) -> None:
    # columns, rows and sections are these axes; 1, 2, 3 are x, y, z
    stored = voxels("int16").transpose([3 - axis for axis in order[::-1]])
    path = mrc(tmp_path / "a.mrc", stored, None)
    cell = struct.pack("<3i3f", 23, 17, 5, 23 * 50, 17 * 40, 5 * 400)
    starts = {1: 7, 2: -3, 3: 2}
    patched(
        path,
        (16, struct.pack("<3i", *(starts[axis] for axis in order))),
        (28, cell),
        (64, struct.pack("<3i", *order)),
    )
    source, found = facts(path)
    np.testing.assert_array_equal(found, voxels("int16"))
    assert source.voxel is not None and tuple(source.voxel) == pytest.approx(tuple(VOXEL))
    assert source.origin == pytest.approx((2 * 40, -3 * 4, 7 * 5))


def test_mrc_origin_is_the_place_and_imod_gave_it_the_other_sign(tmp_path: Path) -> None:
    origin = struct.pack("<3f", 400.0, 800.0, 3200.0)
    for number, (flags, sign) in enumerate([(None, 1), (1, -1), (5, 1)]):
        stamp = b"" if flags is None else struct.pack("<2i", 1146047817, flags)
        path = mrc(tmp_path / f"{number}.mrc", voxels("int16"))
        source = facts(patched(path, (152, stamp), (196, origin)))[0]
        assert source.origin == (sign * 320, sign * 80, sign * 40)


def test_mrc_stacks_of_images_have_no_size_along_z(tmp_path: Path) -> None:
    path = mrc(tmp_path / "a.mrc", voxels("int16"))
    source = facts(patched(path, (36, struct.pack("<i", 1))))[0]
    assert source.voxel is None
    assert "200 nm deep, which would be 40 nm a section" in source.notes[0]


def test_mrc_bytes_without_any_statement_are_read_with_the_smoother_sign(tmp_path: Path) -> None:
    smooth = (np.add.outer(np.arange(64), np.arange(64)) + np.zeros((2, 64, 64))).astype(np.uint8)
    unknown = (76, struct.pack("<3f", 0, -1, -2)), (108, bytes(4))
    for data in (smooth + 64, (smooth - 64).view(np.int8)):
        path = mrc(tmp_path / f"{data.dtype}.mrc", data.view(np.int8))
        found = facts(patched(path, *unknown))[1]
        assert found.dtype == data.dtype
        np.testing.assert_array_equal(found, data)


def test_mrc_of_four_bits_is_unpacked(tmp_path: Path) -> None:
    data = voxels(shape=(3, 6, 7)) & 15
    path = mrc(tmp_path / "a.mrc", voxels("int8", (3, 6, 4)), None)
    padded = np.pad(data, ((0, 0), (0, 0), (0, 1)))
    packed = padded[..., ::2] | padded[..., 1::2] << 4
    patched(path, (0, struct.pack("<4i", 7, 6, 3, 101)), (1024, packed.tobytes()))
    np.testing.assert_array_equal(facts(path)[1], data)
    with open_foreign(str(path)) as source:
        box = Box((1, 2, 1), (3, 5, 6))
        np.testing.assert_array_equal(source.read(box), data[box.slices])


def test_mrc_longer_than_its_header_says_is_said(tmp_path: Path) -> None:
    path = mrc(tmp_path / "a.mrc", voxels("int16"))
    path.write_bytes(path.read_bytes() + bytes(2 * 17 * 23 * 2 + 5))
    assert "room for 2 sections that its header does not count" in facts(path)[0].notes[0]


@pytest.mark.parametrize(
    ("at", "new", "message"),
    [
        (0, struct.pack("<i", 2**30), "makes no sense"),
        (8, struct.pack("<i", -5), "makes no sense"),
        (8, struct.pack("<i", 6), "damaged or incomplete: its header says"),
        (12, struct.pack("<i", 4), "mode 4, complex"),
        (12, struct.pack("<i", 16), "mode 16, colour"),
        (12, struct.pack("<i", 99), "does not know"),
        (56, struct.pack("<f", 60.0), "angles .*expected 90"),
        (64, struct.pack("<i", 2), "its axes are"),
        (88, struct.pack("<i", 401), "stack of volumes"),
        (92, struct.pack("<i", -4), "bytes of extended header"),
        (92, struct.pack("<i", 2**30), "bytes of extended header"),
    ],
)
def test_mrc_refusals(tmp_path: Path, at: int, new: bytes, message: str) -> None:
    refused(patched(mrc(tmp_path / "a.mrc", voxels("int16")), (at, new)), message)


def test_mrc_cut_short_montaged_or_of_half_bytes_is_refused(tmp_path: Path) -> None:
    path = mrc(tmp_path / "a.mrc", voxels("int16"))
    whole = path.read_bytes()
    for size in (0, 1000, 1024, 2000, len(whole) - 1):
        path.write_bytes(whole[:size])
        refused(path, "damaged")
    mode0 = mrc(tmp_path / "b.mrc", voxels("int8"))
    refused(patched(mode0, (152, struct.pack("<2i", 1146047817, 17))), "two voxels of 4 bits")
    tiles = b"".join(struct.pack("<4h", 0, 512 * (k % 2), 0, k // 2) for k in range(5))
    fields = struct.pack("<2h", 8, 3)
    data = bytearray(whole)
    data[92:96], data[128:132] = struct.pack("<i", len(tiles)), fields
    (tmp_path / "c.mrc").write_bytes(bytes(data[:1024]) + tiles + whole[1024:])
    refused(tmp_path / "c.mrc", "tiles of a montage, 2 a section")
    (tmp_path / "d.mrc.gz").write_bytes(b"")
    refused(tmp_path / "d.mrc.gz", "is packed: unpack it first")


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
