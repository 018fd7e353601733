"""Muon for convolutions: every kernel taken as a matrix of outputs by inputs and pixels.

Jordan et al. (2024), https://kellerjordan.github.io/posts/muon: the step of a matrix is the nearest
orthogonal one to its momentum, so that no direction is left behind. torch's own does it in bfloat16 wherever it
runs, which takes ten times as long on a CPU without it, and has matrices in mind.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

NARROW = 8  # kernels with fewer inputs or outputs (the first and the last) are better left to AdamW
QUINTIC = (3.4445, -4.7750, 2.0315)  # of the iteration: singular values come to between .7 and 1.2
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Steps of convolution kernels (outputs, inputs, height, width).

    Args:
        kernels: parameters with gradients.
        rate: of the orthogonal step.
        weight_decay: per unit of the rate.
        momentum: Nesterov's.
    """

    def __init__(
        self,
        kernels: Iterable[nn.Parameter],
        rate: float,
        weight_decay: float,
        momentum: float = 0.95,
    ) -> None:
        super().__init__(kernels, {"lr": rate, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step along the gradients of the kernels."""
        for group in self.param_groups:
            rate, momentum = group["lr"], group["momentum"]
            for kernel in group["params"]:
                if kernel.grad is None:
                    continue
                state = self.state[kernel]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(kernel)
                mean = state["momentum_buffer"].lerp_(kernel.grad, 1 - momentum)
                change = orthogonal(_matrix(kernel.grad.lerp(mean, momentum)))
                tall = math.sqrt(max(1.0, change.shape[0] / change.shape[1]))
                outputs, inputs, height, width = kernel.shape
                change = change.view(outputs, height, width, inputs).permute(0, 3, 1, 2)
                kernel.mul_(1 - rate * group["weight_decay"]).sub_(change, alpha=rate * tall)


def orthogonal(matrix: Tensor) -> Tensor:
    """Roughly the nearest orthogonal matrix: the same singular vectors, singular values near one; Newton and Schulz."""
    short = torch.bfloat16 if matrix.is_cuda else torch.float32
    x = matrix.to(short)
    wide = x if x.shape[0] <= x.shape[1] else x.T
    wide = wide / wide.norm().clamp(min=1e-7)  # no singular value is above one
    a, b, c = QUINTIC
    for _ in range(ITERATIONS):
        gram = wide @ wide.T
        wide = torch.addmm(wide, torch.addmm(gram, gram, gram, beta=b, alpha=c), wide, beta=a)
    return (wide if x.shape[0] <= x.shape[1] else wide.T).to(matrix).contiguous()


def is_kernel(parameter: Tensor) -> bool:
    """Whether Muon is for it: a dense convolution between wide layers."""
    return parameter.ndim == 4 and min(parameter.shape[:2]) > NARROW


def _matrix(kernel: Tensor) -> Tensor:
    return kernel.permute(0, 2, 3, 1).reshape(len(kernel), -1)
