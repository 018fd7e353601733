"""The change of variables between a diffusion (DDPM) and the flow: the same noise, at another scale.

    diffusion   x_s = sqrt(a_s) x + sqrt(1 - a_s) eps    a_s falls from 1 to 0 over the steps s = 0 ... 999
    flow        x_t = t x + (1 - t) eps                  from noise at t = 0 to data at t = 1

Where both hold the same noise for the same data, sqrt((1 - a_s) / a_s) = (1 - t) / t, and x_s is x_t divided by
sqrt(t^2 + (1 - t)^2). So a network that predicts eps for one gives the velocity of the other, and back.
DDPM: Ho et al., NeurIPS 2020, arXiv 2006.11239, with its linear variances.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import numpy.typing as npt
from torch import Tensor

STEPS, FIRST, LAST = 1000, 1e-4, 0.02  # variances rise linearly from FIRST to LAST


@cache
def kept() -> npt.NDArray[np.float64]:
    """a_s, the variance of the data that is left at every step, shape (1000,)."""
    return np.cumprod(1 - np.linspace(FIRST, LAST, STEPS, dtype=np.float64), dtype=np.float64)


@cache
def _logarithms() -> npt.NDArray[np.float64]:
    return np.log((1 - kept()) / kept()) / 2


def time(step: float) -> float:
    """The flow's time of a diffusion step, which may lie between two: between 0.006 and 0.99."""
    ratio = np.exp(np.interp(step, np.arange(STEPS), _logarithms()))
    return float(1 / (1 + ratio))


def step(t: float) -> float:
    """The diffusion's step of a time; times beyond the first and the last step become these."""
    if t <= 0 or t >= 1:
        return float(STEPS - 1) if t <= 0 else 0.0
    return float(np.interp(np.log((1 - t) / t), _logarithms(), np.arange(STEPS)))


def to_diffusion(x_t: Tensor, t: float) -> Tensor:
    """x_s of x_t, any shape."""
    return x_t / math.hypot(t, 1 - t)


def to_flow(x_s: Tensor, t: float) -> Tensor:
    """x_t of x_s, any shape."""
    return x_s * math.hypot(t, 1 - t)


def velocity(eps: Tensor, x_t: Tensor, t: float) -> Tensor:
    """x - eps, where eps is the mean of the noise given x_t; close to t = 0, where it says nothing, of a later t."""
    return (x_t - eps) / max(t, time(STEPS - 1))


def noise(v: Tensor, x_t: Tensor, t: float) -> Tensor:
    """eps, where v is the mean of x - eps given x_t."""
    return x_t - t * v
