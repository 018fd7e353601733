"""Networks that were tried for the CPU's prior beside diffusers' UNet2DModel.

All are U-Nets without attention on pixel-unshuffled planes, see `ConvUNet`; they differ in the block.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from emgen.prior.network import PixelNorm, _padded


class Time(nn.Module):
    """Features of the time, (n,) to (n, width)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("frequency", torch.exp(torch.linspace(0, math.log(200), 16)))
        self.mlp = nn.Sequential(
            nn.Linear(34, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )

    def forward(self, t: Tensor) -> Tensor:
        angle = t[:, None] * self.frequency
        level = torch.log((1 - t + 1e-3) / (t + 1e-3))[:, None] / 4
        return self.mlp(torch.cat([angle.sin(), angle.cos(), level, t[:, None]], 1))


class Plain(nn.Module):
    """conv, scale and shift by time, SiLU, conv; no norm."""

    kernel, norm = 3, False

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.norm1 = PixelNorm(channels) if self.norm else nn.Identity()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.film = nn.Linear(width, 2 * channels)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        scale, shift = self.film(time)[..., None, None].chunk(2, 1)
        h = self.conv1(self.norm1(x))
        return x + self.conv2(functional.silu(torch.addcmul(h + shift, h, scale)))


class Normed(Plain):
    """The same behind a per-pixel norm."""

    norm = True


class Wide(nn.Module):
    """Depthwise, 1x1 up, scale and shift by time, SiLU, 1x1 down (ConvNeXt without its norm)."""

    def __init__(self, channels: int, width: int, kernel: int = 7, expand: int = 3) -> None:
        super().__init__()
        self.depth = nn.Conv2d(channels, channels, kernel, padding=kernel // 2, groups=channels)
        self.up = nn.Conv2d(channels, expand * channels, 1)
        self.down = nn.Conv2d(expand * channels, channels, 1)
        self.film = nn.Linear(width, 2 * channels)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        scale, shift = self.film(time)[..., None, None].chunk(2, 1)
        h = self.depth(x)
        h = torch.addcmul(h + shift, h, scale)
        return x + self.down(functional.silu(self.up(h)))


class Gated(nn.Module):
    """1x1 up, depthwise 3x3, gate, 1x1 down (half of a NAFNet block, without its global attention)."""

    def __init__(self, channels: int, width: int, expand: int = 2) -> None:
        super().__init__()
        self.norm = PixelNorm(channels)
        self.up = nn.Conv2d(channels, 2 * expand * channels, 1)
        self.depth = nn.Conv2d(
            2 * expand * channels, 2 * expand * channels, 3, padding=1, groups=2 * expand * channels
        )
        self.down = nn.Conv2d(expand * channels, channels, 1)
        self.film = nn.Linear(width, 2 * channels)
        nn.init.zeros_(self.down.weight)
        nn.init.zeros_(self.down.bias)
        nn.init.zeros_(self.film.weight)
        nn.init.zeros_(self.film.bias)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        scale, shift = self.film(time)[..., None, None].chunk(2, 1)
        h = self.norm(x)
        h = torch.addcmul(h + shift, h, scale)
        a, b = self.depth(self.up(h)).chunk(2, 1)
        return x + self.down(a * b)


BLOCKS = {"plain": Plain, "normed": Normed, "wide": Wide, "gated": Gated}


class ConvUNet(nn.Module):
    """velocity(x, t); skips are added, not concatenated.

    channels: of each level, finest first. blocks: per level on the way down and again on the way up
    (the coarsest level has twice as many). unshuffle: pixels folded into channels.
    precondition: add the best linear velocity for data of variance 0.15, so that only the rest is learnt.
    """

    def __init__(
        self,
        channels: Sequence[int] = (48, 96, 192),
        blocks: Sequence[int] = (1, 1, 1),
        kind: str = "plain",
        unshuffle: int = 2,
        width: int = 128,
        precondition: bool = False,
    ) -> None:
        super().__init__()
        make = BLOCKS[kind]
        self.unshuffle, self.multiple, self.precondition = (
            unshuffle,
            unshuffle * 2 ** (len(channels) - 1),
            precondition,
        )
        self.time = Time(width)
        self.head = nn.Conv2d(unshuffle**2, channels[0], 3, padding=1)
        self.down = nn.ModuleList(
            nn.ModuleList(make(c, width) for _ in range(n)) for c, n in zip(channels, blocks)
        )
        self.up = nn.ModuleList(
            nn.ModuleList(make(c, width) for _ in range(n)) for c, n in zip(channels, blocks)
        )
        self.coarser = nn.ModuleList(
            nn.Conv2d(a, b, 2, stride=2) for a, b in itertools.pairwise(channels)
        )
        self.finer = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in itertools.pairwise(channels))
        self.tail = nn.Conv2d(channels[0], unshuffle**2, 3, padding=1)
        nn.init.zeros_(self.tail.weight)
        nn.init.zeros_(self.tail.bias)
        self.to(memory_format=torch.channels_last)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        whole = _padded(x, self.multiple)
        h = functional.pixel_unshuffle(whole, self.unshuffle).contiguous(
            memory_format=torch.channels_last
        )
        time, skips = self.time(t), []
        level = t[:, None, None, None]
        scale = 1.0
        if self.precondition:
            scale = (0.15 * level.square() + (1 - level).square()).rsqrt()
        h = self.head(h * scale)
        for i, blocks in enumerate(self.down):
            for block in blocks:
                h = block(h, time)
            if i < len(self.coarser):
                skips.append(h)
                h = self.coarser[i](h)
        for i in reversed(range(len(self.up))):
            for block in self.up[i]:
                h = block(h, time)
            if i:
                h = functional.pixel_shuffle(self.finer[i - 1](h), 2) + skips.pop()
        v = functional.pixel_shuffle(self.tail(h), self.unshuffle)
        if self.precondition:
            v = v + whole * ((0.15 * level - (1 - level)) * scale.square())
        return v[..., :height, :width]

    def velocity(self, x: Tensor, t: float) -> Tensor:
        return self.forward(x, torch.full((len(x),), t, device=x.device))
