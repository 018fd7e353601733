"""What both estimators share: a problem is made of tissue, and the network is asked for the tissue."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from emgen.training.flow import Network
from emgen.training.patches import Draw
from emgen.training.training_volume import TrainingVolume
from emgen.training.validation import Psnr

# Squared error of the start (prior's half range), about 7 grey values of 255, below which a patch counts for less: there is
# little to learn where the start is right. The shipped weights were trained with it.
FLOOR = 0.003

Slab = npt.NDArray[np.float32]


class Example(NamedTuple):
    """A problem and its answer, in the prior's half range.

    Attributes:
        inputs: (2 * context + 2, height, width), see `emgen.networks.estimator.context_stack`.
        plane: the tissue (1, height, width).
        t: 1 / (1 + sigma) for noise of standard deviation sigma.
    """

    inputs: Tensor
    plane: Tensor
    t: float


def relative_loss(
    network: Network, inputs: Tensor, planes: Tensor, t: Tensor, most: float = math.inf
) -> Tensor:
    """Squared error over that of the start, so that easy and hard problems count alike; a scalar.

    Args:
        network: an estimator.
        inputs: (n, 2 * context + 2, h, w).
        planes: the tissue (n, 1, h, w).
        t: (n,).
        most: squared error of the start (prior's half range), above which a patch counts no less for it.
    """
    start = inputs[:, (inputs.shape[1] - 1) // 2, None]
    before = (start - planes).square().mean((1, 2, 3)).clamp(max=most) + FLOOR
    return ((network(inputs, t) - planes).float().square().mean((1, 2, 3)) / before).mean()


@dataclass(frozen=True)
class EstimatorTask(ABC):
    """An estimator is trained on problems of which the answer is known.

    Attributes:
        draw: what patches are drawn from.
        kinds: names of the problems that the network is judged by.
        pictured: that of which pictures are drawn.
        most_error: see `relative_loss`.
    """

    draw: Draw
    kinds: ClassVar[tuple[str, ...]]
    pictured: ClassVar[str]
    most_error: ClassVar[float] = math.inf

    @abstractmethod
    def problem(self, volume: TrainingVolume, rng: np.random.Generator) -> Example:
        """A random problem, made of tissue of a volume; planes have the size of the recipe's patches."""

    @abstractmethod
    def known_problem(self, slab: Tensor, kind: str) -> Example:
        """The problem of a kind, made of a slab (depth, height, width) on the CPU; always the same."""

    def batch(self, step: int, size: int, part: slice) -> tuple[Tensor, Tensor, Tensor]:
        """Inputs (n, channels, h, w), planes (n, 1, h, w) and times (n,)."""
        numbers = range(size)[part]
        examples = [self.problem(*self.draw.volume(step, number)) for number in numbers]
        inputs, planes, times = zip(*examples, strict=True)
        return torch.stack(inputs), torch.stack(planes), torch.tensor(times, dtype=torch.float32)

    def loss(self, network: Network, *batch: Tensor) -> Tensor:
        """See `relative_loss`."""
        inputs, planes, t = batch
        return relative_loss(network, inputs, planes, t, self.most_error)

    @torch.inference_mode()
    def psnr(self, network: Network, patches: Tensor, noise: float = 0.0) -> Psnr:
        """How near the network comes to the planes in the middle of slabs (n, depth, h, w), by kind of problem.

        They are taken for clean: a recipe with noisy tissue is refused.
        """
        psnr = {}
        for kind in self.kinds:
            errors = [
                (estimate - truth).square().mean()
                for _, estimate, truth in self._estimates(network, patches, kind)
            ]
            psnr[kind] = round(float(10 * torch.log10(4 / torch.stack(errors).mean())), 3)
        return psnr

    @torch.inference_mode()
    def pictures(
        self, network: Network, held_out: Mapping[str, Tensor]
    ) -> dict[str, npt.NDArray[np.float32]]:
        """The start, what the network makes of it, and the tissue, for slabs of every held-out volume."""
        rows = {}
        for name, slabs in held_out.items():
            images = zip(*self._estimates(network, slabs, self.pictured), strict=True)
            for title, row in zip((f"{self.pictured}, measured", "learned", "truth"), images, strict=True):
                rows[f"{name}: {title}"] = torch.stack(row).numpy()
        return rows

    def _estimates(
        self, network: Network, slabs: Tensor, kind: str
    ) -> list[tuple[Tensor, Tensor, Tensor]]:
        """The start of a known problem, the network's plane and the tissue, for every slab; on the CPU."""
        estimates = []
        for slab in slabs:
            inputs, plane, t = self.known_problem(slab.cpu(), kind)
            times = torch.full((1,), t, device=slab.device)
            estimate = network(inputs[None].to(slab.device), times)[0, 0].float().cpu()
            estimates.append((inputs[(len(inputs) - 1) // 2], estimate, plane[0]))
        return estimates
