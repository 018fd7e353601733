"""Flow matching on the straight path from noise to data, and nothing else.

Lipman et al., ICLR 2023 (arXiv 2210.02747); Liu et al., ICLR 2023 (arXiv 2209.03003). Noise and data
are drawn independently, so that `destination` is the posterior mean that the samplers need; minibatch
optimal transport would bias it.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Network = Callable[[Tensor, Tensor], Tensor]


def at(x: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """x_t = (1 - t) eps + t x; noise at t = 0, data at t = 1. t has shape (n,), x and eps (n, ...)."""
    t = t.reshape(-1, *[1] * (x.ndim - 1))
    return (1 - t) * eps + t * x


def destination(x_t: Tensor, v: Tensor, t: float) -> Tensor:
    """x_t + (1 - t) v: the mean of the data given x_t, where v is the mean of x - eps."""
    return x_t + (1 - t) * v


def loss(network: Network, x: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """Mean squared error of the velocity, a scalar. x and eps (n, 1, h, w), t (n,)."""
    return (network(at(x, eps, t), t) - (x - eps)).square().mean()


def times(count: int, generator: torch.Generator) -> Tensor:
    """Training times, shape (count,): half uniform, half logit-normal(0.8, 1).

    Restoration starts late, so t above a half is where the network is used most; the uniform half
    keeps the whole path covered.
    """
    uniform = torch.rand(count, generator=generator)
    late = torch.sigmoid(0.8 + torch.randn(count, generator=generator))
    return torch.where(torch.arange(count) % 2 == 0, uniform, late)
