"""Deblurring, section by section: a point spread function in y and x is undone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from emgen.errors import EmgenError
from emgen.geometry import Box
from emgen.modes.observation import Planned
from emgen.modes.sections import Sections
from emgen.physics.acquisition import Acquisition, blurred_pixels, same_voxels
from emgen.physics.noise_model import NoiseModel
from emgen.physics.psf import Kernel, as_tuples, gaussian, read_kernel

if TYPE_CHECKING:
    from emgen.modes.mode import Trial
    from emgen.physics.operators import Operator
    from emgen.volumes.grid import Grid

SMALLEST_NOISE = 0.01
"""Of the half range: a blur is not invertible, so its data step needs some noise."""
SMALLEST_BINNED, BINNED = 48, 4
"""A trial bins blurred sections so many times, where so many pixels on a side are left: a binned blurred section is
sharp."""


@dataclass(frozen=True)
class Deblur(Sections):
    """Blur by a known or fitted point spread function is removed."""

    settings: ClassVar[frozenset[str]] = frozenset({"psf"})
    learned_start: ClassVar[float] = 0.7
    learned_steps: ClassVar[int] = 12

    def refuse_unfit(self) -> None:
        self.refuse_adaptation()
        self.refuse_factor()

    def given_psf(self) -> Kernel | None:
        psf = self.restore.psf
        if psf.blind:
            return None
        if psf.kernel:
            return as_tuples(read_kernel(psf.kernel))
        y, x = np.broadcast_to(psf.sigma, 2).tolist()
        return as_tuples(gaussian(y, x, math.radians(psf.angle)))

    @property
    def fits_psf(self) -> bool:
        return self.restore.psf.blind

    def refuse_grid(self, grid: Grid) -> None:
        """`EmgenError` if the point spread function reaches beyond the halo.

        Voxels at the edge of a block's core, all of whose neighbours count, would then have been measured by voxels
        that are not computed with them.
        """
        if self.psf is None:
            return
        for axis, size in ((1, len(self.psf)), (2, len(self.psf[0]))):
            if size // 2 > grid.halo[axis] and grid.shape[axis] > grid.block[axis]:
                raise EmgenError(
                    f"the point spread function reaches {size // 2} pixels along {'zyx'[axis]}, the halo "
                    f"{grid.halo[axis]}: set grid.halo to at least {size // 2} there"
                )

    @property
    def acquisition(self) -> Acquisition:
        return same_voxels() if self.psf is None else blurred_pixels(*np.shape(self.psf))

    def operator(self, box: Box) -> Operator:
        from emgen.physics.operators import Blur

        return Blur(self.shape, kernel=self.psf, box=box)

    @property
    def noise_floor(self) -> float:
        return SMALLEST_NOISE

    def trial(self, noise: NoiseModel, estimator_context: int) -> Trial | None:
        from emgen.modes.trial import coarser_sections

        smallest = min(self.measured_shape[1:])
        binned = max(1, min(BINNED, smallest // SMALLEST_BINNED))
        return coarser_sections(self, noise, estimator_context, binned)

    def opening(self, planned: Planned) -> str:
        return (
            f"Blur was removed from {self.one_by_one(planned)}; output voxels are {self.voxel}; point spread function: "
            f"{self._psf_words()}."
        )

    @property
    def trial_sentence(self) -> str:
        return "were made smaller, and so sharp, and blurred again"

    def _psf_words(self) -> str:
        psf = self.restore.psf
        if psf.kernel:
            return f"from {psf.kernel}"
        if psf.blind:
            return "an elliptic Gaussian, fitted to the input (psf.json)"
        turned = f", turned by {psf.angle:g} degrees" if psf.angle else ""
        return f"Gaussian, sigma {psf.sigma} pixels{turned}"


MODE = Deblur
