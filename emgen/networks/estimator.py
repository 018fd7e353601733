"""The learned estimate of sections or of what lies between them: the start of sampling, and the result of denoising.

Input: the plane of the start (a linear interpolation, or sections by Tikhonov's estimate), its context planes, and the
sampling density A^T 1. Output: the posterior mean of the plane, for tissue like that of its training.

    task axial      isotropic restoration: planes xz and yz of the linear interpolation between sections
    task sections   denoise, superres, deblur: planes xy, sections, their context the sections before and behind
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from emgen.networks.folding import fold, unfold
from emgen.networks.unet import UNet
from emgen.physics.operators import Operator

# Standard deviation of tissue around its linear interpolation that `tikhonov_start` assumes, in the prior's half range. The
# shipped weights were trained on inputs made with it: another figure needs other weights.
DETAIL = 0.2


class Estimator(nn.Module):
    """The posterior mean of planes (n, 1, h, w) of any size, given the start, its context and the sampling density.

    For the task axial, rows lie along z.

    Args:
        channels: of each level, finest first.
        layers: residual blocks per level.
        context: planes that it is given on either side.
        unshuffle: pixels on a side that are folded into channels before the first level.
    """

    def __init__(
        self,
        channels: Sequence[int] = (32, 64, 128, 192),
        layers: int = 2,
        context: int = 2,
        unshuffle: int = 2,
    ) -> None:
        super().__init__()
        self.context = context
        self.unshuffle, self.stride = unshuffle, unshuffle << (len(channels) - 1)
        planes = 2 * context + 2
        self.unet = UNet(planes * unshuffle**2, channels, layers, outputs=unshuffle**2)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, inputs: Tensor, t: Tensor) -> Tensor:
        """The posterior mean of planes, (n, 1, h, w), in the prior's half range.

        Args:
            inputs: (n, 2 * context + 2, h, w), see `context_stack`.
            t: (n,), 1 / (1 + sigma) for measurements with noise of standard deviation sigma (prior's half range).
        """
        change = self.unet(fold(inputs, self.unshuffle, self.stride), t)
        change = unfold(change, self.unshuffle, *inputs.shape[-2:])
        return inputs[:, self.context : self.context + 1] + change

    def plane(self, inputs: Tensor, sigma: float) -> Tensor:
        """`forward` with noise of one standard deviation sigma (prior's half range) in all planes."""
        t = 1 / (1 + sigma)
        return self.forward(inputs, torch.full((len(inputs),), t, device=inputs.device))


def context_stack(
    start: Tensor, sampling_density: Tensor, context: int, planes: slice = slice(None)
) -> Tensor:
    """Inputs of an `Estimator`, (planes, 2 * context + 2, rows, columns): every plane with its context and density.

    Where context planes lie beyond the ends, the outermost plane stands for them.

    Args:
        start: (rows, planes, columns), in the prior's half range: linear interpolation with z as rows, or sections as
            `tikhonov_start` gives them with y as rows.
        sampling_density: A^T 1, shape of start: how much of each voxel was measured. Between sections 1 in a measured
            section, 1 / factor in an average, 0 in none; within sections the operator's `response_norm`, 0 in
            missing ones.
        context: planes on either side.
        planes: which planes to make inputs for, all by default.
    """
    count = start.shape[1]
    place = torch.arange(count, device=start.device)[planes]
    stack = [
        start.index_select(1, (place + k).clamp(0, count - 1)) for k in range(-context, context + 1)
    ]
    return torch.stack([*stack, sampling_density[:, planes]]).permute(2, 0, 1, 3)


def tikhonov_start(start: Tensor, y: Tensor, A: Operator, sigma: float) -> Tensor:
    """Tikhonov's estimate around a start: argmin over x of |A x - y|^2 / sigma^2 + |x - start|^2 / DETAIL^2.

    Args:
        start: the operator's output shape, in the prior's half range.
        y: what was measured, in the prior's half range.
        A: how it was measured.
        sigma: standard deviation of y's noise, in the prior's half range.
    """
    return A.prox(start, y, (sigma / DETAIL) ** 2)
