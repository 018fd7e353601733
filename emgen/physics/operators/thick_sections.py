"""Sections thicker than a pixel: how a measured section came about from the output's.

output sections    0  1  2  3 | 4  5  6  7 | ...      factor 4
Slice              0          | 1                     one of them: block-face imaging
Mean               0  0  0  0 | 1  1  1  1            all of them: transmission
Gaussian           . o O O o .                        a thickness that does not end at the cut
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from emgen.physics.acquisition import (
    FWHM_PER_SIGMA,
    Acquisition,
    gaussian_section,
    mean_of_sections,
    one_section,
)
from emgen.physics.operators.averaging import Averaging
from emgen.physics.operators.convolution import Convolution, Taps


@dataclass(frozen=True)
class Slice(Averaging):
    """Measured section k is output section k * factor, as block-face imaging sees the surface of the block."""

    factor: int

    def validate(self) -> None:
        _check_factor(self.factor)

    @property
    def acquisition(self) -> Acquisition:
        return one_section(self.factor)


@dataclass(frozen=True)
class Mean(Averaging):
    """Measured section k is the mean of output sections k * factor to (k + 1) * factor - 1."""

    factor: int

    def validate(self) -> None:
        _check_factor(self.factor)

    @property
    def acquisition(self) -> Acquisition:
        return mean_of_sections(self.factor)


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
        return self.fwhm / FWHM_PER_SIGMA

    @property
    def acquisition(self) -> Acquisition:
        return gaussian_section(self.factor, self.fwhm)

    def response_norm(self) -> float:
        """Of the middle section of a span, which neighbouring sections see too."""
        taps = self.terms[0][0].matrix
        return float(np.linalg.norm(taps[:, taps.shape[1] // 2]))

    @cached_property
    def terms(self) -> tuple[dict[int, Taps], ...]:
        (first, last), _, _ = self.reach
        at = np.arange(first, last + 1)
        weights = np.exp(-(((at - (self.factor - 1) / 2) / self.sigma) ** 2) / 2)
        return ({0: self.taps(0, weights / weights.sum(), "replicate")},)


def _check_factor(factor: int) -> None:
    if factor < 1:
        raise ValueError(f"the factor must be a whole number from 1 on, not {factor}")
