"""Measured voxels interpolated onto output voxels: the baseline, and the start of samplers.

A value depends on the position of its voxel and on the measured voxels around it, never on the box
that was asked for: two boxes agree bit for bit where they overlap.

Measured voxel k lies at output position k * scale + centre on each axis (z, y, x), in output voxels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from emgen.geometry import Box, zyx

Weights = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
# (first, last, start, stop, scale, centre) -> index and weights, as `linear_weights`
WeightsOf = Callable[[int, int, int, int, int, float], tuple[Index, Weights]]


def linear(
    measured: npt.NDArray[np.generic],
    m: Box,
    box: Box,
    scale: Sequence[int],
    centre: Sequence[float],
) -> npt.NDArray[np.float32]:
    """Trilinear interpolation over a box of the output; beyond the outermost measured voxels their value is held.

    Args:
        measured: grey values of the measured voxels `m`.
        m: which measured voxels these are.
        box: the output voxels wanted.
        scale: output voxels per measured voxel (z, y, x).
        centre: where the middle of measured voxel 0 lies, in output voxels (z, y, x).

    Returns:
        Grey values, float32 of `box.shape`.

    Raises:
        ValueError: `measured` has not the shape of `m`, or `m` is empty.
    """
    return separable(measured, m, box, scale, centre, linear_weights)


def separable(
    measured: npt.NDArray[np.generic],
    m: Box,
    box: Box,
    scale: Sequence[int],
    centre: Sequence[float],
    weights_of: WeightsOf,
) -> npt.NDArray[np.float32]:
    """As `linear`, with the weights of another method along each axis."""
    if measured.shape != m.shape or m.size == 0:
        raise ValueError(
            f"expected the measured voxels {m.start} to {m.stop}, at least one of them; "
            f"found an array of shape {measured.shape}"
        )
    result = measured.astype(np.float32)
    # Axes that are only cropped come first: less to compute. The order must not depend on the box.
    for axis in sorted(range(3), key=lambda a: scale[a]):
        index, weights = weights_of(
            m.start[axis],
            m.stop[axis],
            box.start[axis],
            box.stop[axis],
            scale[axis],
            centre[axis],
        )
        result = _weighted_sum(result, axis, index, weights.astype(np.float32))
    return result


def support(
    box: Box,
    scale: Sequence[int],
    centre: Sequence[float],
    measured_shape: Sequence[int],
) -> Box:
    """The measured voxels between which every voxel of a box is interpolated linearly.

    What is measured wholly inside the box is among them.

    Args:
        box: of output voxels.
        scale: output voxels per measured voxel (z, y, x).
        centre: where the middle of measured voxel 0 lies, in output voxels (z, y, x).
        measured_shape: measured voxels of the volume (z, y, x).
    """
    start, stop = [], []
    for a, b, s, c, n in zip(box.start, box.stop, scale, centre, measured_shape, strict=True):
        below, above = math.floor((a - c) / s), math.floor((b - 1 - c) / s) + (s > 1)
        start.append(min(max(below, 0), n - 1))
        stop.append(min(max(above, 0), n - 1) + 1)
    return Box(zyx(start), zyx(stop))


def linear_weights(
    first: int, last: int, start: int, stop: int, scale: int, centre: float
) -> tuple[Index, Weights]:
    """Which two measured voxels, and how much of each, make each output voxel along one axis.

    Args:
        first, last: measured voxels `first` to `last` - 1 may be used.
        start, stop: output voxels `start` to `stop` - 1 are made.
        scale: output voxels per measured voxel.
        centre: where the middle of measured voxel 0 lies, in output voxels.

    Returns:
        Index (stop - start, 2), counted from `first`, and weights (stop - start, 2) that sum to one.
    """
    lower, fraction = measured_position(first, last, start, stop, scale, centre)
    index = np.clip(lower[:, None] + np.arange(2), first, last - 1) - first
    return index, np.stack([1 - fraction, fraction], axis=1)


def measured_position(
    first: int, last: int, start: int, stop: int, scale: int, centre: float
) -> tuple[Index, Weights]:
    """Output voxels start to stop - 1 of one axis in measured coordinates, from first to last - 1: whole part and rest."""
    position = (np.arange(start, stop, dtype=np.int64) - centre) / scale
    # Held at the edges as a position, so that the edge's value is kept to the bit.
    position = position.clip(first, last - 1)
    lower = np.floor(position)
    return lower.astype(np.int64), position - lower


def nearest(box: Box, scale: Sequence[int], centre: Sequence[float], shape: Sequence[int]) -> Box:
    """The measured voxels of a volume of `shape` that are nearest to the voxels of a box, as `nearest_index` has them."""
    ends = [
        nearest_index(box.start[a], box.stop[a], scale[a], centre[a], shape[a])[[0, -1]]
        for a in range(3)
    ]
    return Box(zyx([first for first, _ in ends]), zyx([last + 1 for _, last in ends]))


def nearest_index(start: int, stop: int, scale: int, centre: float, length: int) -> Index:
    """The measured voxel nearest to each output voxel from start to stop - 1 along one axis, the higher of two.

    Args:
        start, stop: output voxels.
        scale: output voxels per measured voxel.
        centre: where the middle of measured voxel 0 lies, in output voxels.
        length: measured voxels along the axis.
    """
    position = (np.arange(start, stop, dtype=np.int64) - centre) / scale
    return np.floor(position + 0.5).astype(np.int64).clip(0, length - 1)


def _weighted_sum(
    values: npt.NDArray[np.float32],
    axis: int,
    index: Index,
    weights: npt.NDArray[np.float32],
) -> npt.NDArray[np.float32]:
    """Sum over j of weights[:, j] * values[index[:, j]] along one axis, in the order of j."""
    column = [1, 1, 1]
    column[axis] = -1
    total = np.zeros((), np.float32)
    for neighbour, weight in zip(index.T, weights.T, strict=True):
        if weight.any():
            total = total + weight.reshape(column) * values.take(neighbour, axis)
    return np.asarray(total, np.float32)
