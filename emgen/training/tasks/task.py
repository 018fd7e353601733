"""What a network is trained for: the protocol of a training task, and the one that a recipe names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from emgen.training.flow import Network
from emgen.training.patches import Draw
from emgen.training.tasks.axial import AxialTask
from emgen.training.tasks.prior import PriorTask
from emgen.training.tasks.sections import SectionsTask
from emgen.training.tasks.settings import AxialSettings, PriorSettings, TaskSettings
from emgen.training.training_volume import TrainingVolume
from emgen.training.validation import Psnr

Batch = tuple[Tensor, ...]


class Task(Protocol):
    """What a network is trained for: what it is given, its loss, and how it is judged on held-out tissue.

    Everything follows from the seed of the run, the step and the patch's number, so that a run goes on bit for bit and
    processes can share a batch. Tensors are in the prior's half range.
    """

    def batch(self, step: int, size: int, part: slice) -> Batch:
        """What `loss` is given of one process: `part` of a batch of `size` patches, first dimension n."""

    def loss(self, network: Network, *batch: Tensor) -> Tensor:
        """The loss of a network on a batch, a scalar."""

    def psnr(self, network: Network, patches: Tensor, noise: float) -> Psnr:
        """PSNR in dB (range 2) of what a network does with held-out patches, by time or kind of problem.

        Args:
            network: to judge.
            patches: (n, depth, height, width).
            noise: standard deviation of their own noise.
        """

    def pictures(
        self, network: Network, held_out: Mapping[str, Tensor]
    ) -> dict[str, npt.NDArray[np.float32]]:
        """Rows of images (n, height, width) to look at, by their titles, from patches of every held-out volume."""


def open_task(
    settings: TaskSettings, draw: Draw, held_out: Sequence[TrainingVolume] = ()
) -> Task:
    """The task that a recipe names.

    Args:
        settings: `task` of the recipe.
        draw: what its patches are drawn from.
        held_out: volumes that it is judged on.

    Raises:
        EmgenError: a volume does not fit the task.
    """
    if isinstance(settings, PriorSettings):
        return PriorTask(draw, settings)
    if isinstance(settings, AxialSettings):
        return AxialTask.open(draw, settings, held_out)
    return SectionsTask(draw, settings)
