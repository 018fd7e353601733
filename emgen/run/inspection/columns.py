"""Columns through a volume: thin in y and x, all sections along z; what an inspection reads of a volume of any size.

Where columns through all sections would cost too much, runs of consecutive sections are read.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from emgen.geometry import Box, Zyx
from emgen.volumes.measured import Measured

# Pixels on a side: 128 hold some tens of profiles of neuropil at 4 to 10 nm, and five columns of them tell the correlation
# of two sections to about 0.02. Sections narrower than WHOLE are one column, others two or more.
SIDE, WHOLE = 128, 160
# Columns along an axis: three, of which the corners and the middle are taken, and more through few sections, whose
# likeness would otherwise rest on few pixels. COLUMN_SECTIONS take about a second.
PER_AXIS, MOST_PER_AXIS, COLUMN_SECTIONS = 3, 6, 1500
# Bytes that are decoded at most, whatever is used of them: some seconds of one core.
MOST_BYTES = 3 << 30
MOST_SECTIONS = 4096  # of five columns each take about 3 ms
RUN = 32  # consecutive sections of a larger volume that are read together
SLAB_BYTES = 1 << 28  # that are held at a time


@dataclass(frozen=True)
class Layout:
    """Where columns stand, and how they are read.

    Attributes:
        places: (top, left) of every column, in pixels.
        side: its pixels (y, x).
        runs: consecutive sections (first, stop) that are read.
        together: whether all columns are cut out of one box, because they share chunks.
        slab: sections that are read at a time.
    """

    places: tuple[tuple[int, int], ...]
    side: tuple[int, int]
    runs: tuple[tuple[int, int], ...]
    together: bool
    slab: int

    @property
    def sections(self) -> npt.NDArray[np.int64]:
        """Numbers of the sections that are read."""
        return np.concatenate([np.arange(*run) for run in self.runs])


def layout(shape: Zyx, chunk: Zyx | None, itemsize: int, every: bool = False) -> Layout:
    """Where to look in a volume.

    Args:
        shape: its voxels (z, y, x).
        chunk: voxels of a unit that is decoded as a whole, None where any voxel can be had by itself.
        itemsize: bytes of a voxel.
        every: whether all sections are read, whatever that costs.
    """
    depth, *plane = shape  # (z, y, x)
    unit = chunk or (1, 1, 1)
    side = (_side(plane[0]), _side(plane[1]))
    count = min(MOST_PER_AXIS, max(PER_AXIS, math.isqrt(COLUMN_SECTIONS // depth)))
    starts = [_starts(n, s, u, count) for n, s, u in zip(plane, side, unit[1:], strict=True)]
    places = list(itertools.product(starts[0], starts[1]))
    if count == PER_AXIS and len(places) == PER_AXIS**2:
        places = places[::2]  # the corners and the middle, as on a die
    apart = sum(_decoded(place, side, unit) for place in places)
    span = (starts[0][-1] + side[0] - starts[0][0], starts[1][-1] + side[1] - starts[1][0])
    whole = _decoded(places[0], span, unit)
    most = min(MOST_SECTIONS, MOST_BYTES // (min(apart, whole) * itemsize))
    held = math.prod(span if whole < apart else side) * itemsize
    slab = max(1, min(max(unit[0], 64) // unit[0] * unit[0], SLAB_BYTES // held))
    return Layout(
        tuple(places),
        side,
        ((0, depth),) if every else _runs(depth, most, unit[0]),
        whole < apart,
        slab,
    )


def read(measured: Measured, where: Layout) -> Iterator[npt.NDArray[Any]]:
    """The columns of one section after another, an array (places, y, x) each, in the order of `where.sections`."""
    h, w = where.side
    top, left = (min(place[axis] for place in where.places) for axis in (0, 1))
    bottom, right = (max(p[axis] for p in where.places) + where.side[axis] for axis in (0, 1))
    for first, stop in where.runs:
        for a in range(first, stop, where.slab):
            b = min(a + where.slab, stop)
            if where.together:
                whole = measured.read(Box((a, top, left), (b, bottom, right)))
                parts = [whole[:, y - top :, x - left :][:, :h, :w] for y, x in where.places]
            else:
                parts = [measured.read(Box((a, y, x), (b, y + h, x + w))) for y, x in where.places]
            yield from np.stack(parts, axis=1)


def _side(length: int) -> int:
    return length if length < WHOLE else min(SIDE, length // 2)


def _starts(length: int, side: int, unit: int, most: int) -> list[int]:
    """Where columns begin along an axis: at most so many, evenly, on whole chunks where these are narrow."""
    count = min(most, length // side)
    starts = [(length - side) / 2] if count == 1 else np.linspace(0, length - side, count).tolist()
    return sorted({int(a) // unit * unit if unit <= side else int(a) for a in starts})


def _decoded(place: tuple[int, int], side: tuple[int, int], unit: Zyx) -> int:
    """Pixels of the chunks that a rectangle touches."""
    rows, columns = (
        (-(-(a + s) // u) - a // u) * u for a, s, u in zip(place, side, unit[1:], strict=True)
    )
    return rows * columns


def _runs(depth: int, most: int, unit: int) -> tuple[tuple[int, int], ...]:
    """The whole depth, or runs of it on whole chunks, evenly spread."""
    if depth <= max(most, 4 * RUN):
        return ((0, depth),)
    run = -(-RUN // unit) * unit
    count = max(2, most // run)
    starts = sorted({int(a) // unit * unit for a in np.linspace(0, depth - 1, count)})
    return tuple((min(a, max(0, depth - RUN)), min(a + run, depth)) for a in starts)
