"""Diffusion posterior sampling: a gradient through the network at every step, for comparison with `flower`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from emgen.sampling.flow import x1_prediction
from emgen.sampling.problem import Problem
from emgen.sampling.sampler import Sampler

if TYPE_CHECKING:
    from torch import Tensor

PUBLISHED_SIZE = 128
"""Pixels on a side of the planes that the published scale of the gradient is for."""


def dps(problem: Problem) -> Tensor:
    """Diffusion posterior sampling (Chung et al., ICLR 2023, algorithm 1) with a flow's velocity.

        h  = the mean of the data given x              by the change of variables in emgen.sampling.diffusion
        x' = c1 h + c2 x + c3 eps                      one ancestral step of DDPM
        x  = x' - scale * gradient in x of |A h - y|   on planes that the measurement binds only

    With a the variance of the data that is left, a' that after the step and b = 1 - a / a' the variance
    that it takes away: c1 = sqrt(a') b / (1 - a), c2 = sqrt(1 - b) (1 - a') / (1 - a) and
    c3 = sqrt(b (1 - a') / (1 - a)) (Ho et al., NeurIPS 2020, equations 6 and 7). Fewer steps than 1000 are
    spread evenly over them. |.| is the norm that a plane of 128 x 128 voxels would have, so that the scale
    (`problem.guidance`) does not depend on how many there are. sigma is not used. The gradient goes through the
    network: memory for one pass over all of x. Velocities must be differentiable.

    Returns:
        The last x (z, y, x) in half ranges, which need not agree with y.
    """
    # a plan reads the defaults below without torch
    import torch

    from emgen.sampling import diffusion

    y, A, turns = problem.y, problem.A, problem.turns
    x = problem.noise(0)
    size = math.sqrt(x.numel()) / PUBLISHED_SIZE
    for k, (time, kept, later) in enumerate(diffusion.schedule(problem.steps)):
        velocity, bound = turns[k % len(turns)]
        with torch.enable_grad():
            guided = bound and y.numel() > 0
            x = x.detach().requires_grad_(guided)
            x_t = diffusion.to_flow(x, time)
            h = x1_prediction(x_t, velocity(x_t, time), time)
            misfit = size * torch.linalg.vector_norm(A.residual(h, y))
            gradient = torch.autograd.grad(misfit, x)[0] if guided else 0.0
        taken = 1 - kept / later
        mean = (
            math.sqrt(later) * taken * h.detach() + math.sqrt(1 - taken) * (1 - later) * x.detach()
        )
        fresh = math.sqrt(taken * (1 - later) / (1 - kept))
        x = mean / (1 - kept) + fresh * problem.noise(k + 1) - problem.guidance * gradient
    return x.detach()


SAMPLER = Sampler(
    dps,
    steps=1000,  # of the diffusion models that it was published for
    settings=frozenset({"alpha"}),
)
