"""Training the estimate between sections: isotropic tissue whose sections are taken away, and what it was before.

What the network is given is what isotropic restoration gives it: see `emgen.networks.estimator`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from emgen.errors import EmgenError
from emgen.geometry import Box, zyx
from emgen.networks.estimator import context_stack
from emgen.physics import interpolation, missing
from emgen.physics.operators import Gaussian, Mean, Operator, Slice
from emgen.training.patches import Draw, jittered
from emgen.training.tasks.estimator import EstimatorTask, Example
from emgen.training.tasks.settings import AxialSettings
from emgen.training.training_volume import TrainingVolume

Section = Callable[..., Operator]

# How often tissue is measured in each way. Slices and means are what microscopes are restored as by default; Gaussian
# sections are rare. The shipped weights were trained with these shares.
SECTION_SHARES: dict[Section, float] = {Slice: 0.45, Mean: 0.4, Gaussian: 0.15}
PROBLEMS: dict[str, tuple[int, Section]] = {
    "x4 slice": (4, Slice),
    "x8 slice": (8, Slice),
    "x4 mean": (4, Mean),
    "x8 mean": (8, Mean),
}


@dataclass(frozen=True)
class AxialTask(EstimatorTask):
    """The network is given the linear interpolation between sections and asked for the tissue.

    Attributes:
        settings: of the recipe.
    """

    settings: AxialSettings
    kinds: ClassVar[tuple[str, ...]] = tuple(PROBLEMS)
    pictured: ClassVar[str] = "x8 slice"

    @classmethod
    def open(
        cls, draw: Draw, settings: AxialSettings, held_out: Sequence[TrainingVolume] = ()
    ) -> AxialTask:
        """The task with volumes that fit it.

        Raises:
            EmgenError: a volume is not isotropic, or has fewer planes than the network is given.
        """
        volumes, depth = (*draw.volumes, *held_out), settings.depth
        flat = [volume.name for volume in volumes if len(volume.planes) == 1]
        if flat:
            raise EmgenError(
                f"an interpolation is learnt from isotropic volumes, and these are none: {', '.join(flat)}; leave them out"
            )
        thin = [f"{volume.name} {volume.shape}" for volume in volumes if min(volume.shape) < depth]
        if thin:
            raise EmgenError(
                f"the network sees {depth} planes, one behind the other, and these have fewer: {', '.join(thin)}; leave them "
                "out, or give it less context: task.context"
            )
        return cls(draw, settings)

    def problem(self, volume: TrainingVolume, rng: np.random.Generator) -> Example:
        """A slab whose rows were measured in part, somehow."""
        settings, patches = self.settings, self.draw.patches
        slab = volume.slab(rng, patches, settings.depth, patches.size + settings.margin)
        slab = jittered(slab, rng, patches)[0]
        factor = int(rng.integers(settings.factors[0], settings.factors[1] + 1))
        first = int(rng.integers(factor))
        truth = torch.from_numpy(slab[:, first:].transpose(1, 0, 2).copy())
        truth = truth[: len(truth) // factor * factor]
        section = list(SECTION_SHARES)[rng.choice(3, p=tuple(SECTION_SHARES.values()))]
        noisy = rng.random() < settings.noisy
        sigma = float(np.exp(rng.uniform(*np.log(settings.noise)))) if noisy else 0.0
        damaged = rng.random() < settings.damaged
        lost = rng.integers(len(truth) // factor, size=settings.lost) if damaged else ()
        inputs = degraded(truth, operator(section, truth, factor), sigma, lost, rng)
        row, column = (
            int(rng.integers(n - patches.size + 1)) for n in (len(truth), truth.shape[2])
        )
        cut = np.s_[row : row + patches.size, column : column + patches.size]
        middle = settings.context
        return Example(inputs[middle][:, *cut], truth[:, middle][cut][None], 1 / (1 + sigma))

    def known_problem(self, slab: Tensor, kind: str) -> Example:
        """The middle plane of a slab between sections of a kind, without noise."""
        factor, section = PROBLEMS[kind]
        truth = slab.transpose(0, 1)[: slab.shape[1] // factor * factor]
        A, middle = operator(section, truth, factor), len(slab) // 2
        inputs = degraded(truth, A, 0.0, (), np.random.default_rng(0))
        return Example(inputs[middle], truth[:, middle][None], 1.0)


def degraded(
    truth: Tensor,
    A: Operator,
    sigma: float,
    lost: Sequence[int] | npt.NDArray[np.int64],
    rng: np.random.Generator,
) -> Tensor:
    """Inputs of an estimator, made of tissue: (planes, 2 * context + 2, z, width), see `context_stack`.

    Args:
        truth: tissue (z, planes, width).
        A: how its sections are measured.
        sigma: standard deviation of the noise, in the prior's half range.
        lost: numbers of measured sections that are missing; all of them is none.
        rng: of the noise.
    """
    y = A(truth).numpy()
    y = y + np.float32(sigma) * rng.standard_normal(y.shape, np.float32)
    measured = torch.ones(len(y), 1, 1, dtype=torch.bool)
    numbers = list(map(int, lost))
    if len(set(numbers)) < len(y):
        measured[numbers] = False
        y = missing.fill_missing(y, 0, numbers)
    start, density = measured_inputs(torch.from_numpy(y), A, measured)
    return context_stack(start, density, truth.shape[1] // 2)


def measured_inputs(
    y: Tensor, A: Operator, measured: Tensor | bool = True
) -> tuple[Tensor, Tensor]:
    """The start and the sampling density of whole measured volumes, both of A's output shape.

    The start is the linear interpolation of y, the density A^T 1 of the sections that were `measured`.
    """
    whole, footprint = Box.whole(A.shape), Box.whole(A.measured_shape)
    start = torch.from_numpy(interpolation.linear(y.numpy(), footprint, whole, A.scale, A.centre))
    return start, A.adjoint(torch.ones(A.measured_shape) * measured)


def operator(section: Section, truth: Tensor, factor: int) -> Operator:
    """Sections of a kind, `factor` times as thick as those of tissue (z, y, x)."""
    width = {"fwhm": float(factor)} if section is Gaussian else {}
    return section(zyx(truth.shape), factor, **width)
