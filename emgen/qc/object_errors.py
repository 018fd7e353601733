"""Split and merge errors of one segmentation against another.

Pairs of labels are counted per tile and added up, so that volumes of any size can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

MIN_OBJECT_VOXELS = 500
"""Objects and overlaps of fewer voxels are not counted: a cube of 8 voxels a
side, which a segmenter's uncertainty of two voxels at every face leaves an eighth of."""
SIGNIFICANT_SHARE = 0.05
"""Share of an object that a segment must cover to count as a part of it: less is where a boundary lies."""


@dataclass(frozen=True, eq=False)
class Contingency:
    """How many voxels carry each pair of labels, over any number of tiles; reference 0 left out.

    Rows are unique and sorted.

    Attributes:
        tile: number of the row's tile. Tiles that were segmented by themselves have different numbers,
            so that equal labels in two of them stay two objects; label volumes with global labels keep
            one number.
        reference: label in the reference.
        test: label in the test.
        count: voxels with both labels.
    """

    tile: np.ndarray
    reference: np.ndarray
    test: np.ndarray
    count: np.ndarray

    @property
    def voxels(self) -> int:
        """Voxels in all."""
        return int(self.count.sum())


@dataclass(frozen=True)
class ErrorCounts:
    """Objects of the reference by the errors of the test.

    Attributes:
        objects: of the reference, in all.
        split: those of which two or more test segments each cover a significant part.
        merged: those of which a segment covers a significant part that also covers one of another.
        error_free: neither split nor merged.
    """

    objects: int = 0
    split: int = 0
    merged: int = 0
    error_free: int = 0

    @property
    def error_free_interval(self) -> tuple[float, float]:
        """95 % interval of the proportion of error-free objects."""
        return wilson(self.error_free, self.objects)


def contingency(reference: np.ndarray, test: np.ndarray, *, tile: int = 0) -> Contingency:
    """Count the label pairs of one tile.

    Args:
        reference: integer labels (z, y, x); voxels of label 0 are ignored.
        test: integer labels of the same shape; 0 is a segment like any other.
        tile: its number; every tile has its own unless both label volumes have global labels.

    Raises:
        ValueError: the shapes differ, or labels are no integers.
    """
    if reference.shape != test.shape:
        raise ValueError(f"expected labels of one shape, found {reference.shape} and {test.shape}")
    if reference.dtype.kind not in "iu" or test.dtype.kind not in "iu":
        raise ValueError(f"expected integer labels, found {reference.dtype} and {test.dtype}")
    labelled = reference != 0
    # Labels may fill 64 bits: pairs are made of their ranks.
    of_reference, i = np.unique(reference[labelled], return_inverse=True)
    of_test, j = np.unique(test[labelled], return_inverse=True)
    width = max(len(of_test), 1)
    pair, count = np.unique(i.astype(np.int64) * width + j, return_counts=True)
    return Contingency(
        np.full(len(pair), tile, dtype=np.int64),
        of_reference[pair // width].astype(np.uint64),
        of_test[pair % width].astype(np.uint64),
        count.astype(np.int64),
    )


def pooled(tiles: Sequence[Contingency]) -> Contingency:
    """Add up tiles: rows of the same tile number and labels become one."""
    tile = np.concatenate([t.tile for t in tiles])
    reference = np.concatenate([t.reference for t in tiles])
    test = np.concatenate([t.test for t in tiles])
    count = np.concatenate([t.count for t in tiles])
    order = np.lexsort((test, reference, tile))
    tile, reference, test, count = tile[order], reference[order], test[order], count[order]
    first = _changes(tile, reference, test)
    if not first.size:
        return Contingency(tile, reference, test, count)
    return Contingency(tile[first], reference[first], test[first], np.add.reduceat(count, first))


def voi(table: Contingency) -> tuple[float, float]:
    """Variation of information in bits: (split, merge) = (H(test|reference), H(reference|test)).

    Meila, Learning Theory and Kernel Machines (2003), as the two conditional entropies that it adds.
    (0, 0) without voxels.
    """
    objects, segments = _sizes(table)
    if not table.voxels:
        return 0.0, 0.0
    p = table.count / table.voxels
    # The sums are never negative but for rounding.
    split = max(0.0, -float(p @ np.log2(table.count / objects)))
    merge = max(0.0, -float(p @ np.log2(table.count / segments)))
    return split, merge


def adapted_rand_error(table: Contingency) -> float | None:
    """Adapted Rand error: 1 - F of precision and recall over pairs of voxels.

    None without a pair in either.

    Arganda-Carreras et al., Frontiers in Neuroanatomy 9 (2015).
    """
    objects, segments = _sizes(table)
    # A row's own count against the size of its object: summed, every object's size squared.
    both = float(table.count @ (table.count - 1))
    in_reference = float(table.count @ (objects - 1))
    in_test = float(table.count @ (segments - 1))
    total = in_reference + in_test
    return 1 - 2 * both / total if total > 0 else None


def error_counts(
    table: Contingency, *, smallest: int = MIN_OBJECT_VOXELS, significant: float = SIGNIFICANT_SHARE
) -> ErrorCounts:
    """Count split and merged objects.

    Args:
        table: of all tiles.
        smallest: voxels from which an object or an overlap counts; less is a matter of the faces of
            the tile.
        significant: share of an object from which an overlap counts; less is a matter of where a
            boundary lies.
    """
    objects, _ = _sizes(table)
    counted = objects >= smallest
    object_of, segment_of = _numbers(table)
    part = counted & (table.count >= np.maximum(significant * objects, smallest))
    size = int(object_of.max(initial=-1)) + 1
    parts = np.bincount(object_of[part], minlength=size)
    joined = np.bincount(segment_of[part], minlength=int(segment_of.max(initial=-1)) + 1)
    merging = part & (joined[segment_of] > 1)
    present = np.bincount(object_of[counted], minlength=size) > 0
    merged = np.bincount(object_of[merging], minlength=size) > 0
    split = parts > 1
    return ErrorCounts(
        objects=int(present.sum()),
        split=int(split.sum()),
        merged=int(merged.sum()),
        error_free=int((present & ~split & ~merged).sum()),
    )


def wilson(successes: int, n: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Interval of a proportion by Wilson's score.

    Wilson, J. American Statistical Association 22 (1927).

    Args:
        successes: of n trials.
        n: trials; without any the interval is (0, 1).
        z: quantile of the normal distribution; by default that of 95 %.

    Raises:
        ValueError: not 0 <= successes <= n.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"expected 0 <= successes <= n, found {successes} of {n}")
    if n == 0:
        return 0.0, 1.0
    p = successes / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At the ends the interval reaches 0 or 1 exactly, which rounding would miss.
    return (
        centre - half if successes > 0 else 0.0,
        centre + half if successes < n else 1.0,
    )


def _changes(*columns: np.ndarray) -> np.ndarray:
    """Where a row of sorted columns differs from the one before; the first row included."""
    if not len(columns[0]):
        return np.zeros(0, dtype=np.intp)
    differs = np.any([c[1:] != c[:-1] for c in columns], axis=0)
    return np.flatnonzero(np.append(True, differs))


def _numbers(table: Contingency) -> tuple[np.ndarray, np.ndarray]:
    """Consecutive numbers of the row's object, and of its segment, over all tiles."""
    return _numbered(table.tile, table.reference), _numbered(table.tile, table.test)


def _numbered(tile: np.ndarray, label: np.ndarray) -> np.ndarray:
    order = np.lexsort((label, tile))
    starts = np.zeros(len(order), dtype=np.int64)
    starts[_changes(tile[order], label[order])] = 1
    numbers = np.empty_like(starts)
    numbers[order] = np.cumsum(starts) - 1
    return numbers


def _sizes(table: Contingency) -> tuple[np.ndarray, np.ndarray]:
    """Voxels of the row's object, and of its segment."""
    object_of, segment_of = _numbers(table)
    objects = np.bincount(object_of, table.count)[object_of]
    segments = np.bincount(segment_of, table.count)[segment_of]
    return objects, segments
