"""What a mode is: everything about a restoration that depends on what was done to the tissue by measuring it.

A mode knows the geometry (how measured voxels lie among the output's), the operator, the planes that the prior is
shown, where sampling begins, and what is said of it in the report. It is read by planning and quality control, which
have no torch: so torch, operators and networks are imported where they are used.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from emgen.config.restore import AUTO, LINEAR, NoiseSetting, Restore
from emgen.errors import EmgenError
from emgen.geometry import Box, VoxelSize, Zyx, zyx
from emgen.modes.observation import Coverage, Observation, Planned
from emgen.modes.tissue_story import tissue_sentences
from emgen.networks.card import Task
from emgen.physics.acquisition import Acquisition
from emgen.physics.noise_model import NoiseModel
from emgen.physics.psf import Kernel
from emgen.sampling.sampler import Sampler, sampler

Grey = npt.NDArray[Any]

if TYPE_CHECKING:
    from torch import Tensor

    from emgen.networks.runner import Networks
    from emgen.physics.operators import Operator
    from emgen.sampling.tiles import Plane
    from emgen.volumes.grid import Grid

LINEAR_START = 0.7
"""Time at which sampling begins from linear interpolation: best on validation tissue (docs/decisions)."""
PLACED_BY_MODE = frozenset({"factor", "section", "psf", "adapt"})
"""Settings of `restore` that only some modes heed; each names its own in `Mode.settings`."""
PLACED_BY_SAMPLER = frozenset({"start", "estimator", "alpha", "noise"})
"""Settings of `restore` that only some samplers heed; each names its own in `Sampler.settings`."""

SAID_ANYWAY = (("estimator", LINEAR), ("factor", 1))
"""Values without effect that are no mistake: they say what is done anyway."""


class Known(NamedTuple):
    """A problem whose answer is known.

    Attributes:
        y: what was measured again, float32.
        truth: what to compare the restoration with.
        noise_power: the mean square of the noise in `truth`, which no restoration can know.
    """

    y: npt.NDArray[np.float32]
    truth: Grey
    noise_power: float


@dataclass(frozen=True)
class Trial:
    """How a mode is tried.

    Attributes:
        mode: the same restoration on the volume of the trial.
        noise: of what is measured again.
        sections: to cut from the input, one behind the other.
        side: pixels of a crop (sections, side, side).
        box: of the output that is restored.
        crops: the fewest and the most that are tried.
        cost: voxels that are restored for one crop.
        problems: makes problems of a crop, with random numbers.
        compared: which voxels of the box are compared: an index of its sections.
    """

    mode: Mode
    noise: NoiseModel
    sections: int
    side: int
    box: Box
    crops: tuple[int, int]
    cost: int
    problems: Callable[[Grey, np.random.Generator], list[Known]]
    compared: Any


@dataclass(frozen=True)
class Mode(ABC):
    """A way of restoring one measured volume.

    Attributes:
        restore: the settings.
        measured_shape: voxels of the input (z, y, x).
        measured_voxel: their size in nm.
        psf: point spread function (y, x) of sum one, None where the mode has none or it is still to be fitted.

    Class attributes:
        settings: of `restore`, those that only some modes heed and this one does.
        through_z: whether the prior is shown planes that run along z. Then blocks have a halo along z.
        planes: that the prior is shown and the measurement binds.
        unbound_planes: that some samplers show the prior besides, where the measurement does not act.
        estimator_task: what a learned estimate for it must have learnt, see `emgen.networks.card`.
        shipped_estimator: the one that `estimator: auto` means.
        learned_start, learned_steps: time at which sampling begins from it, and calls of the prior; best on validation
            tissue (docs/decisions).

    Raises:
        EmgenError: settings that do not fit the mode, or have no effect with it.
    """

    restore: Restore
    measured_shape: Zyx
    measured_voxel: VoxelSize
    psf: Kernel | None = None

    settings: ClassVar[frozenset[str]] = frozenset()
    through_z: ClassVar[bool]
    planes: ClassVar[tuple[Plane, ...]]
    unbound_planes: ClassVar[tuple[Plane, ...]] = ()
    estimator_task: ClassVar[Task]
    shipped_estimator: ClassVar[str]
    learned_start: ClassVar[float]
    learned_steps: ClassVar[int]

    def __post_init__(self) -> None:
        self.refuse_unfit()
        self._refuse_alpha()
        self._refuse_without_effect()

    # what it does to the tissue

    @property
    @abstractmethod
    def acquisition(self) -> Acquisition:
        """Where measured voxels lie among the output's."""

    @abstractmethod
    def operator(self, box: Box) -> Operator:
        """How the measured voxels of a box of the output came about, had none been missing."""

    def refuse_unfit(self) -> None:
        """`EmgenError` if the settings do not fit the mode."""
        return

    def given_psf(self) -> Kernel | None:
        """The point spread function that the settings give, None where there is none or it is to be fitted."""
        return None

    @property
    def fits_psf(self) -> bool:
        """Whether the point spread function is to be fitted to the input before it is restored."""
        return False

    def refuse_grid(self, grid: Grid) -> None:
        """`EmgenError` if blocks of this grid cannot be restored."""
        return

    @property
    def keeps_measured(self) -> bool:
        """Whether measured voxels are output voxels as they are, noise and all."""
        return False

    @property
    def noise_floor(self) -> float:
        """Least noise, in half ranges, that the data step takes: operators without a closed-form prox need some."""
        return 0.0

    @property
    def noise_setting(self) -> NoiseSetting:
        """`restore.noise`, where auto is no noise for what returns measured voxels unchanged."""
        return self.restore.noise

    # geometry of the output

    @property
    def shape(self) -> Zyx:
        """Voxels of the output (z, y, x)."""
        return self.acquisition.output_shape(self.measured_shape)

    @property
    def voxel(self) -> VoxelSize:
        """Size of the output's voxels in nm."""
        return self.measured_voxel.scaled([1 / s for s in self.acquisition.scale])

    def halo(self, halo: Sequence[int]) -> Zyx:
        """The halo that blocks need of the one in the settings: none along z where sections are restored one by one."""
        z, y, x = halo
        return zyx([z if self.through_z else 0, y, x])

    def strides(self, stride: int) -> Zyx:
        """On which output voxels (z, y, x) blocks begin, for networks with a coarsest level of `stride` pixels."""
        return (stride if self.through_z else 1, stride, stride)

    def context(self, box: Box, sections: int) -> Box:
        """`box` with the sections on either side that an estimator sees, so many at most."""
        return box if self.through_z else box.grow((sections, 0, 0)).clip(self.shape)

    def bracketed_sections(self, missing: Sequence[int]) -> tuple[int, int]:
        """The output sections (first, stop) with measured ones on both sides."""
        return 0, self.shape[0]

    def extrapolated(self, missing: Sequence[int]) -> Box | None:
        """Output sections beyond the last measured one, which nothing on the far side supports."""
        return None

    def operator_covering(self, box: Box, coverage: Coverage | None) -> Operator:
        """`operator` of a volume some of whose voxels were not measured."""
        from emgen.physics.operators import without

        operator = self.operator(box)
        if coverage is None:
            return operator
        known = coverage.over(operator.footprint)
        if not self.through_z:
            # a section that is restored by itself keeps what its neighbours say of it where it holds no image
            first, stop = operator.footprint.start[0], operator.footprint.stop[0]
            known = known.clone()
            known[[k in coverage.missing for k in range(first, stop)]] = True
        return without(operator, known)

    # sampling

    @property
    def sampler(self) -> Sampler:
        """The sampler that the settings name."""
        return sampler(self.restore.sampler)

    @property
    def estimator_name(self) -> str | None:
        """Name or path of the learned estimate that sampling begins from, None where it begins without one."""
        if not self.sampler.begins_from_estimate or self.restore.estimator == LINEAR:
            return None
        return self.shipped_estimator if self.restore.estimator == AUTO else self.restore.estimator

    @property
    def steps(self) -> int:
        """Calls of the prior per sample, with the default of the mode or the sampler."""
        default = self.sampler.steps if self.estimator_name is None else self.learned_steps
        return self.restore.steps or default

    @property
    def start_time(self) -> float:
        """The time at which sampling begins, with its default."""
        if self.restore.start is not None:
            return self.restore.start
        return LINEAR_START if self.estimator_name is None else self.learned_start

    @property
    def returns_estimate(self) -> bool:
        """Whether the result is the estimate, and samples only tell how sure it is."""
        return False

    @property
    def error_variance_ratio(self) -> float:
        """E|result - x|^2 over the posterior's variance, if the samples are right.

        1 of the posterior mean; 1 + 1/n of the mean of n samples, which is itself off the posterior mean.
        """
        return 1.0 if self.returns_estimate else 1 + 1 / self.restore.samples

    @abstractmethod
    def estimate(self, observation: Observation, networks: Networks) -> Tensor:
        """What sampling begins from, of `observation.box`, in half ranges."""

    @abstractmethod
    def trial(self, noise: NoiseModel, estimator_context: int) -> Trial | None:
        """How the restoration is tried on the input's own sections; None where they are too small.

        Args:
            noise: of the measurement, in grey values.
            estimator_context: sections on either side that the estimator sees, 0 without one.
        """

    # what is said of it

    @abstractmethod
    def opening(self, planned: Planned) -> str:
        """The report's first sentence: what was done to what."""

    @property
    @abstractmethod
    def trial_sentence(self) -> str:
        """What a trial does to the measured sections, after "parts of the measured sections"."""

    def story(self, planned: Planned) -> tuple[str, ...]:
        """What was done, in sentences for the report."""
        size = " × ".join(map(str, self.shape))
        sentences = [
            self.opening(planned),
            f"The output has {size} voxels ({planned.dtype}).",
            self.sampling_sentence(planned),
            _noise_sentence(planned.noise_model),
            *tissue_sentences(planned, self.measured_shape[0]),
        ]
        return tuple(sentence for sentence in sentences if sentence)

    def sampling_sentence(self, planned: Planned) -> str:
        """Which networks and which sampler made the voxels."""
        restore = self.restore
        drawn = (
            f"The mean of {restore.samples} posterior samples was drawn"
            if restore.samples > 1
            else "One posterior sample was drawn"
        )
        steps = f"{self.steps} step{'s' if self.steps > 1 else ''}"
        sentence = f"{drawn} with the prior {planned.prior['name']} and the sampler {restore.sampler} ({steps}, seed {restore.seed})"
        if planned.estimator is None:
            return f"{sentence}."
        return f"{sentence}; it began from the learned estimate {planned.estimator['name']}."

    def _refuse_alpha(self) -> None:
        limit, alpha = self.sampler.alpha_limit, self.restore.alpha
        if limit is not None and alpha > limit:
            raise EmgenError(
                f"restore.alpha must be at most {limit:g} for the sampler {self.restore.sampler}; found {alpha:g}"
            )

    def _refuse_without_effect(self) -> None:
        """`EmgenError` for settings that would change nothing: whoever gives one expects it to."""
        fields = type(self.restore).model_fields
        heeded = (self.settings & PLACED_BY_MODE) | (self.sampler.settings & PLACED_BY_SAMPLER)
        names = PLACED_BY_MODE | PLACED_BY_SAMPLER
        if self.returns_estimate and self.restore.samples == 1:
            heeded -= {"start"}
            names |= {"steps"}
        for name in sorted(names - heeded):
            value = getattr(self.restore, name)
            if value != fields[name].default and (name, value) not in SAID_ANYWAY:
                raise EmgenError(
                    f"restore.{name} has no effect with mode {self.restore.mode}, sampler {self.restore.sampler} and "
                    f"{self.restore.samples} sample{'s' if self.restore.samples > 1 else ''}; remove `{name}`, or choose "
                    "settings that it is for (config/config.yaml says which)"
                )


def _noise_sentence(noise: NoiseModel) -> str:
    if noise.sigma == 0:
        return "The input was taken as free of noise."
    ratio = noise.correlation_ratio
    gain = f" in the middle of their range, with a gain of {noise.gain * ratio**2:.3g}"
    shared = ", shared by neighbouring pixels"
    return (
        f"The input's noise was taken as {noise.sigma * ratio:.3g} grey values"
        f"{gain if noise.gain else ''}{shared if noise.is_correlated else ''}."
    )
