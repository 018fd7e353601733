"""Muon for convolutions: torch's, with every kernel as a matrix of outputs by inputs and pixels.

Jordan et al. (2024), https://kellerjordan.github.io/posts/muon: the step of a matrix is the nearest
orthogonal one to its momentum, so that no direction is left behind.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

NARROW = 8  # kernels with fewer inputs or outputs (the first and the last) are better left to AdamW


class Muon(torch.optim.Muon):
    """Steps of convolution kernels (outputs, inputs, height, width).

    Args:
        kernels: parameters with gradients.
        rate: of the orthogonal step.
        weight_decay: per unit of the rate.
    """

    def __init__(self, kernels: Iterable[nn.Parameter], rate: float, weight_decay: float) -> None:
        self.kernels = list(kernels)
        matrices = [nn.Parameter(_matrix(kernel.detach()).clone()) for kernel in self.kernels]
        super().__init__(matrices, lr=rate, weight_decay=weight_decay, momentum=0.95)
        self.matrices = matrices

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """One step along the gradients of the kernels."""
        pairs = list(zip(self.matrices, self.kernels, strict=True))
        for matrix, kernel in pairs:
            matrix.copy_(_matrix(kernel))
            matrix.grad = None if kernel.grad is None else _matrix(kernel.grad).contiguous()
        super().step(closure)
        for matrix, kernel in pairs:
            outputs, inputs, height, width = kernel.shape
            kernel.copy_(matrix.view(outputs, height, width, inputs).permute(0, 3, 1, 2))


def is_kernel(parameter: Tensor) -> bool:
    """Whether Muon is for it: a dense convolution between wide layers."""
    return parameter.ndim == 4 and min(parameter.shape[:2]) > NARROW


def _matrix(kernel: Tensor) -> Tensor:
    return kernel.permute(0, 2, 3, 1).reshape(len(kernel), -1)
