"""Training the prior: flow matching, see `emgen.training.flow`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from emgen.training import flow, patches, validation
from emgen.training.flow import Network
from emgen.training.patches import Draw
from emgen.training.seeds import stream
from emgen.training.tasks.settings import PriorSettings

SAMPLES, SAMPLE_STEPS, SAMPLE_SIZE = 8, 50, 128  # unconditional samples to look at; pixels of a side


@dataclass(frozen=True)
class PriorTask:
    """Flow matching: the network becomes the velocity of the prior.

    Attributes:
        draw: what patches are drawn from.
        settings: of the recipe.
    """

    draw: Draw
    settings: PriorSettings

    def batch(self, step: int, size: int, part: slice) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Patches x and noises eps (n, 1, h, w), times t and noise of the patches (n,)."""
        draw, pairs = self.draw, self.settings.coupling == "optimal-transport"
        # noises are paired with patches of the whole batch, whichever processes share it
        numbers = range(size) if pairs else range(size)[part]
        x, own, eps = (
            torch.from_numpy(array)
            for array in (
                *patches.batch(draw, step, numbers),
                patches.noise(draw.seed, step, numbers, draw.patches.size),
            )
        )
        if pairs:
            x, own, eps = x[part], own[part], flow.ot_pairing(x, eps)[part]
        generator = torch.Generator().manual_seed(stream(draw.seed, step))
        return x, eps, flow.times(size, self.settings.late, generator)[part], own

    def loss(self, network: Network, *batch: Tensor) -> Tensor:
        """The error of the velocity, see `flow.loss`."""
        x, eps, t, own = batch
        return flow.loss(network, x, eps, t, own)

    def psnr(self, network: Network, patches: Tensor, noise: float) -> validation.Psnr:
        """How well one call of the network denoises patches (n, 1, h, w), by time t."""
        return validation.denoise_psnr(network, patches, noise)

    def pictures(
        self, network: Network, held_out: Mapping[str, Tensor]
    ) -> dict[str, npt.NDArray[np.float32]]:
        """Unconditional samples, and patches of every held-out volume to compare them with."""
        shape = (SAMPLES, 1, SAMPLE_SIZE, SAMPLE_SIZE)
        eps = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        device = next(iter(held_out.values())).device
        samples = flow.sample(network, eps.to(device), SAMPLE_STEPS)
        rows = {f"samples, {SAMPLE_STEPS} steps": samples, **held_out}
        return {name: images[:, 0].cpu().numpy() for name, images in rows.items()}
