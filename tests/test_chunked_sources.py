"""N5 and precomputed: chunks packed in every way, chunks that are missing or damaged, what their metadata say."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import imagecodecs
import numcodecs
import numpy as np
import pytest
import tensorstore
from foreign import SHAPE, VOXEL, Array, facts, n5, refused, voxels
from servers import serving

from emgen.volumes.sources import Allowed
from emgen.volumes.sources.packed import UNPACK, unpacked

ALLOW = Allowed(missing_chunks="blank")

# ---- what bytes are packed with


def lz4_blocks(data: bytes) -> bytes:
    """As Java's LZ4BlockOutputStream does: blocks, then an empty one."""
    parts = []
    for part in filter(None, (data[:700], data[700:])):
        packed = bytes(numcodecs.lz4.compress(part))[4:]
        parts.append(struct.pack("<8sBiii", b"LZ4Block", 0x26, len(packed), len(part), 0) + packed)
    return b"".join(parts) + struct.pack("<8sBiii", b"LZ4Block", 0x16, 0, 0, 0)


PACK: dict[str, Callable[[bytes], bytes]] = {
    "raw": bytes,
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "xz": lzma.compress,
    "zstd": lambda data: bytes(imagecodecs.zstd_encode(data)),
    "blosc": lambda data: bytes(numcodecs.Blosc(cname="lz4", shuffle=2).encode(data)),
    "lz4": lz4_blocks,
}


@pytest.mark.parametrize("kind", UNPACK)
@pytest.mark.parametrize("compressible", [True, False])
def test_bytes_are_unpacked_whole_or_not_at_all(kind: str, compressible: bool) -> None:
    data = voxels(shape=(4, 600)).tobytes() if not compressible else bytes(2400)
    there = PACK[kind](data)
    assert unpacked(kind, there, len(data)) == data
    for size in (len(data) - 1, len(data) + 1, 0, 10):
        with pytest.raises(ValueError, match=r"."):
            unpacked(kind, there, size)
    for end in range(0, len(there), 7):
        with pytest.raises(ValueError, match=r"."):
            unpacked(kind, there[:end], len(data))


# ---- N5


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


def group(path: Path, **attributes: Any) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    (path / "attributes.json").write_text(json.dumps(attributes))
    return path


@pytest.mark.parametrize("kind", UNPACK)
@pytest.mark.parametrize("mode", [0, 1])
def test_n5_blocks_of_every_compression_are_read(tmp_path: Path, kind: str, mode: int) -> None:
    data = voxels("uint16", (3, 17, 23))
    path = group(
        tmp_path / "a.n5",
        dimensions=[23, 17, 3],
        blockSize=[32, 9, 2],
        dataType="uint16",
        **({"compressionType": kind} if mode else {"compression": {"type": kind}}),
    )
    for y in range(2):
        for z in range(2):
            part = data[2 * z : 2 * z + 2, 9 * y : 9 * y + 9]
            size = part.shape[::-1]
            head = struct.pack(">HH3I", mode, 3, *size)
            head += struct.pack(">I", part.size) if mode else b""
            (path / f"0/{y}").mkdir(parents=True, exist_ok=True)
            (path / f"0/{y}/{z}").write_bytes(head + PACK[kind](part.astype(">u2").tobytes()))
    source, found = facts(path)
    np.testing.assert_array_equal(found, data)
    assert found.dtype == source.dtype == np.uint16
    whole = (path / "0/1/1").read_bytes()
    for damaged in (
        whole[:-1],
        whole[:10],
        b"",
        struct.pack(">HH3I", mode, 3, 1, 1, 1) + whole[16:],
    ):
        (path / "0/1/1").write_bytes(damaged)
        refused(path, "block 0/1/1 .*damaged")


def test_n5_blocks_of_other_programs_may_reach_beyond_the_volume(tmp_path: Path) -> None:
    path = group(tmp_path / "a.n5", dimensions=[3, 3, 3], blockSize=[4, 4, 4], dataType="uint8")
    (path / "0/0").mkdir(parents=True)
    data = voxels(shape=(4, 4, 4))
    (path / "0/0/0").write_bytes(struct.pack(">HH3I", 0, 3, 4, 4, 4) + data.tobytes())
    np.testing.assert_array_equal(facts(path)[1], data[:3, :3, :3])


def test_missing_n5_blocks_are_counted_and_refused_unless_allowed(tmp_path: Path) -> None:
    path = n5(tmp_path / "a.n5", voxels())
    (path / "0/0/0").unlink()
    (path / "2/1/0").unlink()
    refused(path, "2 of its 9 chunks are not there.*--missing-chunks blank")
    source, found = facts(path, allowed=ALLOW)
    expected = voxels()
    expected[:, :8, :8] = expected[:, 8:16, 16:] = 0
    np.testing.assert_array_equal(found, expected)
    assert source.chunks is not None and source.chunks.missing() == 2


def test_an_n5_block_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    path = n5(tmp_path / "a.n5", voxels())
    (path / "0/0/0").unlink()
    (path / "0/0/0").mkdir()
    refused(path, "0/0/0 is a folder; expected a file")


LEVELS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "n5-viewer": (
        {
            "pixelResolution": {"dimensions": [5, 4, 40], "unit": "nm"},
            "scales": [[1, 1, 1], [2, 2, 1]],
        },
        {},
    ),
    "BigDataViewer": (
        {"pixelResolution": {"dimensions": [5, 4, 40], "unit": "nm"}},
        {"downsamplingFactors": [2, 2, 1]},
    ),
    "OpenOrganelle": (
        {},
        {
            "transform": {
                "axes": ["z", "y", "x"],
                "scale": [40, 8, 10],
                "translate": [0, 2, 2.5],
                "units": ["nm"] * 3,
            }
        },
    ),
    "OpenOrganelle's group": (
        {
            "multiscales": [
                {
                    "datasets": [
                        {
                            "path": "s1",
                            "transform": {
                                "order": "F",
                                "scale": [0.01, 0.008, 0.04],
                                "translate": [0.0025, 0.002, 0],
                                "units": ["um"] * 3,
                            },
                        }
                    ]
                }
            ]
        },
        {},
    ),
    "Neuroglancer": (
        {"resolution": [5, 4, 40], "units": ["nm", "nm", "nm"], "axes": ["x", "y", "z"]},
        {"downsamplingFactors": [2, 2, 1]},
    ),
}


@pytest.mark.parametrize("writer", LEVELS)
def test_n5_levels_have_their_own_voxel_size_and_place(tmp_path: Path, writer: str) -> None:
    above, own = LEVELS[writer]
    group(tmp_path / "a.n5", n5="4.0.0")
    group(tmp_path / "a.n5/em", **above)
    n5(tmp_path / "a.n5/em/s1", voxels(), **own)
    for path, inside in ((tmp_path / "a.n5", "em/s1"), (tmp_path / "a.n5/em/s1", None)):
        source, found = facts(path, inside)
        np.testing.assert_array_equal(found, voxels())
        assert source.voxel is not None and tuple(source.voxel) == pytest.approx((40, 8, 10))
        assert source.origin == pytest.approx((0, 2, 2.5))


def test_n5_axes_are_followed_by_name_and_single_ones_looked_through(tmp_path: Path) -> None:
    path = n5(tmp_path / "a.n5", voxels().transpose(2, 1, 0), axes=["z", "y", "x"])
    np.testing.assert_array_equal(facts(path)[1], voxels())
    path = n5(
        tmp_path / "b.n5",
        voxels()[None, :, None],
        axes=["x", "y", "c", "z", "t"],
        pixelResolution={"dimensions": [5, 4, 1, 40, 1], "unit": "nm"},
    )
    source, found = facts(path)
    np.testing.assert_array_equal(found, voxels())
    assert source.voxel == VOXEL
    refused(n5(tmp_path / "c.n5", voxels(shape=(2, 3, 8, 9)), axes=list("xyzc")), "2 entries along")


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"dimensions": [2**40, 4, 4]}, "which cannot be"),
        ({"dimensions": [2**22] * 3}, "which cannot be"),
        ({"dimensions": [-1, 4, 4]}, "expected whole numbers"),
        ({"blockSize": [2**20] * 3}, "has blocks of"),
        ({"blockSize": [8, 8]}, "do not fit"),
        ({"dataType": "object"}, "type object; expected one of"),
        ({"compression": {"type": "jpeg"}}, "compressed with jpeg; emgen reads raw"),
    ],
)
def test_n5_that_cannot_be_is_refused(
    tmp_path: Path, attributes: dict[str, Any], message: str
) -> None:
    refused(n5(tmp_path / "a.n5", voxels(), **attributes), message)


# ---- precomputed


def precomputed(
    path: Path,
    data: Array,
    offset: tuple[int, int, int] = (0, 0, 0),
    channels: int = 1,
    **scale: Any,
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
            "chunk_size": [8, 8, 4],
            "resolution": [5, 4, 40],
            "voxel_offset": offset[::-1],
            **scale,
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


def info_of(path: Path) -> dict[str, Any]:
    info: dict[str, Any] = json.loads((path / "info").read_text())
    return info


def with_info(path: Path, **changes: Any) -> Path:
    (path / "info").write_text(json.dumps({**info_of(path), **changes}))
    return path


PACKED_FILES: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zstd": PACK["zstd"],
    ".br": lambda data: bytes(imagecodecs.brotli_encode(data)),
}


@pytest.mark.parametrize("suffix", PACKED_FILES)
@pytest.mark.parametrize("encoding", ["raw", "png"])
def test_chunks_that_cloudvolume_packed_are_read(
    tmp_path: Path, suffix: str, encoding: str
) -> None:
    path = precomputed(tmp_path / "a", voxels(), (-3, 20, 100), encoding=encoding)
    files = list((path / "5_4_40").iterdir())
    for file in files:
        file.with_name(file.name + suffix).write_bytes(PACKED_FILES[suffix](file.read_bytes()))
        file.unlink()
    source, found = facts(path)
    np.testing.assert_array_equal(found, voxels())
    assert source.offset == (-3, 20, 100)
    files[0].write_bytes(b"")
    refused(path, "is there twice")
    files[0].unlink()
    damaged = files[0].with_name(files[0].name + suffix)
    damaged.write_bytes(damaged.read_bytes()[:-5])
    refused(path, f"chunk {files[0].name} is damaged")


@pytest.mark.parametrize("encoding", ["raw", "jpeg", "png", "compressed_segmentation"])
@pytest.mark.parametrize("sharded", [False, True])
def test_every_encoding_is_read_and_its_missing_chunks_refused(
    tmp_path: Path, encoding: str, sharded: bool
) -> None:
    data = voxels("uint32" if encoding == "compressed_segmentation" else "uint8")
    smooth = np.add.outer(np.arange(17), np.arange(23)) + np.zeros(SHAPE, data.dtype)
    data = smooth.astype(data.dtype) if encoding == "jpeg" else data
    scale: dict[str, Any] = {"encoding": encoding}
    if sharded:
        scale["sharding"] = {
            "@type": "neuroglancer_uint64_sharded_v1",
            "preshift_bits": 0,
            "minishard_bits": 1,
            "shard_bits": 2,
            "hash": "identity",
            "data_encoding": "gzip",
        }
    path = precomputed(tmp_path / "a", data, **scale)
    source, found = facts(path)
    assert found.dtype == source.dtype == data.dtype
    np.testing.assert_allclose(found.astype(int), data, atol=6 if encoding == "jpeg" else 0)
    lost = min((path / "5_4_40").iterdir())
    lost.unlink()
    refused(path, "of its 18 chunks are not there.*--missing-chunks blank")
    source, found = facts(path, allowed=ALLOW)
    assert source.chunks is not None
    missing = source.chunks.missing()
    assert 1 <= missing < 18 and (sharded or missing == 1)
    assert np.count_nonzero(found == 0) > np.count_nonzero(data == 0)


def test_a_scale_without_chunks_is_refused_and_another_can_be_chosen(tmp_path: Path) -> None:
    path = precomputed(tmp_path / "a", voxels())
    fine = {**info_of(path)["scales"][0], "key": "fine", "resolution": [2, 2, 40]}
    with_info(path, scales=[*info_of(path)["scales"], fine])
    for make in (lambda: None, (path / "fine").mkdir):
        make()
        refused(path, "no chunk of scale fine.*with files: 5_4_40: choose one with --dataset")
    np.testing.assert_array_equal(facts(path, "5_4_40")[1], voxels())
    refused(path, "no scale coarse; found 5_4_40, fine", "coarse")
    with_info(path, scales=[info_of(path)["scales"][0], {**fine, "hidden": True}])
    np.testing.assert_array_equal(facts(path)[1], voxels())


def test_what_a_precomputed_volume_says_of_itself_is_said(tmp_path: Path) -> None:
    path = with_info(precomputed(tmp_path / "a", voxels()), type="segmentation")
    assert "--label" in facts(path)[0].notes[0]


@pytest.mark.parametrize(
    ("scale", "volume", "message"),
    [
        ({"size": [2**40, 4, 4]}, {}, "which cannot be"),
        ({"size": ["4", 4, 4]}, {}, "expected three whole numbers"),
        ({"chunk_sizes": [[2**20, 2**10, 2**5]]}, {}, "chunks have"),
        ({"chunk_sizes": [[0, 8, 8]]}, {}, "chunks have"),
        ({"chunk_sizes": []}, {}, "no chunk_sizes"),
        ({"resolution": [0, 4, 40]}, {}, "expected three lengths in nm above 0"),
        ({"encoding": "kempressed"}, {}, "encoded as kempressed; emgen reads raw"),
        ({"key": "../b"}, {}, "leads elsewhere"),
        ({"key": "/etc"}, {}, "leads elsewhere"),
        ({}, {"data_type": "float64"}, "type float64; expected one of"),
        ({}, {"redirect": "gs://elsewhere"}, "has moved to gs://elsewhere"),
        ({}, {"@type": "neuroglancer_legacy_mesh"}, "cannot be opened as precomputed"),
        ({}, {"scales": []}, "cannot be opened as precomputed"),
    ],
)
def test_precomputed_that_cannot_be_is_refused(
    tmp_path: Path, scale: dict[str, Any], volume: dict[str, Any], message: str
) -> None:
    path = precomputed(tmp_path / "a", voxels())
    scales = [{**info_of(path)["scales"][0], **scale}]
    refused(with_info(path, **{"scales": scales, **volume}), message)


def test_a_raw_chunk_of_another_length_is_refused(tmp_path: Path) -> None:
    path = precomputed(tmp_path / "a", voxels())
    file = next((path / "5_4_40").iterdir())
    file.write_bytes(file.read_bytes()[:-1])
    refused(path, "is damaged: it has .* bytes, expected")
    file.unlink()
    file.mkdir()
    refused(path, "is a folder; expected a file")


# ---- behind an address


@pytest.fixture
def address(tmp_path: Path) -> Iterator[str]:
    """Of a web server that has what is in the folder."""
    with serving(tmp_path) as server:
        yield server.url


@pytest.mark.parametrize("encoding", ["raw", "png"])
def test_precomputed_behind_an_address_is_read_and_what_is_missing_refused(
    tmp_path: Path, address: str, encoding: str
) -> None:
    path = precomputed(tmp_path / "a", voxels(), encoding=encoding)
    np.testing.assert_array_equal(facts(f"precomputed://{address}/a")[1], voxels())
    first, second, *_ = sorted((path / "5_4_40").iterdir())
    # as a server gives what was stored packed
    first.write_bytes(gzip.compress(first.read_bytes()))
    np.testing.assert_array_equal(facts(f"precomputed://{address}/a")[1], voxels())
    second.write_text("<html>come back later</html>")
    refused(f"precomputed://{address}/a", f"chunk {second.name} is damaged")
    second.unlink()
    refused(f"precomputed://{address}/a", "1 of its 18 chunks are not there")
    source, _ = facts(f"precomputed://{address}/a", allowed=ALLOW)
    assert source.chunks is not None and source.chunks.missing() == 1
    refused(f"precomputed://{address}/b", "has no file info")


def test_n5_behind_an_address_is_read_with_the_size_its_group_says(
    tmp_path: Path, address: str
) -> None:
    group(tmp_path / "a.n5/em", **LEVELS["n5-viewer"][0])
    path = n5(tmp_path / "a.n5/em/s1", voxels())
    source, found = facts(f"n5://{address}/a.n5", "em/s1")
    np.testing.assert_array_equal(found, voxels())
    assert source.voxel is not None and tuple(source.voxel) == pytest.approx((40, 8, 10))
    (path / "0/0/0").unlink()
    refused(f"n5://{address}/a.n5", "1 of its 9 chunks are not there", "em/s1")
    refused(f"n5://{address}/a.n5", "has no data set em/s2", "em/s2")
    refused(f"n5://{address}/a.n5", "leads out of", "em/../../s2")
