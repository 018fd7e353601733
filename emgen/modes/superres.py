"""Super-resolution, section by section: finer pixels in y and x."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from emgen.config.restore import NoiseSetting
from emgen.errors import EmgenError
from emgen.geometry import Box
from emgen.modes.observation import Planned
from emgen.modes.sections import Sections
from emgen.physics.acquisition import Acquisition, coarser_pixels
from emgen.physics.noise_model import NoiseModel

if TYPE_CHECKING:
    from emgen.modes.mode import Trial
    from emgen.physics.operators import Operator

FACTORS = (2, 3, 4)
"""What the shipped estimator learnt, and what figures stand for."""


@dataclass(frozen=True)
class Superres(Sections):
    """`factor` times as many pixels along y and x; a measured pixel is the mean over its square."""

    settings: ClassVar[frozenset[str]] = frozenset({"factor"})
    learned_start: ClassVar[float] = 0.95
    learned_steps: ClassVar[int] = 3

    def refuse_unfit(self) -> None:
        self.refuse_adaptation()
        if self.restore.factor not in FACTORS:
            raise EmgenError(
                f"superres needs a factor of 2, 3 or 4; found {self.restore.factor}. Set restore.factor"
            )

    @property
    def acquisition(self) -> Acquisition:
        assert self.restore.factor is not None  # refused above
        return coarser_pixels(self.restore.factor)

    def operator(self, box: Box) -> Operator:
        from emgen.physics.operators import Downsample

        assert self.restore.factor is not None
        return Downsample(self.shape, self.restore.factor, box=box)

    @property
    def noise_setting(self) -> NoiseSetting:
        return 0.0 if self.restore.noise == "auto" else self.restore.noise

    def trial(self, noise: NoiseModel, estimator_context: int) -> Trial | None:
        from emgen.modes.trial import coarser_sections

        return coarser_sections(self, noise, estimator_context)

    def opening(self, planned: Planned) -> str:
        return (
            f"The pixel size was made {self.restore.factor} times finer in {self.one_by_one(planned)}; output voxels are "
            f"{self.voxel}."
        )

    @property
    def trial_sentence(self) -> str:
        return "were made coarser"


MODE = Superres
