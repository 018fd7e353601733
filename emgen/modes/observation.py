"""What a mode looks at: the measurement of one box, and what a plan decided about the whole volume."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from emgen.config import Config
from emgen.geometry import Box
from emgen.physics.noise_model import NoiseModel

if TYPE_CHECKING:
    from torch import Tensor


class Planned(Protocol):
    """What a story needs of a plan; `emgen.run.plan.Plan` is one."""

    @property
    def config(self) -> Config: ...
    @property
    def dtype(self) -> str: ...
    @property
    def noise_model(self) -> NoiseModel: ...
    @property
    def missing(self) -> tuple[int, ...]: ...
    @property
    def no_data(self) -> tuple[float, ...]: ...
    @property
    def absent(self) -> bool: ...
    @property
    def blank(self) -> float: ...
    @property
    def inferred(self) -> float: ...
    @property
    def prior(self) -> dict[str, Any]: ...
    @property
    def estimator(self) -> dict[str, Any] | None: ...


@dataclass(frozen=True)
class Coverage:
    """Which measured voxels of a box were measured indeed.

    Attributes:
        known: true where they were (z, y, x), on the device.
        box: in measured voxels.
        missing: numbers of the sections that hold no image.
    """

    known: Tensor
    box: Box
    missing: tuple[int, ...] = ()

    def over(self, box: Box) -> Tensor:
        """`known` of another box; beyond the edges the edge is held, but for missing sections."""
        known = self.known
        for axis in range(3):
            first, last = self.box.start[axis], self.box.stop[axis] - 1
            place = [
                min(max(k, first), last) - first for k in range(box.start[axis], box.stop[axis])
            ]
            known = known[(slice(None),) * axis + (place,)]
        lost = [k in self.missing for k in range(box.start[0], box.stop[0])]
        if any(lost):
            known = known.clone()
            known[lost] = False
        return known


@dataclass(frozen=True)
class Observation:
    """What was measured of one box of the output. Tensors are (z, y, x) in the prior's half range, on the device.

    Attributes:
        box: the output voxels to restore.
        context: the same and, where sections are restored one by one, the sections on either side that networks see.
        linear: linear interpolation of the measured voxels on `context`.
        y: the measured voxels that `box` determines wholly.
        y_context: those that `context` determines wholly.
        sigma: deviation of white noise that hides as much tissue as the noise in y does: one number, or one for each
            voxel of y.
        noise: the noise model of the run, in grey values.
        unit: grey values of a half range.
        coverage: which voxels were measured, None where all were. What y and `linear` hold elsewhere is made up.
        device: where the tensors are.
    """

    box: Box
    context: Box
    linear: Tensor
    y: Tensor
    y_context: Tensor
    sigma: float | Tensor
    noise: NoiseModel
    unit: float
    coverage: Coverage | None
    device: str

    @property
    def mid_sigma(self) -> float:
        """Deviation at mid-grey of white noise that hides as much tissue, in half ranges."""
        return self.noise.sigma / self.unit

    @property
    def true_sigma(self) -> float:
        """The noise's own deviation at mid-grey in half ranges: less than `mid_sigma` where neighbours share it."""
        return self.noise.true_sigma / self.unit
