"""The network: a U-Net, ours or diffusers' UNet2DModel, as velocity(x, t) on planes of any size."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from diffusers import UNet2DModel
from torch import Tensor, nn
from torch.nn import functional

from emgen.networks.unet import PixelNorm, UNet
from emgen.sampling import diffusion

TIME_SCALE = 1000.0  # UNet2DModel expects diffusion steps


class Prior(nn.Module):
    """A velocity on stacks of planes (n, 1, h, w) of any size.

    Args:
        channels: of each level, finest first.
        layers: residual blocks per level.
        design: "unet2d" is diffusers' UNet2DModel, to which all that follows but `unshuffle` applies; "gated" is
            `emgen.networks.unet.UNet`, faster on a CPU.
        unshuffle: pixels folded into channels before the first level; 2 costs a quarter of 1.
        norm: "pixel" makes the network local; "group" is diffusers' own.
        attention: levels with self-attention; they tie a plane's pixels together, so give such a
            network tiles of the size it was trained on.
        dropout: while training.
        predicts: "velocity", or "noise" as a diffusion model does, which becomes a velocity by
            `emgen.sampling.diffusion`.
        time_scale: what the time is multiplied by; not used where noise is predicted.
        options: further arguments of UNet2DModel.
    """

    def __init__(
        self,
        channels: Sequence[int] = (32, 64, 96),
        layers: int = 1,
        design: Literal["unet2d", "gated"] = "unet2d",
        unshuffle: int = 2,
        norm: Literal["pixel", "group"] = "pixel",
        attention: Sequence[int] = (),
        dropout: float = 0.0,
        predicts: Literal["velocity", "noise"] = "velocity",
        time_scale: float = TIME_SCALE,
        options: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if norm not in ("pixel", "group"):
            raise ValueError(f'norm must be "pixel" or "group", not {norm!r}')
        if design not in ("unet2d", "gated"):
            raise ValueError(f'design must be "unet2d" or "gated", not {design!r}')
        levels = range(len(channels))
        if not set(attention) <= set(levels):
            raise ValueError(f"attention must name levels below {len(channels)}, not {attention}")
        self.unshuffle = unshuffle
        self.multiple = unshuffle * 2 ** (len(channels) - 1)
        if predicts not in ("velocity", "noise"):
            raise ValueError(f'predicts must be "velocity" or "noise", not {predicts!r}')
        self.design, self.predicts, self.time_scale = design, predicts, time_scale
        if design == "gated":
            if norm != "pixel" or attention or dropout or options:
                raise ValueError('design "gated" has no group norm, attention, dropout or options')
            self.unet: Any = UNet(unshuffle**2, channels, layers)
            self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
            return
        unet: Any = UNet2DModel(
            **{
                "in_channels": unshuffle**2,
                "out_channels": unshuffle**2,
                "layers_per_block": layers,
                "block_out_channels": tuple(channels),
                "down_block_types": tuple(
                    "AttnDownBlock2D" if i in attention else "DownBlock2D" for i in levels
                ),
                "up_block_types": tuple(
                    "AttnUpBlock2D" if i in attention else "UpBlock2D" for i in reversed(levels)
                ),
                "add_attention": bool(attention),
                "norm_num_groups": math.gcd(32, *channels),
                "dropout": dropout,
                **(options or {}),
            }
        )
        if norm == "pixel":
            _replace_group_norms(unet)
        self.unet = unet
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """The velocity of planes x (n, 1, h, w) at times t (n,), shape of x."""
        if self.predicts == "velocity":
            return self._prediction(x, t)
        steps = diffusion.step(t).to(x.device, torch.float32)
        eps = self._prediction(diffusion.to_diffusion(x, t), steps / self.time_scale)
        return diffusion.velocity(eps, x, t)

    def velocity(self, x: Tensor, t: float) -> Tensor:
        """The velocity of planes x (n, 1, h, w) at time t, shape of x."""
        # steps are looked up on the CPU
        device = "cpu" if self.predicts == "noise" else x.device
        return self.forward(x, torch.full((len(x),), t, dtype=torch.float32, device=device))

    def _prediction(self, x: Tensor, t: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        folded = functional.pixel_unshuffle(padded(x, self.multiple), self.unshuffle)
        folded = folded.contiguous(memory_format=torch.channels_last)
        if self.design == "gated":
            found: Tensor = self.unet(folded, t)
        else:
            found = self.unet(folded, t * self.time_scale).sample
        return functional.pixel_shuffle(found, self.unshuffle)[..., :height, :width]


def _replace_group_norms(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.GroupNorm):
            setattr(module, name, PixelNorm(child.num_channels))
        else:
            _replace_group_norms(child)


def padded(x: Tensor, multiple: int) -> Tensor:
    """Mirrored at the bottom and the right up to whole multiples, also where it is smaller than the mirror image."""
    for axis in (-2, -1):
        length = x.shape[axis]
        missing = -length % multiple
        if missing:
            index = torch.arange(length + missing, device=x.device) % max(2 * length - 2, 1)
            x = x.index_select(axis, torch.where(index < length, index, 2 * length - 2 - index))
    return x
