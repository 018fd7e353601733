"""Chunks that were cut, changed, swapped for something else or lost: an error, or the voxels that were written."""

import errno
import os
import re
import shutil

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs import BloscCodec, GzipCodec, ZstdCodec
from zarr.storage import LocalStore

from emgen.config.input import Input
from emgen.errors import EmgenError
from emgen.geometry import Box, VoxelSize
from emgen.volumes.inputs import chunk_note, open_input
from emgen.volumes.missing_chunks import count_missing, missing_boxes
from emgen.volumes.volume import Volume

SHAPE, CHUNK, SHARD = (5, 12, 20), (2, 4, 8), (4, 8, 16)
VOXELS = np.random.default_rng(0).integers(1, 255, SHAPE, np.uint8)
WHOLE = Box.whole(SHAPE)
LAYOUTS = {
    "blosc of Zarr 2": (2, {"compressors": numcodecs.Blosc("lz4", 5, numcodecs.Blosc.SHUFFLE)}),
    "zlib of Zarr 2": (2, {"compressors": numcodecs.Zlib(1)}),
    "filtered": (2, {"compressors": numcodecs.Zstd(1), "filters": [numcodecs.Delta("u1", "i2")]}),
    "raw of Zarr 2": (2, {"compressors": None}),
    "blosc": (3, {"compressors": BloscCodec(cname="zstd")}),
    "zstd": (3, {"compressors": ZstdCodec()}),
    "gzip": (3, {"compressors": GzipCodec()}),
    "raw": (3, {"compressors": None}),
    "shards": (3, {"compressors": BloscCodec(cname="lz4"), "shards": SHARD}),
    "raw shards": (3, {"compressors": None, "shards": SHARD}),
}


def store(path, layout, voxels=VOXELS, axes="zyx"):
    zarr_format, more = LAYOUTS[layout]
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    config = {"write_empty_chunks": True}
    group.create_array("0", data=voxels, **{"chunks": CHUNK, **more}, config=config)
    described = [{"name": name, "type": "space", "unit": "nanometer"} for name in axes]
    sizes = dict(zip("zyx", (40.0, 8.0, 8.0), strict=True))
    scale = {"type": "scale", "scale": [sizes[name] for name in axes]}
    image = {"axes": described, "datasets": [{"path": "0", "coordinateTransformations": [scale]}]}
    if zarr_format == 2:
        group.attrs["multiscales"] = [{"version": "0.4", **image}]
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": [image]}
    return path


def chunks(path):
    return sorted(
        file
        for file in (path / "0").rglob("*")
        if file.is_file() and file.name not in (".zarray", ".zattrs", "zarr.json")
    )


def read(path, **given):
    return Volume.open(path, **given).read(WHOLE)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_whole_chunks_give_the_voxels(tmp_path, layout):
    path = store(tmp_path / "v.zarr", layout)
    assert (read(path, missing="refuse") == VOXELS).all()
    found = count_missing(Volume.open(path))
    assert (found.count, found.present.size) == (0, 3 * 3 * 3)
    assert missing_boxes(Volume.open(path), WHOLE) == []


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_chunk_that_was_cut_is_never_read(tmp_path, layout):
    path = store(tmp_path / "v.zarr", layout)
    file = chunks(path)[-1]
    content = file.read_bytes()
    for length in {0, 1, len(content) // 2, len(content) - 4, len(content) - 1}:
        file.write_bytes(content[:length])
        with pytest.raises(EmgenError, match=file.relative_to(path).as_posix()):
            read(path)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_bytes_of_another_kind_are_never_voxels(tmp_path_factory, data):
    """Raw voxels have no check but their number; all else says so itself, in some byte."""
    layout = data.draw(st.sampled_from([name for name in LAYOUTS if "raw" not in name]))
    path = store(tmp_path_factory.mktemp("v") / "v.zarr", layout)
    file = data.draw(st.sampled_from(chunks(path)))
    page = b"<!DOCTYPE html><html><body>404</body></html>"
    file.write_bytes(data.draw(st.sampled_from([page, bytes(500), os.urandom(200), b"\xff" * 16])))
    with pytest.raises(EmgenError):
        read(path)
    shutil.rmtree(path)


@pytest.mark.parametrize("layout", ["raw", "shards"])
def test_a_folder_is_no_chunk(tmp_path, layout):
    path = store(tmp_path / "v.zarr", layout)
    file = chunks(path)[0]
    file.unlink()
    file.mkdir()
    with pytest.raises(EmgenError, match="is a folder"):
        read(path)
    shutil.rmtree(file.parent)
    file.parent.write_bytes(b"a file")
    with pytest.raises(EmgenError, match="is a file"):
        read(path)


@pytest.mark.parametrize("layout", ["blosc of Zarr 2", "raw", "zstd"])
def test_missing_chunks_are_counted_placed_and_refused(tmp_path, layout):
    path = store(tmp_path / "v.zarr", layout)
    lost = chunks(path)[13]
    lost.unlink()
    hole = Box((2, 4, 8), (4, 8, 16))
    volume = Volume.open(path)
    assert list(count_missing(volume).boxes()) == [hole]
    assert missing_boxes(volume, Box((1, 5, 0), (3, 12, 20))) == [Box((2, 5, 8), (3, 8, 16))]
    expected = VOXELS.copy()
    expected[hole.slices] = 0
    assert (volume.read(WHOLE) == expected).all()
    with pytest.raises(EmgenError, match=r"missing.*missing_chunks: blank"):
        read(path, missing="refuse")
    assert Volume.open(path, missing="refuse").read(Box((0, 0, 0), (2, 12, 20))).all()


def test_the_input_is_asked_for_its_chunks(tmp_path):
    path = str(store(tmp_path / "v.zarr", "raw"))
    given = Input(volume=path)
    assert chunk_note(open_input(given), given) is None
    for file in chunks(tmp_path / "v.zarr")[:5]:
        file.unlink()
    with pytest.raises(EmgenError, match=r"5 of its 27 chunks .* and 2 more\. .*missing_chunks: b"):
        chunk_note(open_input(given), given)
    given = Input(volume=path, missing_chunks="blank")
    assert "taken as blank" in chunk_note(open_input(given), given)


def test_missing_chunks_of_a_mask_are_said(tmp_path):
    path, mask = store(tmp_path / "v.zarr", "raw"), store(tmp_path / "mask.zarr", "raw")
    given = Input(volume=str(path), mask=str(mask))
    assert chunk_note(open_input(given), given) is None
    chunks(mask)[0].unlink()
    assert re.search("mask.*1 of its 27 .*taken as no tissue", chunk_note(open_input(given), given))


def test_what_may_not_be_read_is_a_matter_of_rights(tmp_path, monkeypatch):
    path = store(tmp_path / "v.zarr", "raw")
    volume = Volume.open(path)

    async def denied(self, key, *more):
        raise PermissionError(errno.EACCES, "Permission denied", key)

    monkeypatch.setattr(LocalStore, "get", denied)
    with pytest.raises(EmgenError, match=r"no right to read 0/c/0/0/0;"):
        volume.read(Box((0, 0, 0), (1, 1, 1)))
    with pytest.raises(EmgenError, match=r"no right to read zarr\.json;"):
        Volume.open(path)


@pytest.mark.parametrize("layout", ["shards", "raw shards"])
def test_chunks_missing_in_a_shard_are_found(tmp_path, layout):
    path = store(tmp_path / "v.zarr", layout)
    voxels = VOXELS.copy()
    hole = Box((2, 4, 8), (4, 8, 16))
    voxels[hole.slices] = 0
    # zarr leaves out of a shard what is blank
    zarr.open_array(path / "0").with_config({"write_empty_chunks": False})[...] = voxels
    volume = Volume.open(path)
    assert (volume.read(WHOLE) == voxels).all()
    assert list(count_missing(volume).boxes()) == [hole]
    assert missing_boxes(volume, WHOLE) == [hole]
    with pytest.raises(EmgenError, match=r"missing in its shard.*missing_chunks: blank"):
        read(path, missing="refuse")
    with pytest.raises(EmgenError, match="missing"):
        Volume.open(path, missing="refuse").read(Box((2, 4, 8), (3, 5, 9)))


def test_a_missing_shard_is_all_its_chunks(tmp_path):
    path = store(tmp_path / "v.zarr", "shards")
    (path / "0/c/1/1/1").unlink()
    found = count_missing(Volume.open(path))
    assert list(found.boxes()) == [Box((4, 8, 16), (5, 12, 20))]
    assert missing_boxes(Volume.open(path), WHOLE) == list(found.boxes())


def test_missing_chunks_of_turned_axes_are_placed(tmp_path):
    path = store(tmp_path / "v.zarr", "raw", VOXELS.transpose(2, 0, 1), "xzy")
    chunks(path)[-1].unlink()
    volume = Volume.open(path)
    (box,) = count_missing(volume).boxes()
    assert missing_boxes(volume, WHOLE) == [box]
    assert (volume.read(box) == 0).all()
    assert np.count_nonzero(volume.read(WHOLE)) == WHOLE.size - box.size


@pytest.mark.parametrize("ngff", ["0.4", "0.5"])
def test_no_chunk_of_what_emgen_writes_is_missing(tmp_path, ngff):
    volume = Volume.create(
        tmp_path / "v.ome.zarr",
        SHAPE,
        "u1",
        VoxelSize(40, 8, 8),
        ngff=ngff,
        chunk=CHUNK,
        shard=SHARD,
    )
    for box in (Box((0, 0, 0), (4, 8, 16)), Box((4, 0, 0), (5, 8, 16))):
        volume.write(box, np.zeros(box.shape, np.uint8))
    found = count_missing(Volume.open(volume.path))
    assert found.count == found.present.size - 3 * 2 * 2
    assert all(box.start[1] >= 8 or box.start[2] >= 16 for box in found.boxes())


def test_a_shard_with_a_damaged_index_is_refused(tmp_path):
    path = store(tmp_path / "v.zarr", "raw shards")
    shard = path / "0/c/0/0/0"
    content = bytearray(shard.read_bytes())
    content[-12] ^= 1  # the length of the last chunk; the checksum of the index knows
    shard.write_bytes(content)
    with pytest.raises(EmgenError, match="checksum"):
        read(path)


@pytest.mark.parametrize(
    ("compressor", "filters"),
    [
        (numcodecs.Zstd(), [numcodecs.PackBits()]),
        (numcodecs.Zstd(), [numcodecs.Zlib()]),
        (numcodecs.Zlib(), [numcodecs.FixedScaleOffset(0, 1, "<u2", "u1")]),
    ],
)
def test_codecs_that_emgen_does_not_read_are_named(tmp_path, compressor, filters):
    path = store(tmp_path / "v.zarr", "raw of Zarr 2")
    zarr.open_group(path).create_array(
        "0", shape=SHAPE, dtype="u1", overwrite=True, compressors=compressor, filters=filters
    )
    with pytest.raises(EmgenError, match=filters[0].codec_id):
        Volume.open(path)
