"""Flow matching on the straight path from noise to data, and nothing else.

x_t = (1 - t) eps + t x, velocity v = x - eps: noise at t = 0, data at t = 1; x in the prior's half range. Lipman et
al., ICLR 2023 (arXiv 2210.02747); Liu et al., ICLR 2023 (arXiv 2209.03003). Noise and data are drawn independently,
so that x_t + (1 - t) v is the posterior mean that the samplers need; minibatch optimal transport (`ot_pairing`)
straightens the paths, and biases it.

Data with noise of their own take part of the path's noise from it: Daras, Dimakis and Daskalakis, ICML 2024,
arXiv 2404.10177. What the network then learns is still the mean of the clean data.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

# Late times are logit-normal(0.8, 1): restoration starts at t from 0.7 to 0.9, and the median of these is 0.69.
LATE_LOGIT = 0.8
SMALLEST_TIME = 1e-6  # below which divisions by t or 1 - t are cut off

Network = Callable[[Tensor, Tensor], Tensor]


def interpolant(x: Tensor, eps: Tensor, t: Tensor) -> Tensor:
    """x_t = (1 - t) eps + t x; noise at t = 0, data at t = 1. t has shape (n,), x and eps (n, ...)."""
    t = t.reshape(-1, *[1] * (x.ndim - 1))
    return (1 - t) * eps + t * x


def noise_deficit(t: Tensor, noise: Tensor) -> Tensor:
    """Fraction of the path's noise variance at time t that must still be added to data whose own noise is `noise`.

    k = max(0, 1 - (t noise / (1 - t))^2); noise is a standard deviation in the prior's half range; all have shape (n,).
    """
    return (1 - (t * noise / (1 - t).clamp_min(SMALLEST_TIME)).square()).clamp_min(0)


def loss(network: Network, x: Tensor, eps: Tensor, t: Tensor, noise: Tensor) -> Tensor:
    """The mean squared error of the velocity, a scalar; of noisy data, that of the prediction of x from x_t.

    With k the `noise_deficit`, x_t = t x + (1 - t) sqrt(k) eps lies on the path of the clean data, and
    E[x | x_t] = k D + (1 - k) x_t / t with D = E[clean | x_t]. The loss is the squared error of that prediction of x;
    its minimiser D is the clean posterior mean (Daras et al. 2024). Where k is 0, it is 0.

    Args:
        network: gives the velocity of planes (n, 1, h, w) at times (n,).
        x: data (n, 1, h, w) with white noise of standard deviation `noise`.
        eps: standard normal noise, shape of x.
        t: times (n,).
        noise: (n,), in the prior's half range; 0 for clean data.
    """
    k = noise_deficit(t, noise).reshape(-1, *[1] * (x.ndim - 1))
    own = (1 - k) / t.clamp_min(SMALLEST_TIME).reshape(k.shape)
    v = network(interpolant(x, k.sqrt() * eps, t), t)
    return (k * v - (k * x - k.sqrt() * (k + own) * eps)).square().mean()


def times(count: int, late: float, generator: torch.Generator) -> Tensor:
    """Training times, shape (count,): a fraction `late` of them logit-normal(0.8, 1), the others uniform.

    Restoration starts late, so t above a half is where the network is used most; the uniform part keeps the whole path
    covered.
    """
    uniform = torch.rand(count, generator=generator)
    high = torch.sigmoid(LATE_LOGIT + torch.randn(count, generator=generator))
    # spread over the batch, so that processes that share it see the same mixture
    place = torch.arange(1, count + 1) * late
    return torch.where(place.floor() > (place - late).floor(), high, uniform)


def ot_pairing(x: Tensor, eps: Tensor) -> Tensor:
    """The noises of a batch in the order of least total squared distance to its patches: minibatch optimal transport.

    Tong et al., TMLR 2024, arXiv 2302.00482; Pooladian et al., ICML 2023. x and eps have shape (n, ...), the result
    that of eps.
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
