"""Chunks of an OME-Zarr that are not there: counted before anything is read, and found box by box.

By the specification a chunk that is not there holds the fill value, and many writers leave out chunks that are blank.
A copy that broke off leaves out others. Nobody can tell the two apart but who made the volume.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from zarr.abc.store import RangeByteRequest, SuffixByteRequest
from zarr.codecs import ShardingCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import LocalStore

from emgen.errors import EmgenError
from emgen.geometry import Box, Zyx, zyx
from emgen.volumes.stores import CheckedStore
from emgen.volumes.volume import Volume

Flags = npt.NDArray[np.bool_]

MOST_COUNTED = 2**27  # chunks, one byte of memory each
MOST_LISTED = 100_000  # chunks of a remote store that are listed: a hundred requests
SHOWN = 3  # places that a message names
ABSENT = 2**64 - 1  # offset and length of a chunk that is not in its shard


@dataclass(frozen=True)
class MissingChunks:
    """Which chunks of a volume are not there.

    Attributes:
        present: True where a chunk is there, for every chunk of the volume (z, y, x).
        chunk: its voxels (z, y, x).
        shape: voxels of the volume (z, y, x).
    """

    present: Flags
    chunk: Zyx
    shape: Zyx

    @property
    def count(self) -> int:
        """How many are missing."""
        return int(self.present.size - np.count_nonzero(self.present))

    def boxes(self) -> Iterator[Box]:
        """Their measured voxels, one box a chunk, in (z, y, x) order."""
        for place in np.argwhere(~self.present):
            yield _box(zyx(place.tolist()), self.chunk).clip(self.shape)

    def __str__(self) -> str:
        some = [f"{box.start} to {box.stop}" for box in itertools.islice(self.boxes(), SHOWN)]
        more = f" and {self.count - SHOWN} more" if self.count > SHOWN else ""
        return f"{self.count} of its {self.present.size} chunks are missing: voxels {', '.join(some)} (z, y, x){more}"


def count_missing(volume: Volume) -> MissingChunks | None:
    """Which chunks of a volume are not there, by listing its folder; chunks in the shards of a local folder too.

    A million chunks take seconds. None where nothing can be listed (a web server), and where there are too many chunks:
    a missing one is met then when it is read.

    Raises:
        EmgenError: the folder cannot be listed, or a shard has no index.
    """
    layout = _Layout.of(volume)
    chunks = math.prod(layout.grid(layout.inner))
    keys = math.prod(layout.grid(layout.outer))
    if chunks > MOST_COUNTED or (
        layout.local is None and (not layout.listed or keys > MOST_LISTED)
    ):
        return None
    try:
        found = _listed(layout, volume)
    except (OSError, ValueError) as error:
        raise EmgenError(f"{volume.path}: its chunks cannot be listed ({error})") from None
    return MissingChunks(found, layout.inner, volume.shape)


def missing_boxes(volume: Volume, box: Box) -> list[Box]:
    """The measured voxels of missing chunks inside a box: they hold no data, whatever `Volume.read` gives for them.

    It asks for each chunk that the box touches (and reads the index of each shard), so ask it of what is read anyway. A
    volume that was opened with `missing="refuse"` needs no asking: reading it gives all chunks or an error.

    Returns:
        One box a chunk, cut to `box`, in (z, y, x) order; empty where all are there.

    Raises:
        EmgenError: a shard has no index.
    """
    layout = _Layout.of(volume)
    places = list(_places(box, layout.outer))
    try:
        present = sync(_present_parts(layout, places))
    except (OSError, ValueError) as error:
        raise EmgenError(
            f"{volume.path}, level {volume.level}: whether chunks are missing in voxels {box.start} to {box.stop} cannot "
            f"be found out ({error})"
        ) from None
    missing = []
    for place, flags in zip(places, present, strict=True):
        for inner in np.argwhere(~flags):
            first = [p * n + i for p, n, i in zip(place, flags.shape, inner, strict=True)]
            part = _box(zyx(first), layout.inner).intersect(box)
            if part.size:
                missing.append(part)
    return sorted(missing, key=lambda part: part.start)


@dataclass(frozen=True)
class _Layout:
    """How an array lies in its store, in z, y, x.

    Attributes:
        volume: whose it is.
        outer: voxels of what lies under one key: of a shard, or of a chunk where there are none.
        inner: voxels of a chunk.
        sharding: the codec of shards.
        local: the array's folder, None in other stores.
        listed: whether its store lists keys.
    """

    volume: Volume
    outer: Zyx
    inner: Zyx
    sharding: ShardingCodec | None
    local: Path | None
    listed: bool

    @classmethod
    def of(cls, volume: Volume) -> _Layout:
        array = volume.array
        store = array.store_path.store
        inner_store = store._store if isinstance(store, CheckedStore) else store
        local = inner_store.root / array.path if isinstance(inner_store, LocalStore) else None
        codecs = getattr(array.metadata, "codecs", ())
        sharding = codecs[0] if codecs and isinstance(codecs[0], ShardingCodec) else None
        inner = zyx([array.chunks[place] for place in volume.places])
        return cls(volume, volume.write_unit, inner, sharding, local, store.supports_listing)

    def grid(self, size: Zyx) -> Zyx:
        """How many boxes of a size fill the volume (z, y, x)."""
        return zyx([-(-n // s) for n, s in zip(self.volume.shape, size, strict=True)])

    @property
    def inside(self) -> Zyx:
        """Chunks of a shard (z, y, x)."""
        return zyx([o // i for o, i in zip(self.outer, self.inner, strict=True)])

    @property
    def tail(self) -> int:
        """Bytes of a shard's index."""
        assert self.sharding is not None
        return 16 * math.prod(self.inside) + 4 * (len(self.sharding.index_codecs) - 1)

    def key(self, place: Zyx) -> str:
        """Of a shard or chunk in the store."""
        coordinates = [0] * self.volume.array.ndim
        for axis, number in zip(self.volume.places, place, strict=True):
            coordinates[axis] = number
        array = self.volume.array
        return f"{array.path}/{array.metadata.encode_chunk_key(tuple(coordinates))}".lstrip("/")

    def indexed(self, index: bytes) -> Flags:
        """Which chunks a shard has, from its index."""
        assert self.sharding is not None
        if len(index) != self.tail:
            raise ValueError(f"a shard is shorter than its index of {self.tail} bytes: it was cut")
        pairs = np.frombuffer(index, "<u8", 2 * math.prod(self.inside)).reshape(-1, 2)
        sizes = [1] * self.volume.array.ndim
        for axis, number in zip(self.volume.places, self.inside, strict=True):
            sizes[axis] = number
        there: Flags = (pairs != ABSENT).any(1).reshape(sizes)
        order = [
            *self.volume.places,
            *(i for i, n in enumerate(sizes) if i not in self.volume.places),
        ]
        return there.transpose(order).reshape(self.inside)

    def at_start(self) -> bool:
        """Whether the index comes before the chunks."""
        return self.sharding is not None and self.sharding.index_location.value == "start"


def _listed(layout: _Layout, volume: Volume) -> Flags:
    found = np.zeros(layout.grid(layout.outer), np.bool_)
    names = _local_names(layout.local) if layout.local else sync(_remote_names(layout))
    places = [place for place in (_place(name, volume, found.shape) for name in names) if place]
    if places:
        found[tuple(np.array(places).T)] = True
    if layout.sharding is None:
        return found
    parts = np.zeros(layout.grid(layout.inner), np.bool_)
    for place in places:
        start = [p * n for p, n in zip(place, layout.inside, strict=True)]
        there = _local_index(layout, place) if layout.local else np.ones(layout.inside, np.bool_)
        target = parts[tuple(slice(a, a + n) for a, n in zip(start, layout.inside, strict=True))]
        target[...] = there[tuple(slice(0, n) for n in target.shape)]
    return parts


def _place(name: str, volume: Volume, grid: Sequence[int]) -> Zyx | None:
    """Chunk numbers (z, y, x) of a key below the array, None where it is no chunk of it."""
    numbers = name.replace(".", "/").removeprefix("c/").split("/")
    if len(numbers) != volume.array.ndim or not all(n.isascii() and n.isdecimal() for n in numbers):
        return None
    place = [int(numbers[axis][:12]) for axis in volume.places]
    return zyx(place) if all(p < n for p, n in zip(place, grid, strict=True)) else None


def _local_names(folder: Path | None) -> Iterator[str]:
    """Paths of all files below a folder, by listing folders only."""
    assert folder is not None
    waiting = [""]
    while waiting:
        below = waiting.pop()
        with os.scandir(folder / below) as entries:
            for entry in entries:
                name = f"{below}/{entry.name}".lstrip("/")
                if entry.is_dir():
                    waiting.append(name)
                else:
                    yield name


async def _remote_names(layout: _Layout) -> list[str]:
    array = layout.volume.array
    prefix = f"{array.path}/".lstrip("/")
    return [key.removeprefix(prefix) async for key in array.store_path.store.list_prefix(prefix)]


def _local_index(layout: _Layout, place: Zyx) -> Flags:
    assert layout.local is not None
    key = layout.key(place)
    path = layout.local / key.removeprefix(f"{layout.volume.array.path}/")
    with path.open("rb") as shard:
        if not layout.at_start():
            shard.seek(max(0, os.fstat(shard.fileno()).st_size - layout.tail))
        try:
            return layout.indexed(shard.read(layout.tail))
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from None


async def _present_parts(layout: _Layout, places: Sequence[Zyx]) -> list[Flags]:
    """For each key, which of its chunks are there."""
    return list(await asyncio.gather(*(_present(layout, place) for place in places)))


async def _present(layout: _Layout, place: Zyx) -> Flags:
    store: Any = layout.volume.array.store_path.store
    if layout.sharding is None:
        return np.full((1, 1, 1), await store.exists(layout.key(place)))
    if not await store.exists(layout.key(place)):
        return np.zeros(layout.inside, np.bool_)
    part: Any = SuffixByteRequest(layout.tail)
    if layout.at_start():
        part = RangeByteRequest(0, layout.tail)
    index = await store.get(layout.key(place), default_buffer_prototype(), part)
    return layout.indexed(b"" if index is None else index.to_bytes())


def _box(place: Zyx, size: Zyx) -> Box:
    start = [p * s for p, s in zip(place, size, strict=True)]
    return Box(zyx(start), zyx([a + s for a, s in zip(start, size, strict=True)]))


def _places(box: Box, size: Zyx) -> Iterator[Zyx]:
    """Numbers (z, y, x) of the boxes of a size that a box touches."""
    ranges = [range(a // s, -(-b // s)) for a, b, s in zip(box.start, box.stop, size, strict=True)]
    for place in itertools.product(*ranges):
        yield zyx(place)
