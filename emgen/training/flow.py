"""Flow matching on the straight path from noise to data, and nothing else.

Lipman et al., ICLR 2023 (arXiv 2210.02747); Liu et al., ICLR 2023 (arXiv 2209.03003). Noise and data
are drawn independently, so that `destination` is the posterior mean that the samplers need; minibatch
optimal transport (`coupled`) straightens the paths, and biases it.

Data that are noisy themselves take part of the path's noise from their own: Daras, Dimakis and Daskalakis,
ICML 2024, arXiv 2404.10177. What the network then learns is still the mean of what is behind the noise.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

Network = Callable[[Tensor, Tensor], Tensor]


def at(x: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """x_t = (1 - t) eps + t x; noise at t = 0, data at t = 1. t has shape (n,), x and eps (n, ...)."""
    t = t.reshape(-1, *[1] * (x.ndim - 1))
    return (1 - t) * eps + t * x


def destination(x_t: Tensor, v: Tensor, t: float) -> Tensor:
    """x_t + (1 - t) v: the mean of the data given x_t, where v is the mean of x - eps."""
    return x_t + (1 - t) * v


def missing(t: Tensor, noise: Tensor) -> Tensor:
    """Share of the noise variance at times t that data with noise of this standard deviation do not bring themselves.

    max(0, 1 - (t noise / (1 - t))^2); all have shape (n,).
    """
    return (1 - (t * noise / (1 - t).clamp_min(1e-6)).square()).clamp_min(0)


def loss(network: Network, x: Tensor, eps: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """Mean squared error of the velocity, a scalar.

    x, which has white noise of standard deviation `noise` (n,), and eps have shape (n, 1, h, w), t (n,). With k what is
    `missing`, x_t = t x + (1 - t) sqrt(k) eps lies on the path of what is clean, and of x it leaves the mean
    k D + (1 - k) x_t / t, where D is that of what is clean. The error of this is taken; its minimum in D is the
    same without noise, and where nothing is missing it says nothing.
    """
    k = missing(t, noise).reshape(-1, *[1] * (x.ndim - 1))
    own = (1 - k) / t.clamp_min(1e-6).reshape(k.shape)
    v = network(at(x, k.sqrt() * eps, t), t)
    return (k * v - (k * x - k.sqrt() * (k + own) * eps)).square().mean()


def times(count: int, late: float, generator: torch.Generator) -> Tensor:
    """Training times, shape (count,): a share `late` of them logit-normal(0.8, 1), the rest uniform.

    Restoration starts late, so t above a half is where the network is used most; the uniform part
    keeps the whole path covered.
    """
    uniform = torch.rand(count, generator=generator)
    high = torch.sigmoid(0.8 + torch.randn(count, generator=generator))
    # spread over the batch, so that processes that share it see the same mixture
    place = torch.arange(1, count + 1) * late
    return torch.where(place.floor() > (place - late).floor(), high, uniform)


def coupled(x: Tensor, eps: Tensor) -> Tensor:
    """The noises of a batch in the order that makes the squared distance to its patches least.

    Minibatch optimal transport (Tong et al., TMLR 2024, arXiv 2302.00482; Pooladian et al., ICML 2023).
    x and eps have shape (n, ...), the result that of eps.
    """
    # sum (x_i - eps_j)^2 differs from -2 x_i eps_j by what no assignment changes
    cost = -(x.flatten(1) @ eps.flatten(1).T).double().cpu().numpy()
    return eps[torch.as_tensor(linear_sum_assignment(cost)[1], device=eps.device)]


@torch.inference_mode()
def sample(network: Network, eps: Tensor, steps: int) -> Tensor:
    """Unconditional samples: Euler steps of dx/dt = v from noise eps (n, ...) at t = 0 to data at t = 1."""
    x = eps
    for k in range(steps):
        x = x + network(x, torch.full((len(x),), k / steps, device=x.device)) / steps
    return x
