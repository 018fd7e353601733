"""Isotropic restoration: z is brought to the in-plane voxel size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from emgen.config.restore import MOST_FACTOR, NoiseSetting
from emgen.errors import EmgenError
from emgen.geometry import Box
from emgen.modes.mode import Mode
from emgen.modes.observation import Observation, Planned
from emgen.networks.card import Task
from emgen.physics.acquisition import (
    Acquisition,
    gaussian_section,
    mean_of_sections,
    one_section,
)
from emgen.physics.noise_model import NoiseModel

if TYPE_CHECKING:
    from torch import Tensor

    from emgen.modes.mode import Trial
    from emgen.networks.runner import Networks
    from emgen.physics.operators import Operator
    from emgen.sampling.tiles import Plane

ANISOTROPY_TOLERANCE = 0.05
"""How far the voxel anisotropy may lie from a whole number, in parts of it, to be taken as the factor."""
SMALLEST_NOISE = 0.01
"""Of the half range: a Gaussian section is not invertible, so its data step needs some noise."""
WIDEST_SECTION = 3
"""Factors that a measured section may reach beyond its own span: a Gaussian one is cut off before."""


@dataclass(frozen=True)
class Thickness:
    """A thickness model: how a measured section came about from the output's.

    Attributes:
        acquisition: of a factor.
        span: output sections of its span, by the factor, that a measured section determines by itself.
        noise_floor: least noise, in half ranges, of its data step.
        words: for the report, "each measured section taken as ...".
    """

    acquisition: Callable[[int], Acquisition]
    span: Callable[[int], int]
    noise_floor: float
    words: str


THICKNESS = {
    "slice": Thickness(one_section, lambda factor: 1, 0.0, "one of them"),
    "mean": Thickness(mean_of_sections, lambda factor: factor, 0.0, "their mean"),
    "gaussian": Thickness(
        lambda factor: gaussian_section(factor, fwhm=float(factor)),
        lambda factor: factor,
        SMALLEST_NOISE,
        "their Gaussian-weighted mean",
    ),
}


@dataclass(frozen=True)
class Isotropic(Mode):
    """`factor` output sections per measured one, by a prior that sees xz and yz planes."""

    settings: ClassVar[frozenset[str]] = frozenset({"factor", "section", "adapt"})
    through_z: ClassVar[bool] = True
    planes: ClassVar[tuple[Plane, ...]] = ("xz", "yz")
    unbound_planes: ClassVar[tuple[Plane, ...]] = ("xy",)
    estimator_task: ClassVar[Task] = "axial"
    shipped_estimator: ClassVar[str] = "emgen-axial"
    learned_start: ClassVar[float] = 0.85
    learned_steps: ClassVar[int] = 6

    def refuse_unfit(self) -> None:
        voxel = self.measured_voxel
        off = abs(voxel.anisotropy - self.factor) > ANISOTROPY_TOLERANCE * self.factor
        if self.restore.factor is None and off:
            raise EmgenError(
                f"the input has voxels of {voxel}: z is {voxel.anisotropy:.3g} times coarser, which is not within "
                "5 % of a whole number. Set restore.factor to the output sections you want per measured section"
            )
        if self.restore.factor is None and self.factor > MOST_FACTOR:
            raise EmgenError(
                f"the input has voxels of {voxel}: z is {voxel.anisotropy:.3g} times coarser, and emgen makes at most "
                f"{MOST_FACTOR} sections of one. If the size is wrong, set input.voxel_size; else set restore.factor"
            )
        if self.factor < 1:
            raise EmgenError(
                f"the input has voxels of {voxel}: z is finer than y and x, so there is nothing to restore along z"
            )

    @property
    def factor(self) -> int:
        """Output sections per measured one."""
        return self.restore.factor or round(self.measured_voxel.anisotropy)

    @property
    def thickness(self) -> Thickness:
        """How a measured section came about."""
        return THICKNESS[self.restore.section]

    @property
    def acquisition(self) -> Acquisition:
        return self.thickness.acquisition(self.factor)

    def operator(self, box: Box) -> Operator:
        from emgen.physics.operators import Gaussian, Mean, Slice

        shape, factor = self.shape, self.factor
        match self.restore.section:
            case "slice":
                return Slice(shape, factor, box=box)
            case "mean":
                return Mean(shape, factor, box=box)
            case "gaussian":
                return Gaussian(shape, factor, fwhm=float(factor), box=box)

    @property
    def keeps_measured(self) -> bool:
        return self.restore.section == "slice"

    @property
    def noise_floor(self) -> float:
        return self.thickness.noise_floor

    @property
    def noise_setting(self) -> NoiseSetting:
        return 0.0 if self.restore.noise == "auto" else self.restore.noise

    def bracketed_sections(self, missing: Sequence[int]) -> tuple[int, int]:
        first = min(self._measured_sections(missing))
        beyond = self.extrapolated(missing)
        return first * self.factor, self.shape[0] if beyond is None else beyond.start[0]

    def extrapolated(self, missing: Sequence[int]) -> Box | None:
        last = max(self._measured_sections(missing))
        first = last * self.factor + self.thickness.span(self.factor)
        return None if first == self.shape[0] else Box((first, 0, 0), self.shape)

    def estimate(self, observation: Observation, networks: Networks) -> Tensor:
        """Linear interpolation, or the mean of what the axial estimator makes of its xz and of its yz planes."""
        linear = observation.linear
        if networks.estimator is None:
            return linear
        density, sigma = self._sampling_density(observation), observation.mid_sigma
        along_y = networks.estimate(linear, density, sigma)
        along_x = networks.estimate(linear.transpose(1, 2), density.transpose(1, 2), sigma)
        return (along_y + along_x.transpose(1, 2)).contiguous() / 2

    def trial(self, noise: NoiseModel, estimator_context: int) -> Trial | None:
        from emgen.modes.trial import across_sections

        return across_sections(self, noise)

    def opening(self, planned: Planned) -> str:
        sections, factor = self.measured_shape[0], self.factor
        were = "measured section" if sections == 1 else "measured sections"
        verb = "was" if sections == 1 else "were"
        return (
            f"{sections} {were} of {self.measured_voxel} {verb} brought to {self.shape[0]} sections of {self.voxel}: "
            f"{factor} output sections per measured one, each measured section taken as {self.thickness.words}."
        )

    @property
    def trial_sentence(self) -> str:
        return "lost rows, along both axes"

    def _measured_sections(self, missing: Sequence[int]) -> list[int]:
        return [k for k in range(self.measured_shape[0]) if k not in missing]

    def _sampling_density(self, observation: Observation) -> Tensor:
        """A^T 1 on the box, of sections that it cuts off too: how strongly every voxel was measured."""
        import torch

        box, device = observation.box, observation.device
        grown = box.grow((WIDEST_SECTION * self.factor, 0, 0)).clip(self.shape)
        A = self.operator_covering(grown, observation.coverage)
        density = A.adjoint(torch.ones(A.footprint.shape, device=device))
        return density[box.relative_to(grown).slices]


MODE = Isotropic
