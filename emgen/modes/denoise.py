"""Denoising, section by section."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from emgen.config.restore import AUTO, LINEAR
from emgen.errors import EmgenError
from emgen.geometry import Box
from emgen.modes.observation import Observation, Planned
from emgen.modes.sections import Sections
from emgen.physics.acquisition import Acquisition, same_voxels
from emgen.physics.noise_model import NoiseModel

if TYPE_CHECKING:
    from torch import Tensor

    from emgen.modes.mode import Trial
    from emgen.networks.runner import Networks
    from emgen.physics.operators import Operator

PRIOR_SHARE_OF_LONE_SECTION = 0.5
"""Share of the prior in the estimate of a single section with correlated noise; the rest is the estimator's. Chosen on
pairs of fast and slow scans (docs/decisions)."""


@dataclass(frozen=True)
class Denoise(Sections):
    """Noise is removed; the result is the estimate, and samples only tell how sure it is."""

    learned_start: ClassVar[float] = 0.85
    learned_steps: ClassVar[int] = 6

    def refuse_unfit(self) -> None:
        self.refuse_adaptation()
        self.refuse_factor()
        single = self.measured_shape[0] == 1 and self.restore.noise != "correlated"
        if single and self.restore.estimator not in (AUTO, LINEAR):
            raise EmgenError(
                "restore.estimator has no effect on a single section, which the prior denoises; remove `estimator`, or give "
                "the sections before and behind with it"
            )

    @property
    def acquisition(self) -> Acquisition:
        return same_voxels()

    def operator(self, box: Box) -> Operator:
        from emgen.physics.operators import Identity

        return Identity(self.shape, box=box)

    @property
    def returns_estimate(self) -> bool:
        return self.sampler.begins_from_estimate

    def estimate(self, observation: Observation, networks: Networks) -> Tensor:
        """The mean of the clean sections, at the noise of every voxel."""
        from emgen.sampling.posterior_mean import interpolate_over_sigma

        if not self.returns_estimate:
            return observation.linear
        return interpolate_over_sigma(
            observation.sigma, lambda sigma: self._denoised(observation, sigma, networks)
        )

    def trial(self, noise: NoiseModel, estimator_context: int) -> Trial | None:
        from emgen.modes.trial import noisier_sections

        return noisier_sections(self, noise, estimator_context)

    def opening(self, planned: Planned) -> str:
        return f"Noise was removed from {self.one_by_one(planned)}; output voxels are {self.voxel}."

    def sampling_sentence(self, planned: Planned) -> str:
        if not self.returns_estimate:
            return super().sampling_sentence(planned)
        alone = ", without sampling" if self.restore.samples == 1 else ""
        prior = planned.prior["name"]
        if planned.estimator is None:
            return f"Every section was denoised by the prior {prior}{alone}."
        if self.measured_shape[0] > 1:
            return (
                f"Every section was estimated by the network {planned.estimator['name']}, which sees those before and "
                f"behind it{alone}."
            )
        if planned.noise_model.is_correlated:
            return (
                f"The section is the mean of what the networks {prior} and {planned.estimator['name']} make of "
                f"it{alone}."
            )
        return f"The section was denoised by the prior {prior}{alone}."

    @property
    def trial_sentence(self) -> str:
        return "were made noisier"

    def _denoised(self, observation: Observation, sigma: float, networks: Networks) -> Tensor:
        """The estimate for white noise of deviation sigma (half ranges), or correlated noise that hides as much.

        The estimator sees neighbouring sections and denoises a stack better; a single section is denoised better by
        the prior, and by the mean of both where the noise is correlated. Noise fainter than the estimator learnt is
        handed over to the prior, which knows all levels. The prior is given the equivalent white-noise level, the
        estimator the noise's own deviation, because each was trained on that.
        """
        import torch

        from emgen.sampling.posterior_mean import posterior_mean_one_call

        share, own = 0.0, observation.noise.correlation_ratio * sigma
        if networks.estimator is not None:
            share = self._estimator_share(observation.noise)
            share *= min(1.0, own / networks.faintest_noise)
        estimate = torch.zeros_like(observation.y)
        if share > 0:
            estimate += share * self.estimated_sections(observation, own, networks)
        if share < 1:
            velocities = networks.velocities(self.planes)
            estimate += (1 - share) * posterior_mean_one_call(observation.y, sigma, velocities)
        return estimate

    def _estimator_share(self, noise: NoiseModel) -> float:
        if self.measured_shape[0] > 1:
            return 1.0
        return 1 - PRIOR_SHARE_OF_LONE_SECTION if noise.is_correlated else 0.0


MODE = Denoise
