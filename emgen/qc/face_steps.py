"""Steps at block faces: traces that the block grid leaves in a stitched volume.

For every axis and every column of block faces, the mean grey value over the face is followed along
the axis; its step, less the mean of the two steps beside it (a second difference), is folded by the
distance from the block face:

    face mean   ____________.-------------      a block 1 grey brighter than its neighbour
    step        ............|.............      offset 0 where blocks were cropped

                           halo halo
    face mean   _________.-----.----------      the same, overlap averaged uniformly: half the
    step        .........|.....|..........      height, twice; offsets -halo and +halo

The score is the largest root mean square step over the median of all offsets, taken for single
offsets and for pairs +-offset, which makes up for the half height. Averaging over whole faces finds
a bias of one grey value that gradient ratios at single voxels miss. About 1.4 is usual for
untouched tissue; the same score of an unblocked volume (the reference, or the interpolated input)
is the control. Scanning the difference between the result and the interpolated input instead of the
result takes the tissue away and leaves the seams.

Restored sections repeat with the restoration factor, which divides the block: offsets are compared
only with those at the same place between measured sections (`spacing`).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import gammaincinv

from emgen.geometry import Box, Zyx, zyx
from emgen.qc.axes import AXES, Axis

USUAL_SCORE = 1.4
"""The score of untouched tissue: the largest of some tens of offsets over their median, as measured."""
REGION_SIDE = 192
"""Voxels a side of what `scan` reads at once: 57 MB as float64."""
MIN_PAIR_OFFSET = 2
"""Second differences overlap by construction up to twice this distance; pairs nearer are left out."""


@dataclass(frozen=True, eq=False)
class FaceMeans:
    """Mean grey values over block faces, for every plane across z, y and x.

    Attributes:
        block: voxels of a block (z, y, x).
        means: for axis k an array (planes, columns, columns).
        areas: for axis k the voxels of every face (columns, columns).
    """

    block: Zyx
    means: tuple[np.ndarray, np.ndarray, np.ndarray]
    areas: tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True, eq=False)
class SeamScore:
    """The folded face-step score along one axis.

    Attributes:
        axis: along which steps were folded.
        score: the largest step over the usual one; None where the axis has no face between blocks.
        offset: of the largest step, in voxels from the block face.
        paired: whether it is at plus and minus that offset.
        height: root mean square step there beyond the usual one, in grey values.
        chance: the score that as many faces without seams stay below, 19 times in 20.
        profile: the relative step at every offset in a block, from its face on.
    """

    axis: Axis
    score: float | None
    offset: int | None
    paired: bool
    height: float
    chance: float
    profile: np.ndarray


@dataclass(frozen=True, eq=False)
class _Folded:
    """Root mean square of `samples` steps per offset, and the usual value to hold against each."""

    rms: np.ndarray
    usual: np.ndarray
    samples: int

    @property
    def relative(self) -> np.ndarray:
        ratio = np.zeros_like(self.rms)
        np.divide(self.rms, self.usual, out=ratio, where=self.usual > 0)
        return ratio

    @property
    def chance(self) -> float:
        """The score that steps without seams stay below, 19 times in 20.

        Few faces make a high score by themselves: n offsets stay below a quantile q together with
        probability q^n. Normal, independent steps are assumed.
        """
        largest = _chi2_quantile(0.95 ** (1 / len(self.rms)), self.samples)
        return float(np.sqrt(largest / _chi2_quantile(0.5, self.samples)))

    @property
    def excess(self) -> float:
        return float(self.relative.max()) / self.chance


def scan(
    read: Callable[[Box], np.ndarray], shape: Sequence[int], block: Sequence[int]
) -> FaceMeans:
    """Average grey values over the block faces of a volume, region by region.

    Memory: one region of about `REGION_SIDE` voxels a side, and the means, three numbers for every row
    of voxels in a block.

    Args:
        read: returns the voxels of a box, as `Volume.read` does; of an array
            `lambda box: array[box.slices]`.
        shape: of the volume (z, y, x).
        block: voxels of a block (z, y, x).
    """
    shape, block = zyx(shape), zyx(block)
    columns = [-(-n // size) for n, size in zip(shape, block, strict=True)]
    sums = [np.zeros((shape[k], *(columns[i] for i in _others(k)))) for k in range(3)]
    for region in _regions(shape, block):
        array = np.asarray(read(region), dtype=np.float64)
        for k in range(3):
            i, j = _others(k)
            cuts = [np.arange(0, region.shape[axis], block[axis]) for axis in (i, j)]
            columns_here = tuple(
                slice(region.start[axis] // block[axis], -(-region.stop[axis] // block[axis]))
                for axis in (i, j)
            )
            planes = slice(region.start[k], region.stop[k])
            rows = np.add.reduceat(np.moveaxis(array, k, 0), cuts[1], axis=2)
            sums[k][(planes, *columns_here)] += np.add.reduceat(rows, cuts[0], axis=1)
    z, y, x = (_areas(shape, block, k) for k in range(3))
    a, b, c = (total / area for total, area in zip(sums, (z, y, x), strict=True))
    return FaceMeans(block, (a, b, c), (z, y, x))


def score(faces: FaceMeans, spacing: Sequence[int] = (1, 1, 1)) -> tuple[SeamScore, ...]:
    """The scores along z, y and x.

    Args:
        faces: of a whole volume.
        spacing: distance of measured sections in output voxels (z, y, x).
    """
    return tuple(
        _score_axis(axis, _second_differences(means), areas, period, step)
        for axis, means, areas, period, step in zip(
            AXES, faces.means, faces.areas, faces.block, zyx(spacing), strict=True
        )
    )


def in_proportion(seam: SeamScore, control: float | None) -> float | None:
    """A score as it would be beside a control of the usual height; None where there is none.

    Args:
        seam: along one axis.
        control: score of a volume without blocks along the same axis, if there is one. A control or a
            chance level above `USUAL_SCORE` lowers the result in proportion.
    """
    usual = max(control or 0.0, seam.chance, USUAL_SCORE)
    return None if seam.score is None else seam.score * USUAL_SCORE / usual


def _chi2_quantile(probability: float, freedom: int) -> float:
    # scipy.stats has it as chi2.ppf, at half a second of import
    return 2 * float(gammaincinv(freedom / 2, probability))


def _others(axis: int) -> tuple[int, int]:
    i, j = (k for k in range(3) if k != axis)
    return i, j


def _regions(shape: Zyx, block: Zyx) -> Iterator[Box]:
    """Boxes of whole blocks that tile the volume."""
    side = [size * max(1, REGION_SIDE // size) for size in block]
    starts = [range(0, n, s) for n, s in zip(shape, side, strict=True)]
    for corner in itertools.product(*starts):
        stop = zyx([c + s for c, s in zip(corner, side, strict=True)])
        yield Box(zyx(corner), stop).clip(shape)


def _areas(shape: Zyx, block: Zyx, axis: int) -> np.ndarray:
    """Voxels per block face across an axis; less than a whole face at the rim of the volume."""
    sizes = [np.diff(np.append(np.arange(0, shape[k], block[k]), shape[k])) for k in _others(axis)]
    return np.outer(*sizes)


def _second_differences(means: np.ndarray) -> np.ndarray:
    """The step before plane p less the mean of its neighbours, nan where one is missing."""
    second = np.full(means.shape, np.nan)
    step = np.diff(means, axis=0)
    if len(step) >= 3:
        second[2:-1] = step[1:-1] - (step[:-2] + step[2:]) / 2
    return second


def _score_axis(
    axis: Axis, second: np.ndarray, areas: np.ndarray, period: int, spacing: int
) -> SeamScore:
    faces = np.arange(period, len(second), period)
    if not faces.size or np.isnan(second[faces]).all():
        return SeamScore(axis, None, None, False, 0.0, 1.0, np.zeros(period))
    # A small face at the rim has a noisier mean: its weight makes all faces count alike.
    weighted = second * np.sqrt(areas / areas.max())
    single = _folded(weighted, period, spacing)
    pairs = _folded_pairs(weighted, faces, period, spacing)
    paired = pairs is not None and pairs.excess > single.excess
    best = pairs if pairs is not None and paired else single
    offset = int(best.relative.argmax())
    height = max(0.0, float(best.rms[offset] ** 2 - best.usual[offset] ** 2)) ** 0.5
    return SeamScore(
        axis,
        max(float(best.relative[offset]), 1.0),
        offset if offset <= period // 2 else offset - period,
        paired,
        height,
        best.chance,
        single.relative,
    )


def _folded(second: np.ndarray, period: int, spacing: int) -> _Folded:
    """Steps by their offset in the block."""
    padded = np.full((-(-len(second) // period) * period, *second.shape[1:]), np.nan)
    padded[: len(second)] = second
    return _against_usual(padded.reshape(-1, period, *second.shape[1:]), spacing)


def _folded_pairs(
    second: np.ndarray, faces: np.ndarray, period: int, spacing: int
) -> _Folded | None:
    """Sums of the two steps at equal distance before and after a block face, by that distance.

    None where blocks are too small for a pair.
    """
    offsets = np.arange(MIN_PAIR_OFFSET, (period + 1) // 2)
    if not offsets.size:
        return None
    whole = faces[(faces + offsets[-1] < len(second)) & (faces >= offsets[-1])]
    if not whole.size:
        return None
    summed = second[whole[:, None] + offsets] + second[whole[:, None] - offsets]
    # Leading offsets that hold no pair are filled so that an index is an offset.
    empty = np.full((len(whole), MIN_PAIR_OFFSET, *second.shape[1:]), np.nan)
    return _against_usual(np.concatenate([empty, summed / np.sqrt(2)], axis=1), spacing)


def _against_usual(folded: np.ndarray, spacing: int) -> _Folded:
    """Root mean squares of (blocks, offsets, columns, columns) per offset, nan left out.

    Usual is the median over the offsets at the same place between measured sections.
    """
    measured = ~np.isnan(folded)
    counts = measured.sum((0, 2, 3))
    rms = np.sqrt((np.where(measured, folded, 0.0) ** 2).sum((0, 2, 3)) / np.maximum(counts, 1))
    usual = np.zeros_like(rms)
    for place in range(min(spacing, len(rms))):
        comparable = rms[place::spacing][counts[place::spacing] > 0]
        if comparable.size:
            # The lower of two middle values: of two offsets at a place, one may be the seam.
            usual[place::spacing] = np.quantile(comparable, 0.5, method="lower")
    # Between the knots of a linear interpolation nothing happens but rounding, which must not
    # look like a seam: a hundredth of the mean step is above it.
    floor = 0.01 * float(np.sqrt(np.mean(rms**2)))
    return _Folded(rms, np.maximum(usual, floor), int(counts[counts > 0].min()))
