"""Blocks that were tried for the CPU's network beside the one that it has, `emgen.networks.unet.GatedBlock`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from emgen.networks.prior import GatedPrior, Prior
from emgen.networks.unet import GatedBlock, PixelNorm, UNet


class Plain(nn.Module):
    """x + conv(SiLU(scale(t) conv(x) + shift(t))): two dense convolutions, no norm."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.norm: nn.Module = nn.Identity()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.modulation = nn.Linear(width, 2 * channels)
        begin_as_identity(self.conv2, self.modulation)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        scale, shift = self.modulation(time)[..., None, None].chunk(2, 1)
        h = self.conv1(self.norm(x))
        change: Tensor = self.conv2(functional.silu(torch.addcmul(h + shift, h, scale)))
        return x + change


class Normed(Plain):
    """The same behind a per-pixel norm."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__(channels, width)
        self.norm = PixelNorm(channels)


class Wide(nn.Module):
    """Depthwise 7 x 7, then 1 x 1 up and down (ConvNeXt without its norm)."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.depth = nn.Conv2d(channels, channels, 7, padding=3, groups=channels)
        self.up = nn.Conv2d(channels, 3 * channels, 1)
        self.down = nn.Conv2d(3 * channels, channels, 1)
        self.modulation = nn.Linear(width, 2 * channels)
        begin_as_identity(self.down, self.modulation)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        scale, shift = self.modulation(time)[..., None, None].chunk(2, 1)
        h = self.depth(x)
        change: Tensor = self.down(functional.silu(self.up(torch.addcmul(h + shift, h, scale))))
        return x + change


def begin_as_identity(*layers: nn.Conv2d | nn.Linear) -> None:
    for layer in layers:
        nn.init.zeros_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def prior(
    block: Callable[[int, int], nn.Module] = GatedBlock,
    channels: Sequence[int] = (48, 96, 192),
    layers: int = 1,
    unshuffle: int = 2,
) -> Prior:
    """The U-Net for CPUs with other blocks."""
    made = GatedPrior(channels, layers, unshuffle)
    made.unet = UNet(unshuffle**2, channels, layers, block=block)
    return made.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]
