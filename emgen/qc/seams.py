"""Seams: traces of the block grid in a stitched volume.

For every axis and every column of block faces, the mean grey value over the face is followed along
the axis; its step, less the mean of the two steps beside it (a second difference), is squared and
folded by the position inside the block:

    face mean   ____________.-------------      a block 1 grey brighter than its neighbour
    step        ............|.............      offset 0 with cropped blocks, the ends of the
    offset      0 1 2 3 ... 0 1 2 3 ... 0       overlap where results were averaged uniformly

The score is the largest root mean square over their median. Averaging over whole faces finds a bias
of one grey value that gradient ratios at single voxels miss. Values of 1.3 to 1.4 are usual for
untouched tissue; the same score of an unblocked volume (the reference, or the interpolated input)
is the control.

Restored sections repeat with the restoration factor, which divides the block: offsets are therefore
compared only with those of the same place between measured sections (`spacing`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from emgen.geometry import Box, Zyx, zyx

Verdict = Literal["pass", "warn", "fail"]
Axis = Literal["z", "y", "x"]

# The score relative to its control.
WARN = 2.0
FAIL = 3.0

# A step and its two neighbours take one voxel before the face's pair and one after it.
MARGIN = 2
# Regions of about this many voxels a side are read at a time by `scan`.
REGION = 192


@dataclass(frozen=True, eq=False)
class StepSums:
    """Per axis (z, y, x) and offset in the block: squared steps, times face area, and their number.

    The area makes small faces at the rim of a volume, whose means are noisier, count alike.
    """

    block: Zyx
    squares: tuple[np.ndarray, np.ndarray, np.ndarray]
    counts: tuple[np.ndarray, np.ndarray, np.ndarray]

    def __add__(self, other: StepSums) -> StepSums:
        """Both regions together; `ValueError` where they were folded by different blocks."""
        if self.block != other.block:
            raise ValueError(f"steps folded by {self.block} and by {other.block} do not add up")
        z, y, x = (a + b for a, b in zip(self.squares, other.squares, strict=True))
        k, j, i = (a + b for a, b in zip(self.counts, other.counts, strict=True))
        return StepSums(self.block, (z, y, x), (k, j, i))

    @classmethod
    def empty(cls, block: Sequence[int]) -> StepSums:
        z, y, x = (np.zeros(n) for n in zyx(block))
        return cls(zyx(block), (z, y, x), (z.astype(int), y.astype(int), x.astype(int)))


@dataclass(frozen=True, eq=False)
class SeamScore:
    """The folded face-step score of one axis.

    `score` is None where the axis has no face between blocks; `offset` (voxels into the block) is
    where it was found; `profile` is the root mean square step per offset over its median.
    """

    axis: Axis
    score: float | None
    offset: int | None
    profile: np.ndarray


@dataclass(frozen=True, eq=False)
class SeamReport:
    """One axis beside its control: `relative` is score over control, and decides the verdict.

    Without a control the score itself decides; without a score the axis passes.
    """

    seam: SeamScore
    control: float | None
    relative: float | None
    verdict: Verdict


def scan(read: Callable[[Box], np.ndarray], shape: Zyx, block: Zyx) -> StepSums:
    """The steps of a whole volume (z, y, x), read region by region.

    `read` returns the voxels of a box, as `Volume.read` does; for an array pass
    `lambda box: array[box.slices]`. Memory is that of one region of about 192 voxels a side.
    """
    sums = StepSums.empty(block)
    for core in _regions(shape, block):
        outer = core.grow((MARGIN,) * 3).clip(shape)
        sums = sums + face_steps(read(outer), outer, core, block)
    return sums


def face_steps(array: np.ndarray, outer: Box, core: Box, block: Zyx) -> StepSums:
    """The steps at the faces inside `core`, from the voxels of `outer`, both in volume coordinates.

    Cores that tile a volume, each with two voxels more around it where the volume has them, count
    every face once. They should start at block corners: face columns are cut from there.
    """
    if array.shape != outer.shape or not outer.contains(core):
        raise ValueError(
            f"expected an array of {outer.shape} around {core}, found {array.shape} of {outer}"
        )
    squares, counts = zip(
        *(_steps_along(axis, array, outer, core, block) for axis in range(3)), strict=True
    )
    return StepSums(zyx(block), squares, counts)


def score(sums: StepSums, spacing: Sequence[int] = (1, 1, 1)) -> tuple[SeamScore, ...]:
    """The scores along z, y and x. `spacing` is the distance of measured sections in voxels."""
    return tuple(
        _score_axis(axis, squares, counts, step)
        for axis, squares, counts, step in zip(
            _AXES, sums.squares, sums.counts, zyx(spacing), strict=True
        )
    )


def compare(seams: Sequence[SeamScore], controls: Sequence[SeamScore] | None) -> list[SeamReport]:
    """Every axis with its control: warn beyond 2 times the control, fail beyond 3 times."""
    reports = []
    for k, seam in enumerate(seams):
        control = controls[k].score if controls is not None else None
        # A control below 1 cannot be: the largest is never below the median.
        relative = seam.score / max(control or 1.0, 1.0) if seam.score is not None else None
        reports.append(SeamReport(seam, control, relative, _verdict(relative)))
    return reports


_AXES: tuple[Axis, Axis, Axis] = ("z", "y", "x")


def _verdict(relative: float | None) -> Verdict:
    if relative is None or relative <= WARN:
        return "pass"
    return "warn" if relative <= FAIL else "fail"


def _regions(shape: Zyx, block: Zyx) -> Iterator[Box]:
    side = [size * max(1, REGION // size) for size in block]
    starts = [range(0, n, s) for n, s in zip(shape, side, strict=True)]
    for corner in itertools.product(*starts):
        stop = [c + s for c, s in zip(corner, side, strict=True)]
        yield Box(zyx(corner), zyx(stop)).clip(shape)


def _steps_along(
    axis: int, array: np.ndarray, outer: Box, core: Box, block: Zyx
) -> tuple[np.ndarray, np.ndarray]:
    """Folded squares and counts along one axis; the face before voxel p has offset p mod block."""
    period = block[axis]
    inner = list(core.relative_to(outer).slices)
    inner[axis] = slice(None)
    means, area = _face_means(np.moveaxis(array[tuple(inner)], axis, 0), axis, core, block)
    steps = np.diff(means, axis=0)
    second = steps[1:-1] - (steps[:-2] + steps[2:]) / 2
    position = outer.start[axis] + 2 + np.arange(len(second))
    own = (position >= core.start[axis]) & (position < core.stop[axis])
    offset = position[own] % period
    squares = (second[own] ** 2 * area).sum(axis=(1, 2))
    columns = np.full(len(offset), area.size)
    return (
        np.bincount(offset, squares, minlength=period),
        np.bincount(offset, columns, minlength=period).astype(int),
    )


def _face_means(
    array: np.ndarray, axis: int, core: Box, block: Zyx
) -> tuple[np.ndarray, np.ndarray]:
    """Mean over every block face of each plane across `axis` (first axis here), and the areas."""
    others = [k for k in range(3) if k != axis]
    cuts = [_cuts(core.start[k], core.stop[k], block[k]) for k in others]
    sizes = [
        np.diff(np.append(cut, n)) for cut, n in zip(cuts, array.shape[1:], strict=True)
    ]
    area = np.outer(*sizes)
    sums = np.add.reduceat(array.astype(np.float64), cuts[1], axis=2)
    return np.add.reduceat(sums, cuts[0], axis=1) / area, area


def _cuts(start: int, stop: int, size: int) -> np.ndarray:
    """Where block faces cut [start, stop), counted from start; the first is 0."""
    first = -(-start // size) * size
    cuts = np.arange(first, stop, size) - start
    return cuts if cuts.size and cuts[0] == 0 else np.append(0, cuts)


def _score_axis(axis: Axis, squares: np.ndarray, counts: np.ndarray, spacing: int) -> SeamScore:
    # A face between blocks is a step of offset 0; a volume of one block has none.
    if not counts[0] or squares.sum() == 0:
        return SeamScore(axis, None, None, np.zeros(len(counts)))
    rms = np.sqrt(squares / np.maximum(counts, 1))
    usual = np.empty_like(rms)
    for place in range(min(spacing, len(rms))):
        # The lower of two middle values: where a place recurs only twice, one may be the seam.
        usual[place::spacing] = np.quantile(rms[place::spacing], 0.5, method="lower")
    # Where nothing usually happens (between the knots of a linear interpolation), rounding
    # must not look like a seam.
    usual = np.maximum(usual, 0.01 * np.sqrt(squares.sum() / counts.sum()))
    profile = np.where(counts > 0, rms / usual, 0.0)
    offset = int(profile.argmax())
    return SeamScore(axis, max(float(profile[offset]), 1.0), offset, profile)
