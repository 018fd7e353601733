"""A fixed, untrained segmenter of tissue with dark membranes.

    volume -> membrane map -> watershed fragments -> adjacency graph -> multicut -> objects

The segmenter knows nothing about any tissue: it follows dark sheets (Beier et al., Nature Methods
14, 2017, with a Hessian ridge filter in place of a trained classifier). It over-segments in
absolute terms, so what it says is relative: the reference and the restored volume, or two
restorations, segmented alike. Its constants are fixed: chosen on volumes that no result is reported
for (the gala example, FIB-25 training data), so that blur or noise changes objects by degrees.
"""

from __future__ import annotations

import numpy as np

from emgen.geometry import VoxelSize

# The scale of a membrane and of the fragments, in nm; and, in voxels, the least sigma whose sampled
# Gaussian is still one: three samples hold 98 % of its weight.
RIDGE_NM = 16.0
DARKNESS_NM = 8.0
SEEDS_NM = 16.0
MIN_SIGMA = 0.7
# A sheet this much darker (scaled second derivative, of the grey range) is a membrane for sure.
RIDGE_FULL = 1 / 6
# What a sheet counts for in the membrane map; the rest is darkness. More of it, or a lower gain,
# segments raw tissue better but lets a slightly blurred volume fall into one object.
RIDGE_WEIGHT = 0.4
# Membrane map above which a voxel bounds a fragment; edges at 0.5 are neither cut nor joined.
BOUNDARY = 0.4
CUT = 0.5
# Share of the membrane map in the watershed's height, the rest is the distance (Beier et al. 2017).
MEMBRANE_SHARE = 0.9
MIN_FRAGMENT_VOXELS = 50
# What the membrane map is kept away from 0 and 1, so that no cost is infinite.
CERTAINTY_LEFT = 0.001
# Sections this much thicker than a pixel are too far apart for a ridge filter across them.
SECTIONWISE = 1.5


def segment(
    volume: np.ndarray, voxel: VoxelSize, *, low: float = -1.0, high: float = 1.0
) -> np.ndarray:
    """Segment the objects of a volume with dark membranes.

    Needs about 100 bytes a voxel, and one thread.

    Args:
        volume: grey values (z, y, x).
        voxel: size of its voxels.
        low: grey value of black, one for the whole volume (its robust percentile, or -1 for scaled
            data): taken per tile, contrast would decide what is a membrane.
        high: grey value of white.

    Returns:
        Labels (z, y, x) from 1 on, uint32.

    Raises:
        ValueError: not high > low, or not three axes.
    """
    from bioimage_cpp.segmentation import relabel_sequential

    if volume.ndim != 3 or not high > low:
        raise ValueError(
            f"expected a volume (z, y, x) and low < high, found shape {volume.shape}, "
            f"low {low:g}, high {high:g}"
        )
    grey = np.clip((volume.astype(np.float32) - low) / (high - low), 0.0, 1.0)
    membrane = membranes(grey, voxel)
    if float(membrane.max()) <= BOUNDARY or float(membrane.min()) > BOUNDARY:
        return np.ones(volume.shape, dtype=np.uint32)
    pieces = _fragments(membrane, voxel)
    if pieces.min() == pieces.max():
        return np.ones(volume.shape, dtype=np.uint32)
    objects = _multicut(pieces, membrane)[pieces]
    labels, _, _ = relabel_sequential(objects.astype(np.uint32) + np.uint32(1))
    return np.asarray(labels, dtype=np.uint32)


def membranes(grey: np.ndarray, voxel: VoxelSize) -> np.ndarray:
    """How much every voxel looks like a membrane: a dark sheet, or just dark.

    A sheet is the largest eigenvalue of the Hessian at the scale of a membrane, scaled to be free of
    units; of thick sections it is taken in every section by itself.

    Args:
        grey: (z, y, x) in [0, 1].
        voxel: size of its voxels.

    Returns:
        0 to 1, float32.
    """
    from bioimage_cpp.filters import gaussian_smoothing, hessian_of_gaussian_eigenvalues

    pixel = min(voxel)
    sigma = max(RIDGE_NM / pixel, MIN_SIGMA)
    if max(voxel) / pixel < SECTIONWISE:
        curvature = hessian_of_gaussian_eigenvalues(grey, sigma)[..., 0]
    else:
        curvature = np.stack([hessian_of_gaussian_eigenvalues(s, sigma)[..., 0] for s in grey])
    sheet = np.clip(curvature * (sigma**2 / RIDGE_FULL), 0.0, 1.0)
    dark = 1.0 - gaussian_smoothing(grey, _sigma(DARKNESS_NM, voxel))
    return np.asarray(RIDGE_WEIGHT * sheet + (1 - RIDGE_WEIGHT) * dark, dtype=np.float32)


def _sigma(nm: float, voxel: VoxelSize) -> tuple[float, float, float]:
    z, y, x = (max(nm / size, MIN_SIGMA) for size in voxel)
    return z, y, x


def _fragments(membrane: np.ndarray, voxel: VoxelSize) -> np.ndarray:
    """Watershed of the membrane map from the maxima of the distance to membranes (uint32 labels).

    Beier et al. 2017, supplement; as `distance_transform_watershed` of the elf library has it.
    """
    from bioimage_cpp.distance import distance_transform
    from bioimage_cpp.filters import gaussian_smoothing
    from bioimage_cpp.segmentation import label, watershed
    from skimage.feature import peak_local_max

    sigma = _sigma(SEEDS_NM, voxel)
    pitch = [size / min(voxel) for size in voxel]
    inside = (membrane <= BOUNDARY).astype(np.uint8)
    distance = gaussian_smoothing(
        distance_transform(inside, sampling=pitch).astype(np.float32), sigma
    )
    peaks = np.zeros(distance.shape, np.uint8)
    peaks[tuple(peak_local_max(distance, min_distance=1, exclude_border=False).T)] = 1
    seeds = label(peaks, background=0, connectivity=peaks.ndim).astype(np.uint32)
    far = 1.0 - (distance - distance.min()) / distance.max()
    height = MEMBRANE_SHARE * gaussian_smoothing(membrane, sigma) + (1 - MEMBRANE_SHARE) * far
    height = height.astype(np.float32)
    pieces = watershed(height, seeds)
    names, sizes = np.unique(pieces, return_counts=True)
    large = names[sizes >= MIN_FRAGMENT_VOXELS]
    if not large.size:
        return np.ones(pieces.shape, np.uint32)
    # the ground of small fragments goes to their neighbours
    pieces = watershed(height, np.where(np.isin(pieces, large), pieces, 0).astype(np.uint32))
    return np.asarray(pieces, dtype=np.uint32)


def _multicut(pieces: np.ndarray, membrane: np.ndarray) -> np.ndarray:
    """The object of every fragment, by its label: the partition of least cost.

    The cost of joining two fragments is log((1 - p) / p) for the mean p of the membrane map on their
    boundary, in proportion to its length; minimised by greedy contraction, then Kernighan and Lin's
    exchanges (Keuper et al., ICCV 2015).
    """
    from bioimage_cpp.graph import UndirectedGraph, region_adjacency_graph
    from bioimage_cpp.graph.features import edge_map_features
    from bioimage_cpp.graph.multicut import (
        ChainedMulticutSolvers,
        GreedyAdditiveMulticut,
        KernighanLinMulticut,
        MulticutObjective,
    )

    adjacent = region_adjacency_graph(pieces, number_of_threads=1)
    edges = edge_map_features(adjacent, pieces, membrane, number_of_threads=1)
    mean, length = edges[:, 0], edges[:, 1]
    p = (1 - 2 * CERTAINTY_LEFT) * mean + CERTAINTY_LEFT
    costs = (np.log((1.0 - p) / p) + np.log((1.0 - CUT) / CUT)) * (length / float(length.max()))
    graph = UndirectedGraph.from_edges(
        adjacent.number_of_nodes, np.asarray(adjacent.uv_ids(), dtype=np.uint64)
    )
    solver = ChainedMulticutSolvers([GreedyAdditiveMulticut(), KernighanLinMulticut()])
    return np.asarray(solver.optimize(MulticutObjective(graph, costs)))
