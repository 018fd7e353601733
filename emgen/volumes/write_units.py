"""The write units of a level, numbered, and the file of each: what the ledger of a level counts.

A write unit is a shard, or a chunk where there are no shards. It has one writer and one file, which may be absent where
all of its voxels are 0.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emgen.errors import EmgenError
from emgen.geometry import Box, Zyx, zyx
from emgen.volumes.ledger import Entry, State
from emgen.volumes.stamp import Stamp, clear, compared, secured
from emgen.volumes.volume import Volume


@dataclass(frozen=True)
class WriteUnits:
    """The write units of a volume on a disk, counted in (z, y, x) order with x running fastest.

    Attributes:
        volume: one level of it.
    """

    volume: Volume

    @cached_property
    def counts(self) -> Zyx:
        """Write units along each axis."""
        volume = self.volume
        return zyx([-(-n // u) for n, u in zip(volume.shape, volume.write_unit, strict=True)])

    @cached_property
    def folder(self) -> Path:
        """Of the level's array."""
        return Path(self.volume.path) / self.volume.level

    def __len__(self) -> int:
        return math.prod(self.counts)

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self)))

    def place(self, number: int) -> Zyx:
        """How many write units lie before it along each axis."""
        _, ny, nx = self.counts
        return number // (ny * nx), number // nx % ny, number % nx

    def box(self, number: int) -> Box:
        """The voxels of a write unit."""
        start = [i * u for i, u in zip(self.place(number), self.volume.write_unit, strict=True)]
        stop = [a + u for a, u in zip(start, self.volume.write_unit, strict=True)]
        return Box(zyx(start), zyx(stop)).clip(self.volume.shape)

    def file(self, number: int) -> Path:
        """Where a write unit is stored."""
        return self.folder / self.volume.array.metadata.encode_chunk_key(self.place(number))

    def files(self, number: int) -> list[Path]:
        """All files of a write unit: one."""
        return [self.file(number)]

    def touching(self, box: Box) -> list[int]:
        """Numbers of the write units that share voxels with a box, rising."""
        _, ny, nx = self.counts
        ranges = [
            range(a // u, -(-b // u))
            for a, b, u in zip(box.start, box.stop, self.volume.write_unit, strict=True)
        ]
        return [(k * ny + j) * nx + i for k, j, i in itertools.product(*ranges)]

    def damage(
        self, number: int, stamps: tuple[Stamp | None, ...], thorough: bool = False
    ) -> str | None:
        """What is wrong with the file of a write unit, None if it holds what was written.

        Args:
            number: of the write unit.
            stamps: of its file, as the ledger has them.
            thorough: it is read even where size and time are those of the stamp.
        """
        return compared([self.file(number)], stamps, thorough)[0]

    def write(
        self, box: Box, voxels: npt.NDArray[Any], made_of: str | None, seconds: float | None = None
    ) -> list[Entry]:
        """Write a box of whole write units, and return when they are safe on the disk.

        Args:
            box: of the level.
            voxels: of the box.
            made_of: digest of what they were computed from.
            seconds: that this took.

        Returns:
            What the ledger is to say of each write unit.

        Raises:
            EmgenError: what was written is not there.
            OSError: it cannot be written.
        """
        for number in self.touching(box):
            clear(self.file(number))
        self.volume.write(box, voxels)
        return [
            self._entry(number, voxels[self.box(number).relative_to(box).slices], made_of, seconds)
            for number in self.touching(box)
        ]

    def _entry(
        self, number: int, voxels: npt.NDArray[Any], made_of: str | None, seconds: float | None
    ) -> Entry:
        stamp = secured(self.file(number), top=self.folder)
        if stamp is None and voxels.any():
            raise EmgenError(
                f"{self.file(number)} was written without an error, but no such file is there; check the disk or "
                "file system, and that no other program removes files; then run again: what is done stays"
            )
        state: State = "done" if voxels.any() else "empty"
        return Entry(number, state, (stamp,), made_of, seconds, *brightness(voxels))

    def is_made(self, number: int, entry: Entry | None, made_of: str) -> bool:
        """Whether a write unit holds what would be made of these sources, as the ledger says and its file shows."""
        return bool(
            entry
            and entry.finished
            and entry.made_of == made_of
            and not self.damage(number, entry.files)
        )


def brightness(voxels: npt.NDArray[Any]) -> tuple[float | None, float | None]:
    """Mean and standard deviation of the finite voxels in grey values, for a ledger; None where there are none."""
    finite = voxels[np.isfinite(voxels)] if voxels.dtype.kind == "f" else voxels
    if not finite.size:
        return None, None
    mean, sd = finite.mean(dtype=np.float64), finite.std(dtype=np.float64)
    return round(float(mean), 3), round(float(sd), 3)
