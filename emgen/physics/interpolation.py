"""Measured voxels interpolated onto output voxels: the baseline, and the samplers' start.

A value depends on the position of its voxel and on the measured voxels around it, never on the box
that was asked for: two boxes agree bit for bit where they overlap.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

from emgen.geometry import Box, zyx

Weights = npt.NDArray[np.float64]
Index = npt.NDArray[np.int64]
WeightsOf = Callable[[int, int, int, int, int, float], tuple[Index, Weights]]


def linear(
    measured: npt.NDArray[np.generic],
    m: Box,
    box: Box,
    scale: Sequence[int],
    centre: Sequence[float],
) -> npt.NDArray[np.float32]:
    """Trilinear interpolation of `measured`, which holds the measured voxels of `m`, over `box`.

    Measured voxel k lies at output position k * scale + centre on each axis (z, y, x). Beyond the
    outermost measured voxels their value is held. Returns float32 of `box.shape`; raises
    `ValueError` when `measured` has not the shape of `m`, or `m` is empty.
    """
    return _interpolate(measured, m, box, scale, centre, linear_weights)


def cubic(
    measured: npt.NDArray[np.generic],
    m: Box,
    box: Box,
    scale: Sequence[int],
    centre: Sequence[float],
) -> npt.NDArray[np.float32]:
    """As `linear`, with Catmull-Rom weights over four measured voxels (Keys 1981, a = -1/2).

    It looks one measured voxel further than `support` does.
    """
    return _interpolate(measured, m, box, scale, centre, cubic_weights)


def support(
    box: Box,
    scale: Sequence[int],
    centre: Sequence[float],
    measured_shape: Sequence[int],
) -> Box:
    """The measured voxels between which every voxel of `box` is interpolated linearly.

    What is measured wholly inside the box is among them.
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
    """Which measured voxels, and how much of each, make output voxels start to stop of one axis.

    Measured voxels first to last - 1 are at hand; index (n, 2) counts from `first` and is clamped
    to them, weights (n, 2) sum to one.
    """
    lower, fraction = _position(first, last, start, stop, scale, centre)
    index = np.clip(lower[:, None] + np.arange(2), first, last - 1) - first
    return index, np.stack([1 - fraction, fraction], axis=1)


def cubic_weights(
    first: int, last: int, start: int, stop: int, scale: int, centre: float
) -> tuple[Index, Weights]:
    """As `linear_weights`, for four voxels: index and weights (n, 4)."""
    lower, f = _position(first, last, start, stop, scale, centre)
    index = np.clip(lower[:, None] + np.arange(-1, 3), first, last - 1) - first
    weights = [
        ((2 - f) * f - 1) * f / 2,
        ((3 * f - 5) * f * f + 2) / 2,
        ((4 - 3 * f) * f + 1) * f / 2,
        (f - 1) * f * f / 2,
    ]
    return index, np.stack(weights, axis=1)


def _position(
    first: int, last: int, start: int, stop: int, scale: int, centre: float
) -> tuple[Index, Weights]:
    """Output voxels start to stop in measured coordinates: whole part and fraction."""
    position = (np.arange(start, stop, dtype=np.int64) - centre) / scale
    # Held at the edges as a position, so that the edge's value is kept to the bit.
    position = position.clip(first, last - 1)
    lower = np.floor(position)
    return lower.astype(np.int64), position - lower


def _interpolate(
    measured: npt.NDArray[np.generic],
    m: Box,
    box: Box,
    scale: Sequence[int],
    centre: Sequence[float],
    weights_of: WeightsOf,
) -> npt.NDArray[np.float32]:
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
        result = _weighted(result, axis, index, weights.astype(np.float32))
    return result


def _weighted(
    values: npt.NDArray[np.float32],
    axis: int,
    index: Index,
    weights: npt.NDArray[np.float32],
) -> npt.NDArray[np.float32]:
    """Sum over j of weights[:, j] * values[index[:, j]] along one axis, in the order of j."""
    column = [1, 1, 1]
    column[axis] = -1
    total = np.zeros((), np.float32)
    for which, weight in zip(index.T, weights.T, strict=True):
        if weight.any():
            total = total + weight.reshape(column) * values.take(which, axis)
    return np.asarray(total, np.float32)
