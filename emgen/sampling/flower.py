"""Flower: denoise, bring to what was measured, noise again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emgen.sampling.flow import x1_prediction
from emgen.sampling.problem import Problem
from emgen.sampling.sampler import Sampler

if TYPE_CHECKING:
    from torch import Tensor


def flower(problem: Problem) -> Tensor:
    """Flower (Pourya et al., ICLR 2026, arXiv 2509.26287, algorithm 1), from `problem.start` at time t0.

        h  = x + (1 - t) v(x, t)                                  denoise
        x* = argmin |A x - y|^2 / sigma^2 + |x - h|^2 / nu(t)     measure
        x  = t' x* + (1 - t') eps                                 noise again, always fresh
        nu = (1 - t)^2 / (t^2 + (1 - t)^2)

    t0 = 0 is the published start from noise; a later one keeps what the start already knows.

    Returns:
        The last x* (z, y, x) in half ranges, which agrees with y: for sigma = 0 exactly.

    Raises:
        ValueError: the problem has no start, or only unbound velocities.
    """
    y, A, sigma, velocities = problem.y, problem.A, problem.sigma, problem.velocities
    if problem.start is None or not velocities:
        raise ValueError("flower needs a start, and a velocity that the measurement binds")
    t0, steps, x_star = problem.start_time, problem.steps, problem.start
    for k in range(steps):
        t = t0 + (1 - t0) * k / steps
        x = t * x_star + (1 - t) * problem.noise(k)
        h = x1_prediction(x, velocities[k % len(velocities)](x, t), t)
        nu = (1 - t) ** 2 / (t**2 + (1 - t) ** 2)
        x_star = A.prox(h, y, sigma**2 / nu)
    return x_star


SAMPLER = Sampler(
    flower,
    # of an estimate by linear interpolation; the modes say how many a learned one needs
    steps=12,
    settings=frozenset({"noise", "start", "estimator"}),
    begins_from_estimate=True,
)
