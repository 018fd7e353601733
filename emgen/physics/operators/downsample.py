"""Super-resolution section by section: coarser pixels in y and x."""

from __future__ import annotations

from dataclasses import dataclass

from emgen.physics.acquisition import Acquisition, coarser_pixels
from emgen.physics.operators.averaging import Averaging


@dataclass(frozen=True)
class Downsample(Averaging):
    """Pixels `factor` times coarser, each the mean of factor x factor output pixels: a probe that dwells on all of it."""

    factor: int

    def validate(self) -> None:
        if self.factor < 1:
            raise ValueError(f"the factor must be a whole number from 1 on, not {self.factor}")

    @property
    def acquisition(self) -> Acquisition:
        return coarser_pixels(self.factor)
