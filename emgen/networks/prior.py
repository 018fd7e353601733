"""The flow-matching prior: a U-Net as the velocity v(x, t) of planes of any size.

Two designs: `GatedPrior` here, the shipped one, fast on CPUs; `emgen.networks.unet2d.UNet2DPrior`, diffusers'
UNet2DModel, in a module of its own, because importing diffusers takes longer than restoring a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from emgen.networks.folding import fold, unfold
from emgen.networks.unet import UNet
from emgen.sampling import diffusion

TIME_SCALE = float(diffusion.STEPS)  # UNet2DModel counts time in the steps of DDPM, from 0 to 1000

Predicts = Literal["velocity", "noise"]


class Prior(nn.Module):
    """What the designs share: planes are folded for the U-Net, and what it predicts becomes a velocity.

    x is in units of half the grey-value range, -1 to 1; t runs from 0 (noise) to 1 (data).

    Args:
        unet: the network on folded planes.
        levels: of the U-Net, each half as fine as the one before.
        unshuffle: pixels on a side that are folded into channels before the first level; 2 costs a quarter of 1.
        predicts: "velocity", or "noise" as a diffusion model does, which becomes a velocity by `emgen.sampling.diffusion`.
        time_scale: what the U-Net's time is divided by where noise is predicted, and multiplied by in UNet2DModel.

    Raises:
        ValueError: it predicts something else.
    """

    def __init__(
        self,
        unet: nn.Module,
        levels: int,
        unshuffle: int = 2,
        predicts: Predicts = "velocity",
        time_scale: float = TIME_SCALE,
    ) -> None:
        super().__init__()
        if predicts not in ("velocity", "noise"):
            raise ValueError(f'predicts must be "velocity" or "noise", not {predicts!r}')
        self.unet: Any = unet
        self.unshuffle, self.stride = unshuffle, unshuffle << (levels - 1)
        self.predicts, self.time_scale = predicts, time_scale
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
        folded = fold(x, self.unshuffle, self.stride)
        return unfold(self._on_folded(folded, t), self.unshuffle, *x.shape[-2:])

    def _on_folded(self, folded: Tensor, t: Tensor) -> Tensor:
        prediction: Tensor = self.unet(folded, t)
        return prediction


class GatedPrior(Prior):
    """A prior with `emgen.networks.unet.UNet`: no attention and no statistics of planes, fast on CPUs.

    Args:
        channels: of each level, finest first.
        layers: blocks per level.
        unshuffle, predicts: see `Prior`.
    """

    def __init__(
        self,
        channels: Sequence[int] = (32, 64, 96),
        layers: int = 1,
        unshuffle: int = 2,
        predicts: Predicts = "velocity",
    ) -> None:
        unet = UNet(unshuffle**2, channels, layers)
        super().__init__(unet, len(channels), unshuffle, predicts)
