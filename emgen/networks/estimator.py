"""A learned estimate of what was measured: where sampling begins, and where denoising ends.

It sees a plane of what is known without it, the planes beside it, and how strongly its voxels were measured; its result
is the mean of the plane given these, if it learnt on tissue like it. Between sections (AXIAL) the planes are xz and yz
of the linear interpolation; in sections (SECTIONS) they are those, with what lies before and behind them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from emgen.networks.prior import padded
from emgen.networks.unet import UNet
from emgen.physics.operators import Operator

DETAIL = (
    0.2  # standard deviation, of the prior's half range, of what a section is tikhonov_start by
)


class Estimator(nn.Module):
    """The mean of planes (n, 1, h, w) of any size given what was measured of them; between sections, rows lie along z.

    Args:
        channels: of each level, finest first.
        layers: residual blocks per level.
        beside: planes that it sees on either side.
        unshuffle: pixels folded into channels before the first level.
    """

    def __init__(
        self,
        channels: Sequence[int] = (32, 64, 128, 192),
        layers: int = 2,
        beside: int = 2,
        unshuffle: int = 2,
    ) -> None:
        super().__init__()
        self.beside, self.unshuffle = beside, unshuffle
        self.multiple = unshuffle * 2 ** (len(channels) - 1)
        planes = 2 * beside + 2
        self.unet = UNet(planes * unshuffle**2, channels, layers, outputs=unshuffle**2)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, inputs: Tensor, t: Tensor) -> Tensor:
        """Planes (n, 1, h, w) of `inputs` (n, 2 * beside + 2, h, w), see `context_stack`, measured with noise (1 - t) / t; t (n,)."""
        height, width = inputs.shape[-2:]
        folded = functional.pixel_unshuffle(padded(inputs, self.multiple), self.unshuffle)
        change = self.unet(folded.contiguous(memory_format=torch.channels_last), t)
        change = functional.pixel_shuffle(change, self.unshuffle)[..., :height, :width]
        return inputs[:, self.beside : self.beside + 1] + change

    def plane(self, inputs: Tensor, sigma: float) -> Tensor:
        """As a call, where every plane was measured with noise of standard deviation sigma."""
        t = 1 / (1 + sigma)
        return self.forward(inputs, torch.full((len(inputs),), t, device=inputs.device))


def context_stack(start: Tensor, cover: Tensor, beside: int, wanted: slice = slice(None)) -> Tensor:
    """What an `Estimator` is given, (planes, 2 * beside + 2, z, width).

    start: linear interpolation (z, planes, width), or sections (y, planes, width) as `tikhonov_start` has them.
    cover: A^T 1, how much of each voxel was measured: 1 in a measured section, 1 / factor in an average, 0 in none;
    in sections the operator's `response_norm` with which all were measured, 0 where they were lost.
    wanted: which planes, all by default.
    At the ends the outermost plane stands for those that are not there.
    """
    count = start.shape[1]
    place = torch.arange(count, device=start.device)[wanted]
    planes = [
        start.index_select(1, (place + k).clamp(0, count - 1)) for k in range(-beside, beside + 1)
    ]
    return torch.stack([*planes, cover[:, wanted]]).permute(2, 0, 1, 3)


def tikhonov_start(start: Tensor, y: Tensor, A: Operator, sigma: float) -> Tensor:
    """The start brought to what was measured, as far as noise sigma lets that be trusted: Tikhonov's estimate.

    argmin over x of |A x - y|^2 / sigma^2 + |x - start|^2 / DETAIL^2
    """
    return A.prox(start, y, (sigma / DETAIL) ** 2)
