"""The change of variables between a diffusion (DDPM) and the flow: the same noise, at another scale.

    diffusion   x_s = sqrt(a_s) x + sqrt(1 - a_s) eps    a_s falls from 1 to 0 over the steps s = 0 ... 999
    flow        x_t = t x + (1 - t) eps                  from noise at t = 0 to data at t = 1

Where both hold the same noise for the same data, sqrt((1 - a_s) / a_s) = (1 - t) / t, and x_s is x_t divided by
sqrt(t^2 + (1 - t)^2). So a network that predicts eps for one gives the velocity of the other, and back.
DDPM: Ho et al., NeurIPS 2020, arXiv 2006.11239, with its linear variances.

Every t is one number for all of x (n, ...), or one for each, shape (n,).
"""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

STEPS, FIRST, LAST = 1000, 1e-4, 0.02  # variances rise linearly from FIRST to LAST

Times = float | Tensor


@cache
def kept() -> npt.NDArray[np.float64]:
    """a_s, the variance of the data that is left at every step, shape (1000,)."""
    return np.cumprod(1 - np.linspace(FIRST, LAST, STEPS, dtype=np.float64), dtype=np.float64)


@cache
def _logarithms() -> npt.NDArray[np.float64]:
    return np.log((1 - kept()) / kept()) / 2


def schedule(steps: int) -> list[tuple[float, float, float]]:
    """From noise to data in so many steps.

    Args:
        steps: from 1 to 1000; fewer than 1000 are spread evenly over them.

    Returns:
        For each step the flow's time, a_s, and a_s after it, which is 1 after the last.

    Raises:
        ValueError: another number of steps.
    """
    if not 1 <= steps <= STEPS:
        raise ValueError(f"a diffusion has from 1 to {STEPS} steps, not {steps}")
    at = np.linspace(STEPS - 1, 0, steps).round().astype(int)
    left = [*kept()[at], 1.0]
    return [(time(s), *pair) for s, pair in zip(at, itertools.pairwise(left), strict=True)]


def time(step: float) -> float:
    """The flow's time of a diffusion step, which may lie between two: between 0.006 and 0.99."""
    ratio = np.exp(np.interp(step, np.arange(STEPS), _logarithms()))
    return float(1 / (1 + ratio))


def step(t: Times) -> Tensor:
    """The diffusion's step of a time of the flow, which may lie between two.

    Args:
        t: times in (0, 1); those beyond the first and the last step become these.

    Returns:
        Steps from 0 to 999, shape of t, float64 on the CPU.
    """
    times = torch.as_tensor(t, dtype=torch.float64, device="cpu").numpy()
    with np.errstate(divide="ignore"):
        logarithms = np.log1p(-times) - np.log(times)
    return torch.as_tensor(np.interp(logarithms, _logarithms(), np.arange(STEPS)))


def to_diffusion(x_t: Tensor, t: Times) -> Tensor:
    """x_s, the diffusion's noisy data, of the flow's x_t (n, ...) at time t."""
    return x_t / _length(_per_item(t, x_t))


def to_flow(x_s: Tensor, t: Times) -> Tensor:
    """x_t, the flow's noisy data, of the diffusion's x_s (n, ...) at time t."""
    return x_s * _length(_per_item(t, x_s))


def velocity(eps: Tensor, x_t: Tensor, t: Times) -> Tensor:
    """A network's noise as a velocity: the mean of x - eps given x_t (n, ...), which is (x_t - eps) / t.

    Before the time of the diffusion's last step eps is what it was there, where the same x_s is this
    other x_t: dividing by t itself would make nothing but noise of nearly equal numbers.
    """
    t = _per_item(t, x_t)
    later = t.clamp(min=time(STEPS - 1))
    return (x_t * (_length(later) / _length(t)) - eps) / later


def _per_item(t: Times, x: Tensor) -> Tensor:
    return torch.as_tensor(t, dtype=x.dtype, device=x.device).reshape(-1, *[1] * (x.ndim - 1))


def _length(t: Tensor) -> Tensor:
    return torch.hypot(t, 1 - t)
