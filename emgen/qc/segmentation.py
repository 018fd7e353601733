"""What restoration does to the objects in a volume: split and merge errors of a fixed segmenter.

    volume -> membrane map -> watershed fragments -> adjacency graph -> multicut -> objects

The segmenter knows nothing about any tissue: it follows dark sheets (Beier et al., Nature Methods
14, 2017, with a Hessian ridge filter in place of a trained classifier). It over-segments in
absolute terms, so what it says is relative: the reference and the restored volume, or two
restorations, segmented alike. Its constants are fixed: chosen on volumes that no result is reported
for (the gala example, FIB-25 training data), so that blur or noise changes objects by degrees.

Pairs of labels are counted per tile and added up, so that volumes of any size can be compared.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from emgen.geometry import VoxelSize

# The scale of a membrane and of the fragments, in nm, with the fewest voxels a filter can do with.
RIDGE_NM = 16.0
DARKNESS_NM = 8.0
SEEDS_NM = 16.0
SMALLEST_SIGMA = 0.7
# A sheet this much darker (scaled second derivative, of the grey range) is a membrane for sure.
RIDGE_FULL = 1 / 6
# What a sheet counts for in the membrane map; the rest is darkness. More of it, or a lower gain,
# segments raw tissue better but lets a slightly blurred volume fall into one object.
RIDGE_WEIGHT = 0.4
# Membrane map above which a voxel bounds a fragment; edges at 0.5 are neither cut nor joined.
BOUNDARY = 0.4
CUT = 0.5
SMALLEST_FRAGMENT = 50
# Sections this much thicker than a pixel are too far apart for a ridge filter across them.
SECTIONWISE = 1.5

# Objects counted, and overlaps that count as a part of one: 5 % of it, and not less than this.
SMALLEST_OBJECT = 500
SIGNIFICANT = 0.05


def segment(
    volume: np.ndarray, voxel: VoxelSize, *, low: float = -1.0, high: float = 1.0
) -> np.ndarray:
    """Objects of a volume (z, y, x) with dark membranes, as uint32 labels from 1.

    `low` and `high` are the grey values of black and white, one pair for the whole volume (its
    robust percentiles, or -1 and 1 for scaled data): taken per tile, contrast would decide what is
    a membrane. Needs about 100 bytes a voxel, one thread. `ValueError` unless high > low and three axes.
    """
    from bioimage_cpp.segmentation import relabel_sequential
    from elf.segmentation.features import compute_boundary_mean_and_length, compute_rag
    from elf.segmentation.multicut import compute_edge_costs, multicut_kernighan_lin
    from elf.segmentation.watershed import distance_transform_watershed

    if volume.ndim != 3 or not high > low:
        raise ValueError(
            f"expected a volume (z, y, x) and low < high, found shape {volume.shape}, "
            f"low {low:g}, high {high:g}"
        )
    grey = np.clip((volume.astype(np.float32) - low) / (high - low), 0.0, 1.0)
    membrane = membranes(grey, voxel)
    if float(membrane.max()) <= BOUNDARY or float(membrane.min()) > BOUNDARY:
        return np.ones(volume.shape, dtype=np.uint32)
    fragments, _ = distance_transform_watershed(
        membrane,
        threshold=BOUNDARY,
        sigma_seeds=_sigma(SEEDS_NM, voxel),
        sigma_weights=_sigma(SEEDS_NM, voxel),
        min_size=SMALLEST_FRAGMENT,
        pixel_pitch=[size / min(voxel) for size in voxel],
    )
    fragments = fragments.astype(np.uint32)
    if fragments.min() == fragments.max():
        return np.ones(volume.shape, dtype=np.uint32)
    graph = compute_rag(fragments, n_threads=1)
    edges = compute_boundary_mean_and_length(graph, fragments, membrane, n_threads=1)
    costs = compute_edge_costs(
        edges[:, 0], edge_sizes=edges[:, 1], weighting_scheme="all", beta=CUT
    )
    objects = np.asarray(multicut_kernighan_lin(graph, costs))[fragments]
    labels, _, _ = relabel_sequential(objects.astype(np.uint32) + np.uint32(1))
    return np.asarray(labels, dtype=np.uint32)


def membranes(grey: np.ndarray, voxel: VoxelSize) -> np.ndarray:
    """How much every voxel looks like a membrane, 0 to 1: a dark sheet, or just dark (float32).

    `grey` is (z, y, x) in [0, 1]. The sheet is the largest eigenvalue of the Hessian at the scale of
    a membrane, scaled to be free of units; of thick sections it is taken in each by itself.
    """
    from bioimage_cpp.filters import gaussian_smoothing, hessian_of_gaussian_eigenvalues

    pixel = min(voxel)
    sigma = max(RIDGE_NM / pixel, SMALLEST_SIGMA)
    if max(voxel) / pixel < SECTIONWISE:
        curvature = hessian_of_gaussian_eigenvalues(grey, sigma)[..., 0]
    else:
        curvature = np.stack([hessian_of_gaussian_eigenvalues(s, sigma)[..., 0] for s in grey])
    sheet = np.clip(curvature * (sigma**2 / RIDGE_FULL), 0.0, 1.0)
    dark = 1.0 - gaussian_smoothing(grey, _sigma(DARKNESS_NM, voxel))
    return np.asarray(RIDGE_WEIGHT * sheet + (1 - RIDGE_WEIGHT) * dark, dtype=np.float32)


def _sigma(nm: float, voxel: VoxelSize) -> tuple[float, float, float]:
    z, y, x = (max(nm / size, SMALLEST_SIGMA) for size in voxel)
    return z, y, x


@dataclass(frozen=True, eq=False)
class Contingency:
    """How many voxels carry each pair of labels, over any number of tiles; reference 0 left out.

    Row i: `count[i]` voxels with label `reference[i]` in one and `test[i]` in the other, in tile
    `tile[i]`. Tiles that were segmented by themselves have different numbers, so that equal labels
    in two of them stay two objects; label volumes with global labels keep one number. Rows are
    unique and sorted.
    """

    tile: np.ndarray
    reference: np.ndarray
    test: np.ndarray
    count: np.ndarray

    def __add__(self, other: Contingency) -> Contingency:
        return pooled([self, other])

    @property
    def voxels(self) -> int:
        return int(self.count.sum())


@dataclass(frozen=True)
class ErrorCounts:
    """Objects of the reference by the errors of the test; additive.

    An object is `split` when two or more test segments each cover a significant part of it, and
    `merged` when one of them also covers a significant part of another object. `mergers` are the
    segments that do so.
    """

    objects: int = 0
    split: int = 0
    merged: int = 0
    error_free: int = 0
    mergers: int = 0

    def __add__(self, other: ErrorCounts) -> ErrorCounts:
        return ErrorCounts(
            self.objects + other.objects,
            self.split + other.split,
            self.merged + other.merged,
            self.error_free + other.error_free,
            self.mergers + other.mergers,
        )

    @property
    def error_free_interval(self) -> tuple[float, float]:
        """95 % interval of the proportion of error-free objects."""
        return wilson(self.error_free, self.objects)


def contingency(reference: np.ndarray, test: np.ndarray, *, tile: int = 0) -> Contingency:
    """Count the label pairs of one tile: integer label volumes of one shape, reference 0 ignored.

    Test label 0 is a segment like any other. Give every tile its own number unless both label
    volumes have global labels. `ValueError` for shapes that differ or labels that are no integers.
    """
    if reference.shape != test.shape:
        raise ValueError(f"expected labels of one shape, found {reference.shape} and {test.shape}")
    if reference.dtype.kind not in "iu" or test.dtype.kind not in "iu":
        raise ValueError(f"expected integer labels, found {reference.dtype} and {test.dtype}")
    known = reference != 0
    # Labels may fill 64 bits: pairs are made of their ranks.
    of_reference, i = np.unique(reference[known], return_inverse=True)
    of_test, j = np.unique(test[known], return_inverse=True)
    width = max(len(of_test), 1)
    pair, count = np.unique(i.astype(np.int64) * width + j, return_counts=True)
    return Contingency(
        np.full(len(pair), tile, dtype=np.int64),
        of_reference[pair // width].astype(np.uint64),
        of_test[pair % width].astype(np.uint64),
        count.astype(np.int64),
    )


def pooled(tiles: Sequence[Contingency]) -> Contingency:
    """All tiles together: rows of the same tile number and labels are added up."""
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

    Meila, Learning Theory and Kernel Machines (2003). (0, 0) without voxels.
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
    """1 - F of precision and recall over pairs of voxels; None without a pair in either.

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
    table: Contingency, *, smallest: int = SMALLEST_OBJECT, significant: float = SIGNIFICANT
) -> ErrorCounts:
    """Split and merge errors per object of at least `smallest` voxels.

    An overlap counts when it holds both `significant` of the object and `smallest` voxels: less is
    a matter of where a boundary lies, or of the faces of the tile.
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
        mergers=int((joined > 1).sum()),
    )


def wilson(successes: int, n: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """Interval of a proportion by Wilson's score, 95 % by default; (0, 1) when n is 0.

    Wilson, J. American Statistical Association 22 (1927). `ValueError` unless 0 <= successes <= n.
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
