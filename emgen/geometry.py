"""Voxels and nanometres: two types that cannot be mixed up. Axis order is always (z, y, x)."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Zyx = tuple[int, int, int]


def zyx(values: Sequence[int]) -> Zyx:
    """Three integers as a plain tuple; `ValueError` for any other number of them."""
    if len(values) != 3:
        raise ValueError(f"expected three numbers (z, y, x), found {tuple(values)}")
    z, y, x = (int(v) for v in values)
    return z, y, x


@dataclass(frozen=True)
class VoxelSize:
    """The size of one voxel in nanometres."""

    z: float
    y: float
    x: float

    def __post_init__(self) -> None:
        for axis, size in zip("zyx", self, strict=True):
            if not (math.isfinite(size) and size > 0):
                raise ValueError(f"voxel size along {axis} must be a positive number, not {size}")

    def __iter__(self) -> Iterator[float]:
        return iter((self.z, self.y, self.x))

    def __str__(self) -> str:
        return " x ".join(f"{size:g}" for size in self) + " nm (z, y, x)"

    @classmethod
    def parse(cls, text: str) -> VoxelSize:
        """From "40,4,4" (z,y,x) or "8" (isotropic), in nm.

        >>> VoxelSize.parse("40,4,4").anisotropy
        10.0
        """
        try:
            sizes = [float(part) for part in text.split(",")]
        except ValueError:
            sizes = []
        if len(sizes) == 1:
            sizes *= 3
        if len(sizes) != 3:
            raise ValueError(f'expected a voxel size "z,y,x" in nm, such as 40,4,4; found "{text}"')
        return cls(*sizes)

    @property
    def anisotropy(self) -> float:
        """How many times coarser z is than the finer of y and x."""
        return self.z / min(self.y, self.x)

    def scaled(self, factors: Sequence[float]) -> VoxelSize:
        """Each size multiplied by its factor (z, y, x)."""
        fz, fy, fx = factors
        return VoxelSize(self.z * fz, self.y * fy, self.x * fx)


@dataclass(frozen=True)
class Box:
    """A half-open box of voxels: start is in it, stop is not.

    >>> Box((0, 0, 0), (4, 8, 8)).grow((2, 2, 2)).clip((6, 8, 8)).shape
    (6, 8, 8)
    """

    start: Zyx
    stop: Zyx

    def __post_init__(self) -> None:
        object.__setattr__(self, "start", zyx(self.start))
        object.__setattr__(self, "stop", zyx(self.stop))
        if any(b < a for a, b in zip(self.start, self.stop, strict=True)):
            raise ValueError(f"a box must not end before it starts: {self.start} to {self.stop}")

    @classmethod
    def whole(cls, shape: Sequence[int]) -> Box:
        """All voxels of a volume of this shape."""
        return cls((0, 0, 0), zyx(shape))

    @property
    def shape(self) -> Zyx:
        """Voxels along each axis (z, y, x)."""
        return zyx([b - a for a, b in zip(self.start, self.stop, strict=True)])

    @property
    def size(self) -> int:
        """How many voxels it holds."""
        return math.prod(self.shape)

    @property
    def slices(self) -> tuple[slice, slice, slice]:
        """The box as an index of an array of the whole volume."""
        z, y, x = (slice(a, b) for a, b in zip(self.start, self.stop, strict=True))
        return z, y, x

    def grow(self, by: Sequence[int]) -> Box:
        """Larger by so many voxels on both sides of each axis."""
        return Box(
            zyx([a - d for a, d in zip(self.start, by, strict=True)]),
            zyx([b + d for b, d in zip(self.stop, by, strict=True)]),
        )

    def clip(self, shape: Sequence[int]) -> Box:
        """The part of it inside a volume of this shape."""
        return self.intersect(Box.whole(shape))

    def intersect(self, other: Box) -> Box:
        """The voxels in both; a box of size 0 where there are none."""
        start = [max(a, b) for a, b in zip(self.start, other.start, strict=True)]
        stop = [min(a, b) for a, b in zip(self.stop, other.stop, strict=True)]
        return Box(zyx(start), zyx([max(a, b) for a, b in zip(start, stop, strict=True)]))

    def shift(self, offset: Sequence[int]) -> Box:
        """The box moved by so many voxels (z, y, x)."""
        return Box(
            zyx([a + d for a, d in zip(self.start, offset, strict=True)]),
            zyx([b + d for b, d in zip(self.stop, offset, strict=True)]),
        )

    def relative_to(self, other: Box) -> Box:
        """The same voxels, counted from the start of `other`."""
        return self.shift([-a for a in other.start])

    def contains(self, other: Box) -> bool:
        """Whether all of another box lies inside."""
        inside_start = all(a <= b for a, b in zip(self.start, other.start, strict=True))
        return inside_start and all(a >= b for a, b in zip(self.stop, other.stop, strict=True))
