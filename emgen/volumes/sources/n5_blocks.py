"""The blocks of N5: a header that says how large they are, then compressed voxels."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from emgen.errors import EmgenError
from emgen.geometry import Zyx
from emgen.volumes.sources.axes import Axes
from emgen.volumes.sources.foreign import Array
from emgen.volumes.sources.packed import unpacked

DEFAULT, VARIABLE = 0, 1  # modes of a block; 2 holds objects


@dataclass(frozen=True)
class Block:
    """How the blocks of a data set are unpacked.

    Attributes:
        where: the data set, for messages.
        axes: which of its axes are z, y and x.
        dtype: of its voxels in the file.
        largest: voxels of a whole block, slowest axis first.
        compression: one of `packed.UNPACK`.
    """

    where: str
    axes: Axes
    dtype: np.dtype[Any]
    largest: tuple[int, ...]
    compression: str

    def voxels(self, data: bytes, shape: Zyx, name: str) -> Array:
        """The voxels of a block, clipped to the volume.

        Args:
            data: the file.
            shape: voxels (z, y, x) that it must cover.
            name: of the file, for messages.

        Raises:
            EmgenError: it is damaged, or covers less.
        """
        try:
            size, start = self._header(data)
            count = math.prod(size) * self.dtype.itemsize
            whole = unpacked(self.compression, data[start:], count)
        except (ValueError, struct.error) as error:
            raise EmgenError(
                f"{self.where}: block {name} is damaged: {error}; copy it again"
            ) from None
        # of axes of length 1 some programs write more than there is
        kept = tuple(
            slice(None) if axis in self.axes.kept else slice(1) for axis in range(len(size))
        )
        block = self.axes.turned(np.frombuffer(whole, self.dtype).reshape(size)[kept])
        if any(n < m for n, m in zip(block.shape, shape, strict=True)):
            raise EmgenError(
                f"{self.where}: block {name} has {block.shape} voxels, but should cover {shape} (z, y, x); "
                "it is damaged: copy it again"
            )
        z, y, x = shape
        return block[:z, :y, :x]

    def _header(self, data: bytes) -> tuple[tuple[int, ...], int]:
        """How many voxels a block has, slowest axis first, and where they begin."""
        mode, count = struct.unpack_from(">HH", data)
        if mode not in (DEFAULT, VARIABLE) or count != len(self.largest):
            raise ValueError(
                f"its header says mode {mode} and {count} dimensions; expected voxels of "
                f"{len(self.largest)} dimensions"
            )
        size = struct.unpack_from(f">{count}I", data, 4)[::-1]
        if any(n > most for n, most in zip(size, self.largest, strict=True)):
            raise ValueError(f"its header says {size} voxels, more than {self.largest}")
        start = 4 + 4 * count
        if mode == VARIABLE:
            (number,) = struct.unpack_from(">I", data, start)
            if number != math.prod(size):
                raise ValueError(f"its header says {number} entries for {size} voxels")
            start += 4
        return size, start
