"""Sections thicker than a pixel: how a measured section came about from the output's.

output sections    0  1  2  3 | 4  5  6  7 | ...      factor 4
Slice(offset=0)    0          | 1                     one of them: block-face imaging
Mean               0  0  0  0 | 1  1  1  1            all of them: transmission
Gaussian           . o O O o .                        a thickness that does not end at the cut
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from emgen.geometry import Zyx
from emgen.physics.operators.averaging import Averaging
from emgen.physics.operators.convolution import Convolution, Taps
from emgen.physics.operators.operator import Reach

FWHM = math.sqrt(8 * math.log(2))
"""Full width at half maximum of a Gaussian, in standard deviations."""


@dataclass(frozen=True)
class Slice(Averaging):
    """Measured section k is output section k * factor + offset, 0 <= offset < factor."""

    factor: int
    offset: int = 0

    def validate(self) -> None:
        _check_factor(self.factor)
        if not 0 <= self.offset < self.factor:
            raise ValueError(
                f"the offset must be from 0 to {self.factor - 1} with factor {self.factor}, "
                f"not {self.offset}"
            )

    @property
    def scale(self) -> Zyx:
        return (self.factor, 1, 1)

    @property
    def reach(self) -> tuple[Reach, Reach, Reach]:
        return (self.offset, self.offset), (0, 0), (0, 0)


@dataclass(frozen=True)
class Mean(Averaging):
    """Measured section k is the mean of output sections k * factor to (k + 1) * factor - 1."""

    factor: int

    def validate(self) -> None:
        _check_factor(self.factor)

    @property
    def scale(self) -> Zyx:
        return (self.factor, 1, 1)

    @property
    def reach(self) -> tuple[Reach, Reach, Reach]:
        return (0, self.factor - 1), (0, 0), (0, 0)


@dataclass(frozen=True)
class Gaussian(Convolution):
    """Measured section k is a Gaussian mean around the middle of its span of `factor` sections.

    fwhm: full width at half maximum in output sections. Cut off at 3 sigma and normalised; at the
    ends of the volume the outermost section is repeated.
    """

    factor: int
    fwhm: float

    def validate(self) -> None:
        _check_factor(self.factor)
        if not (math.isfinite(self.fwhm) and self.fwhm > 0):
            raise ValueError(f"the section's width must be a positive number, not {self.fwhm}")

    @property
    def sigma(self) -> float:
        """Standard deviation in output sections."""
        return self.fwhm / FWHM

    @property
    def scale(self) -> Zyx:
        return (self.factor, 1, 1)

    @property
    def reach(self) -> tuple[Reach, Reach, Reach]:
        middle = (self.factor - 1) / 2
        radius = max(3 * self.sigma, 0.5)
        return (math.ceil(middle - radius), math.floor(middle + radius)), (0, 0), (0, 0)

    @cached_property
    def terms(self) -> tuple[dict[int, Taps], ...]:
        (first, last), _, _ = self.reach
        at = np.arange(first, last + 1)
        weights = np.exp(-(((at - (self.factor - 1) / 2) / self.sigma) ** 2) / 2)
        return ({0: self.taps(0, weights / weights.sum(), "replicate")},)


def _check_factor(factor: int) -> None:
    if factor < 1:
        raise ValueError(f"the factor must be a whole number from 1 on, not {factor}")
