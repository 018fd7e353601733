"""The loop of EM Generalist, as published: for comparison with `flower`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from emgen.sampling.flow import x1_prediction
from emgen.sampling.problem import Problem
from emgen.sampling.sampler import Sampler

if TYPE_CHECKING:
    from torch import Tensor


def em_generalist(problem: Problem) -> Tensor:
    """The loop of EM Generalist: PnP-Flow (Martin et al., ICLR 2025) with one noise a step.

        z = x - (1 - t)^alpha B (A x - y)      on planes that the measurement binds only
        z = t z + (1 - t) eps                  fresh
        x = z + (1 - t) v(z, t)                t = k / steps

    B = `A.interpolate_back`: interpolation of the residual where the operator samples, the residual itself for a
    blur. As published xy planes are unbound, xz and yz bound. alpha is `problem.guidance`; sigma is not used.

    Returns:
        The network's last output (z, y, x) in half ranges, which need not agree with y.
    """
    y, A, turns = problem.y, problem.A, problem.turns
    x = problem.noise(0)
    for k in range(problem.steps):
        t, (velocity, bound) = k / problem.steps, turns[k % len(turns)]
        z = x - (1 - t) ** problem.guidance * A.interpolate_back(A.residual(x, y)) if bound else x
        z = t * z + (1 - t) * problem.noise(k + 1)
        x = x1_prediction(z, velocity(z, t), t)
    return x


SAMPLER = Sampler(
    em_generalist,
    steps=100,  # as published
    settings=frozenset({"alpha"}),
    alpha_limit=2.0,
)
