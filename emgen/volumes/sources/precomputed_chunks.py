"""The chunks of a precomputed scale: files of their own, packed or not, or parts of shards."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorstore

from emgen.errors import EmgenError
from emgen.geometry import Box, Zyx, zyx
from emgen.volumes.sources import packed
from emgen.volumes.sources.chunks import Files, Folder, Layout, Load
from emgen.volumes.sources.foreign import Array

# CloudVolume and igneous pack files on a disk and say so in their names
PACKED = {
    "": None,
    ".gz": packed.gzip,
    ".br": packed.brotli,
    ".zstd": packed.zstd,
    ".xz": packed.xz,
    ".bz2": packed.bzip2,
}
GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Scale:
    """A scale of a precomputed volume.

    Attributes:
        key: its folder.
        shape: voxels (z, y, x).
        chunk: voxels of a chunk (z, y, x).
        offset: of the first voxel (z, y, x).
        dtype: of the voxels.
        encoding: of the chunks.
        sharded: whether the chunks lie in shards.
    """

    key: str
    shape: Zyx
    chunk: Zyx
    offset: Zyx
    dtype: np.dtype[Any]
    encoding: str
    sharded: bool


def loader(
    files: Files, info: dict[str, Any], described: dict[str, Any], scale: Scale, layout: Layout
) -> Load:
    """How a chunk is read.

    Args:
        files: of the volume.
        info: what its file info says.
        described: the scale in it.
        scale: the same, checked.
        layout: the chunks' places.
    """
    unpack = None if scale.encoding == "raw" else _Decoder(info, described)
    shards = _shards(files, scale, described["sharding"]) if scale.sharded else None

    def load(index: Zyx) -> Array | None:
        box = layout.box(index)
        name = _name(box, scale)
        size = box.size * scale.dtype.itemsize
        try:
            if shards is None:
                data = _bytes(files, f"{scale.key}/{name}", size)
            else:
                data = _from_shard(shards, _number(index, layout.grid))
            if data is None:
                return None
            if unpack is not None:
                return unpack(data, box.shift(scale.offset), name)
            if len(data) != size:
                raise ValueError(f"it has {len(data)} bytes, expected {size}")
        except EmgenError:
            raise
        except Exception as error:
            reason = " ".join(str(error).split())[:200]
            raise EmgenError(
                f"{layout.where}: chunk {name} is damaged: {reason}; copy it again"
            ) from None
        return np.frombuffer(data, scale.dtype.newbyteorder("<")).reshape(box.shape)

    return load


def there(address: str, scale: Scale, layout: Layout) -> Iterator[Zyx]:
    """The chunks in a folder."""
    folder = Path(address) / scale.key
    if not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        for entry in entries:
            index = _index(entry.name, scale, layout)
            if index is not None:
                yield index


def _name(box: Box, scale: Scale) -> str:
    """The file of a chunk: first and last voxel, x first."""
    placed = box.shift(scale.offset)
    return "_".join(f"{a}-{b}" for a, b in zip(placed.start[::-1], placed.stop[::-1], strict=True))


def _index(name: str, scale: Scale, layout: Layout) -> Zyx | None:
    """Which chunk a file is; None for none."""
    stem = next((name.removesuffix(s) for s in PACKED if s and name.endswith(s)), name)
    try:
        starts = [int(part[: part.index("-", 1)]) for part in stem.split("_")]
        places = zip(starts[::-1], scale.offset, scale.chunk, strict=True)
        index = zyx([(start - offset) // chunk for start, offset, chunk in places])
    except ValueError:
        return None
    inside = all(0 <= i < n for i, n in zip(index, layout.grid, strict=True))
    return index if inside and _name(layout.box(index), scale) == stem else None


def _bytes(files: Files, name: str, size: int) -> bytes | None:
    """A chunk's bytes, unpacked; None where there is no file.

    Args:
        files: of the volume.
        name: of the chunk.
        size: of its voxels in bytes; encoded ones may be a little larger.
    """
    most = 2 * size + 2**20
    if not isinstance(files, Folder):
        data = files.read(name)
        # servers may deliver what lies there packed as it lies there
        as_it_lies = data is not None and data[:2] == GZIP and len(data) != size
        return packed.gzip(data, most) if data is not None and as_it_lies else data
    found = {suffix: files.read(name + suffix) for suffix in PACKED}
    stored = [suffix for suffix, data in found.items() if data is not None]
    if len(stored) > 1:
        raise ValueError(
            f"it is there twice, as {' and '.join(name + suffix for suffix in stored)}"
        )
    if not stored:
        return None
    data, unpack = found[stored[0]], PACKED[stored[0]]
    assert data is not None
    return data if unpack is None else unpack(data, most)


class _Decoder:
    """Chunks in another encoding than raw, through tensorstore's memory."""

    def __init__(self, info: dict[str, Any], described: dict[str, Any]) -> None:
        context = tensorstore.Context()
        self._files = tensorstore.KvStore.open("memory://", context=context).result()
        alone = {key: value for key, value in described.items() if key != "sharding"}
        self._files.write("info", json.dumps({**info, "scales": [alone]})).result()
        self._key = str(described["key"])
        self._store = _open({"driver": "memory"}, 0, context)

    def __call__(self, data: bytes, placed: Box, name: str) -> Array:
        where = f"{self._key}/{name}"
        self._files.write(where, data).result()
        try:
            return np.array(_part(self._store, placed).read().result())
        finally:
            self._files.delete_range(tensorstore.KvStore.KeyRange(where, where + "\0")).result()


def _shards(files: Files, scale: Scale, sharding: dict[str, Any]) -> Any:
    """The chunks in the shards of a scale, by their numbers.

    Tensorstore's own volumes of shards are not read: where a shard is missing, they give zeros.
    """
    folder = f"{files.where.rstrip('/')}/{scale.key}/"
    base = {"driver": "file", "path": folder} if isinstance(files, Folder) else folder
    spec = {"driver": "neuroglancer_uint64_sharded", "base": base, "metadata": sharding}
    return tensorstore.KvStore.open(spec).result()


def _from_shard(shards: Any, number: int) -> bytes | None:
    found = shards.read(number.to_bytes(8, "big")).result()
    return None if found.state == "missing" else bytes(found.value)


def _number(index: Zyx, grid: Zyx) -> int:
    """The number of a chunk in shards, its compressed Morton code: bits of x, y and z in turn, as many as each has.

    >>> [_number((z, y, x), (2, 1, 3)) for z in (0, 1) for y in (0,) for x in (0, 1, 2)]
    [0, 1, 4, 2, 3, 6]
    """
    number = place = 0
    for bit in range(max(grid).bit_length()):
        for position, count in zip(index[::-1], grid[::-1], strict=True):
            if 1 << bit < count:
                number |= (position >> bit & 1) << place
                place += 1
    return number


def _open(kvstore: Any, number: int, context: Any) -> Any:
    spec = {
        "driver": "neuroglancer_precomputed",
        "kvstore": kvstore,
        "scale_index": number,
        "fill_missing_data_reads": False,
    }
    return tensorstore.open(spec, open=True, read=True, context=context).result()


def _part(store: Any, placed: Box) -> Any:
    """A box (z, y, x) of a store that counts x first and has one channel."""
    return store.T[0][placed.slices]
