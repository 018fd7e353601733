"""The mean of clean tissue given a noisy image, by one call of the prior (Tweedie's formula for a flow)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from emgen.sampling.problem import Velocity

FAINTEST = 1e-3
"""Noise, in half ranges, below which octaves are not told apart: an eighth of a grey value of 8 bits."""


def posterior_mean_one_call(
    y: Tensor, sigma: float | Tensor, velocities: Sequence[Velocity]
) -> Tensor:
    """The mean of x given y = x + sigma eps, one plane at a time, the planes' results averaged.

    y / (1 + sigma) is x_t at t = 1 / (1 + sigma), so that one velocity answers.

    Args:
        y: noisy voxels (z, y, x) in half ranges.
        sigma: standard deviation of the noise in half ranges, one number or one for each voxel of y.
        velocities: of the prior along the planes of the volume.

    Raises:
        ValueError: no velocity, or a negative sigma.
    """
    if not velocities:
        raise ValueError("expected at least one velocity; found none")

    def estimate(sigma: float) -> Tensor:
        t = 1 / (1 + sigma)
        clean = [t * y + (1 - t) * velocity(t * y, t) for velocity in velocities]
        return torch.stack(clean).mean(dim=0)

    return interpolate_over_sigma(sigma, estimate)


def interpolate_over_sigma(sigma: float | Tensor, estimate: Callable[[float], Tensor]) -> Tensor:
    """`estimate(sigma)`, also where the noise differs from voxel to voxel.

    The estimates for noises an octave apart are then interpolated at every voxel, linearly in log sigma. Which
    noises these are depends on nothing but the octaves, so that a voxel's result does not depend on other voxels.

    Raises:
        ValueError: a negative sigma.
    """
    if isinstance(sigma, Tensor):
        octave = sigma.clamp(min=FAINTEST).log2()
        low, high = (float(end) for end in octave.aminmax())
        if low < high:
            levels = range(math.floor(low), math.ceil(high) + 1)
            shares = ((1 - (octave - level).abs()).clamp(min=0) for level in levels)
            parts = (
                share * estimate(2.0**level) for level, share in zip(levels, shares, strict=True)
            )
            return sum(parts, start=torch.zeros_like(sigma))
        sigma = 2**high
    if sigma < 0:
        raise ValueError(f"sigma must not be negative; found {sigma}")
    return estimate(sigma)
