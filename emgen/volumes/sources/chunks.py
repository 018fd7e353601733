"""Volumes that consist of chunks, each a file or an object of its own: read chunk by chunk, the missing ones counted."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import tensorstore

from emgen.errors import EmgenError
from emgen.geometry import Box, Zyx, zyx
from emgen.volumes.links import inside
from emgen.volumes.opening import MOST_CHUNK_BYTES
from emgen.volumes.sources.foreign import Array, Chunks, Read, plausible

MAX_COUNTED = 2**28  # chunks that are looked for beforehand, a byte each
THREADS = 8  # that read and unpack chunks
Load = Callable[[Zyx], Array | None]


class Files(Protocol):
    """Bytes by name, in a folder or elsewhere."""

    @property
    def where(self) -> str:
        """Their folder or address."""
        ...

    def read(self, name: str) -> bytes | None:
        """What is under a name; None where nothing is."""
        ...


@dataclass(frozen=True)
class Folder:
    """Files on a disk."""

    where: str

    def read(self, name: str) -> bytes | None:
        path = inside(self.where, name, self.where)
        try:
            if path.stat().st_size > MOST_CHUNK_BYTES:
                raise EmgenError(
                    f"{path} has more than {MOST_CHUNK_BYTES} bytes, too many for a chunk"
                )
            return path.read_bytes()
        except IsADirectoryError:
            raise EmgenError(
                f"{path} is a folder; expected a file with a chunk: copy the volume again"
            ) from None
        except (FileNotFoundError, NotADirectoryError):
            return None


@dataclass(frozen=True)
class Objects:
    """Objects under an address of which tensorstore knows the kind (https, s3, gs)."""

    where: str
    store: Any

    @classmethod
    def at(cls, address: str) -> Objects:
        try:
            return cls(address, tensorstore.KvStore.open(f"{address.rstrip('/')}/").result())
        except ValueError as error:
            raise EmgenError(f"{address} cannot be opened: {error}") from None

    def read(self, name: str) -> bytes | None:
        found = self.store.read(name).result()
        return None if found.state == "missing" else bytes(found.value)


def files_at(path: str) -> Files:
    """The files under a path or an address."""
    return Objects.at(path) if "://" in path else Folder(path)


@dataclass(frozen=True)
class Layout:
    """How a volume is cut into chunks, the last ones clipped.

    Attributes:
        where: for messages.
        shape: voxels (z, y, x).
        chunk: voxels of a chunk (z, y, x).
        dtype: of the voxels.
    """

    where: str
    shape: Zyx
    chunk: Zyx
    dtype: np.dtype[Any]

    def __post_init__(self) -> None:
        plausible(self.shape, self.where)
        plausible(self.chunk, self.where, "voxels in a chunk")
        if min(self.chunk) < 1 or math.prod(self.chunk) * self.dtype.itemsize > MOST_CHUNK_BYTES:
            raise EmgenError(
                f"{self.where}: its chunks have {' x '.join(map(str, self.chunk))} voxels (z, y, x); expected "
                f"between 1 voxel and {MOST_CHUNK_BYTES} bytes"
            )

    @property
    def grid(self) -> Zyx:
        """Chunks along each axis."""
        return zyx([-(-n // c) for n, c in zip(self.shape, self.chunk, strict=True)])

    def box(self, index: Zyx) -> Box:
        """The voxels of a chunk."""
        start = [i * c for i, c in zip(index, self.chunk, strict=True)]
        return Box(zyx(start), zyx([a + c for a, c in zip(start, self.chunk, strict=True)])).clip(
            self.shape
        )


def chunked(
    layout: Layout, load: Load, there: Callable[[], Iterator[Zyx]] | None = None
) -> tuple[Read, Chunks]:
    """How boxes are read of a volume in chunks, and which of these are there.

    Args:
        layout: how it is cut.
        load: gives the voxels of a chunk, shape `layout.box(index).shape`; None where it is missing.
        there: the chunks that are there, each once or more; None where they cannot be listed.
    """
    total = math.prod(layout.grid)
    counted = 0
    if there is not None and total <= MAX_COUNTED:
        found = np.zeros(layout.grid, bool)
        for index in there():
            found[index] = True
        counted = total - int(np.count_nonzero(found))
    met: set[Zyx] = set()

    def read(box: Box) -> Array:
        voxels = np.zeros(box.shape, layout.dtype)
        ranges = [
            range(a // c, -(-b // c)) if b > a else range(0)
            for a, b, c in zip(box.start, box.stop, layout.chunk, strict=True)
        ]
        with ThreadPoolExecutor(THREADS) as pool:
            indices = [zyx(index) for index in itertools.product(*ranges)]
            for index, part in zip(indices, pool.map(load, indices), strict=True):
                if part is None:
                    met.add(index)
                    continue
                chunk = layout.box(index)
                shared = chunk.intersect(box)
                voxels[shared.relative_to(box).slices] = part[shared.relative_to(chunk).slices]
        return voxels

    return read, Chunks(total, lambda: max(counted, len(met)))
