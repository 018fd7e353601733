"""Posterior samplers for y = A x + sigma * noise, with a flow-matching prior.

The path: x_t = (1 - t) eps + t x, from noise at t = 0 to data at t = 1; the velocity v(x_t, t) is
the mean of x - eps given x_t, so that x_t + (1 - t) v is the mean of x given x_t.

All tensors are (z, y, x) of intensities about [-1, 1]; inputs are never written to. `velocities`
are one prior seen along several planes of a volume, taken in turn; `noise(k)` is fresh standard
normal noise of x's shape for each k from 0 to the number of steps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from emgen.physics.operators import Operator
from emgen.sampling import diffusion

Velocity = Callable[[Tensor, float], Tensor]
Noise = Callable[[int], Tensor]

FAINTEST = 1e-3  # noise that `posterior_mean_one_call` still tells from none, where it differs
PLANE = 128  # voxels on a side of the planes that `dps` was published for


def denoised(x: Tensor, t: float, velocity: Velocity) -> Tensor:
    """The mean of the data given x at time t: x + (1 - t) v(x, t)."""
    return x + (1 - t) * velocity(x, t)


def posterior_mean_one_call(
    y: Tensor, sigma: float | Tensor, velocities: Sequence[Velocity]
) -> Tensor:
    """Denoising in one call: y = x + sigma eps is (1 + sigma) x_t at t = 1 / (1 + sigma).

    The posterior mean of one plane at a time; the planes' results are averaged. Where sigma differs from
    voxel to voxel (a tensor of y's shape), the results for noises an octave apart are interpolated at every
    voxel, linearly in the logarithm of sigma: the same ones whatever other voxels there are.
    """
    _check(velocities, steps=1)

    def estimate(sigma: float) -> Tensor:
        t = 1 / (1 + sigma)
        return torch.stack([denoised(t * y, t, velocity) for velocity in velocities]).mean(dim=0)

    return interpolate_over_sigma(sigma, estimate)


def interpolate_over_sigma(sigma: float | Tensor, estimate: Callable[[float], Tensor]) -> Tensor:
    """`estimate(sigma)`; of a tensor, what it gives for noises an octave apart, interpolated at every voxel."""
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


def flower(
    y: Tensor,
    A: Operator,
    velocities: Sequence[Velocity],
    noise: Noise,
    *,
    start: Tensor,
    sigma: float | Tensor,
    t0: float,
    steps: int,
) -> Tensor:
    """Flower (Pourya et al., ICLR 2026, arXiv 2509.26287, algorithm 1), from `start` at time t0.

        h  = x + (1 - t) v(x, t)                                  denoise
        x* = argmin |A x - y|^2 / sigma^2 + |x - h|^2 / nu(t)     measure
        x  = t' x* + (1 - t') eps                                 noise again, always fresh
        nu = (1 - t)^2 / (t^2 + (1 - t)^2)

    t0 = 0 is the published start from noise; a later one keeps what `start` (an interpolation of
    y) already knows. sigma may be a tensor of y's shape. Returns the last x*, which agrees with y: for
    sigma = 0 exactly.
    Raises `ValueError` unless 0 <= t0 < 1, steps >= 1, sigma >= 0.
    """
    _check(velocities, steps)
    least = float(sigma.amin()) if isinstance(sigma, Tensor) and sigma.numel() else 0.0
    least = least if isinstance(sigma, Tensor) else sigma
    if not 0 <= t0 < 1 or least < 0:
        raise ValueError(f"expected 0 <= t0 < 1 and sigma >= 0; found t0 {t0}, sigma {least}")
    times = [t0 + (1 - t0) * k / steps for k in range(steps)]
    x_star = start
    for k, t in enumerate(times):
        x = t * x_star + (1 - t) * noise(k)
        h = denoised(x, t, velocities[k % len(velocities)])
        nu = (1 - t) ** 2 / (t**2 + (1 - t) ** 2)
        x_star = A.prox(h, y, sigma**2 / nu)
    return x_star


def em_generalist(
    y: Tensor,
    A: Operator,
    velocities: Sequence[Velocity],
    noise: Noise,
    *,
    with_data: Sequence[bool],
    alpha: float = 0.3,
    steps: int = 100,
) -> Tensor:
    """The loop of EM Generalist: PnP-Flow (Martin et al., ICLR 2025) with one noise a step.

        z = x - (1 - t)^alpha B (A x - y)      on planes with data only
        z = t z + (1 - t) eps                  fresh
        x = z + (1 - t) v(z, t)                t = k / steps

    B = `A.interpolate_back`: interpolation of the residual where the operator samples, the residual itself for a blur. As
    published the planes are xy without data, xz and yz with. Returns the network's last output,
    which need not agree with y. Raises `ValueError` unless steps >= 1 and every plane has its word.
    """
    _check(velocities, steps)
    if len(with_data) != len(velocities):
        raise ValueError(f"expected {len(velocities)} planes in with_data; found {len(with_data)}")
    x = noise(0)
    for k in range(steps):
        t, plane = k / steps, k % len(velocities)
        z = x - (1 - t) ** alpha * A.interpolate_back(A(x) - y) if with_data[plane] else x
        x = denoised(t * z + (1 - t) * noise(k + 1), t, velocities[plane])
    return x


def dps(
    y: Tensor,
    A: Operator,
    velocities: Sequence[Velocity],
    noise: Noise,
    *,
    with_data: Sequence[bool],
    scale: float = 0.3,
    steps: int = diffusion.STEPS,
) -> Tensor:
    """Diffusion posterior sampling (Chung et al., ICLR 2023, algorithm 1) with a flow's velocity.

        h  = the mean of the data given x              by the change of variables in emgen.sampling.diffusion
        x' = c1 h + c2 x + c3 eps                      one ancestral step of DDPM
        x  = x' - scale * gradient in x of |A h - y|

    With a the variance of the data that is left, a' that after the step and b = 1 - a / a' the variance
    that it takes away: c1 = sqrt(a') b / (1 - a), c2 = sqrt(1 - b) (1 - a') / (1 - a) and
    c3 = sqrt(b (1 - a') / (1 - a)) (Ho et al., NeurIPS 2020, equations 6 and 7). Fewer `steps` than 1000 are
    spread evenly over them. |.| is the norm that a plane of 128 x 128 voxels would have, so that `scale` does
    not depend on how many there are. The gradient goes through the network: memory for one pass over all of
    x. Velocities must be differentiable. Raises `ValueError` as `em_generalist`.
    """
    _check(velocities, steps)
    if len(with_data) != len(velocities):
        raise ValueError(f"expected {len(velocities)} planes in with_data; found {len(with_data)}")
    x = noise(0)
    size = math.sqrt(x.numel()) / PLANE
    for k, (time, kept, later) in enumerate(diffusion.schedule(steps)):
        plane = k % len(velocities)
        with torch.enable_grad():
            guided = with_data[plane] and y.numel() > 0
            x = x.detach().requires_grad_(guided)
            h = denoised(diffusion.to_flow(x, time), time, velocities[plane])
            misfit = size * torch.linalg.vector_norm(A(h) - y)
            gradient = torch.autograd.grad(misfit, x)[0] if guided else 0.0
        taken = 1 - kept / later
        mean = (
            math.sqrt(later) * taken * h.detach() + math.sqrt(1 - taken) * (1 - later) * x.detach()
        )
        fresh = math.sqrt(taken * (1 - later) / (1 - kept))
        x = mean / (1 - kept) + fresh * noise(k + 1) - scale * gradient
    return x.detach()


def _check(velocities: Sequence[Velocity], steps: int) -> None:
    if not velocities or steps < 1:
        raise ValueError(
            f"expected at least one velocity and one step; found {len(velocities)} and {steps}"
        )
