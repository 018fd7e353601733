"""What the modes share that restore a volume section by section, each seen with those before and behind it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from emgen.errors import EmgenError
from emgen.modes.mode import Mode
from emgen.modes.observation import Observation, Planned
from emgen.networks.card import Task

if TYPE_CHECKING:
    from torch import Tensor

    from emgen.networks.runner import Networks
    from emgen.sampling.tiles import Plane


@dataclass(frozen=True)
class Sections(Mode):
    """The prior sees xy planes; what was measured of neighbouring sections is context for the estimator."""

    through_z: ClassVar[bool] = False
    planes: ClassVar[tuple[Plane, ...]] = ("xy",)
    estimator_task: ClassVar[Task] = "sections"
    shipped_estimator: ClassVar[str] = "emgen-sections"

    def estimate(self, observation: Observation, networks: Networks) -> Tensor:
        """Linear interpolation, or the estimator's mean of the sections."""
        if networks.estimator is None:
            return observation.linear
        sigma = max(observation.true_sigma, self.noise_floor)
        return self.estimated_sections(observation, sigma, networks)

    def estimated_sections(
        self, observation: Observation, sigma: float, networks: Networks
    ) -> Tensor:
        """The estimator's mean of the sections of the box, measured with noise of deviation sigma in half ranges."""
        import torch

        from emgen.networks.estimator import tikhonov_start

        context = observation.context
        A = self.operator(context)
        density = torch.full_like(observation.linear, A.response_norm())
        if observation.coverage is not None:
            known = observation.coverage.over(A.footprint)
            for axis, n in enumerate(self.acquisition.scale):
                known = known.repeat_interleave(n, axis)
            density[~known] = 0
        start = tikhonov_start(observation.linear, observation.y_context, A, sigma)
        selected = observation.box.relative_to(context).slices[0]
        planes = networks.estimate(start.transpose(0, 1), density.transpose(0, 1), sigma, selected)
        return planes.transpose(0, 1).contiguous()

    def refuse_factor(self) -> None:
        """`EmgenError` if a mode that keeps the voxel size is given a factor."""
        restore = self.restore
        if restore.factor not in (None, 1):
            raise EmgenError(
                f"{restore.mode} keeps the voxel size; remove `factor: {restore.factor}`"
            )

    def refuse_adaptation(self) -> None:
        """`EmgenError` if a prior would be adapted to sections that are not what it should learn."""
        if self.restore.adapt.steps:
            raise EmgenError(
                f"adapt: the sections of a volume to {self.restore.mode} are what is to be mended; a prior adapted to "
                "them would learn their blur, and noise that is not white. Remove `adapt`, or train a prior on better "
                "data: emgen train"
            )

    def one_by_one(self, planned: Planned) -> str:
        """The number of sections, and that each was restored by itself where no estimator sees its neighbours."""
        sections = self.measured_shape[0]
        if sections == 1:
            return "1 section"
        return f"{sections} sections{', one by one' if planned.estimator is None else ''}"
