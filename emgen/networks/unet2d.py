"""A prior with diffusers' UNet2DModel, the network of EM Generalist; the only module that imports diffusers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal

from diffusers import UNet2DModel
from torch import Tensor, nn

from emgen.networks.prior import TIME_SCALE, Predicts, Prior
from emgen.networks.unet import PixelNorm


class UNet2DPrior(Prior):
    """A prior with diffusers' UNet2DModel.

    Args:
        channels: of each level, finest first.
        layers: residual blocks per level.
        unshuffle, predicts: see `Prior`.
        norm: "pixel" makes the network local; "group" is diffusers' own.
        attention: levels with self-attention; they tie a plane's pixels together, so give such a
            network tiles of the size it was trained on.
        dropout: while training.
        time_scale: what the time from 0 to 1 is multiplied by.
        options: further arguments of UNet2DModel.

    Raises:
        ValueError: another norm, or attention at a level that is not there.
    """

    def __init__(
        self,
        channels: Sequence[int] = (32, 64, 96),
        layers: int = 1,
        unshuffle: int = 2,
        norm: Literal["pixel", "group"] = "pixel",
        attention: Sequence[int] = (),
        dropout: float = 0.0,
        predicts: Predicts = "velocity",
        time_scale: float = TIME_SCALE,
        options: dict[str, Any] | None = None,
    ) -> None:
        if norm not in ("pixel", "group"):
            raise ValueError(f'norm must be "pixel" or "group", not {norm!r}')
        levels = range(len(channels))
        if not set(attention) <= set(levels):
            raise ValueError(f"attention must name levels below {len(channels)}, not {attention}")
        down = ["AttnDownBlock2D" if level in attention else "DownBlock2D" for level in levels]
        up = ["AttnUpBlock2D" if level in attention else "UpBlock2D" for level in reversed(levels)]
        arguments: dict[str, Any] = {
            "in_channels": unshuffle**2,
            "out_channels": unshuffle**2,
            "layers_per_block": layers,
            "block_out_channels": tuple(channels),
            "down_block_types": tuple(down),
            "up_block_types": tuple(up),
            "add_attention": bool(attention),
            "norm_num_groups": math.gcd(32, *channels),
            "dropout": dropout,
        }
        unet: Any = UNet2DModel(**{**arguments, **(options or {})})
        if norm == "pixel":
            _replace_group_norms(unet)
        super().__init__(unet, len(channels), unshuffle, predicts, time_scale)

    def _on_folded(self, folded: Tensor, t: Tensor) -> Tensor:
        prediction: Tensor = self.unet(folded, t * self.time_scale).sample
        return prediction


def _replace_group_norms(module: nn.Module) -> None:
    for name, child in module.named_children():
        if isinstance(child, nn.GroupNorm):
            setattr(module, name, PixelNorm(child.num_channels))
        else:
            _replace_group_norms(child)
