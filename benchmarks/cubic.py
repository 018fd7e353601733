"""Cubic interpolation of measured voxels, to compare with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from emgen.geometry import Box
from emgen.physics.interpolation import Index, Weights, measured_position, separable


def cubic(
    measured: npt.NDArray[np.generic],
    m: Box,
    box: Box,
    scale: Sequence[int],
    centre: Sequence[float],
) -> npt.NDArray[np.float32]:
    """As `emgen.physics.interpolation.linear`, with Catmull-Rom weights over four voxels (Keys 1981, a = -1/2)."""
    return separable(measured, m, box, scale, centre, cubic_weights)


def cubic_weights(
    first: int, last: int, start: int, stop: int, scale: int, centre: float
) -> tuple[Index, Weights]:
    """As `emgen.physics.interpolation.linear_weights`, for four voxels: index and weights (n, 4)."""
    lower, f = measured_position(first, last, start, stop, scale, centre)
    index = np.clip(lower[:, None] + np.arange(-1, 3), first, last - 1) - first
    weights = [
        ((2 - f) * f - 1) * f / 2,
        ((3 * f - 5) * f * f + 2) / 2,
        ((4 - 3 * f) * f + 1) * f / 2,
        (f - 1) * f * f / 2,
    ]
    return index, np.stack(weights, axis=1)
