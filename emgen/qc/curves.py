"""Fourier shell correlation as it stands in `summary.json`."""

from __future__ import annotations

import numpy as np
from pydantic import Field

from emgen.config.facts import Figures
from emgen.qc import fourier
from emgen.qc.fourier import SECTORS, Sector
from emgen.qc.tiles import rounded


class Resolved(Figures):
    """Where a curve first falls below a threshold."""

    threshold: float
    nm: float | None = Field(
        description="Full period; null if it is below from the first shell on."
    )
    at_nyquist: bool = Field(description="It never falls: two voxels or better.")
    reason: str


class Curve(Figures):
    """Fourier shell correlation in one sector, and the power over the reference's."""

    frequency_per_nm: list[float]
    correlation: list[float]
    power_ratio: list[float]
    nyquist_per_nm: float
    at_half: Resolved = Field(description="At 0.5, against a reference.")
    at_seventh: Resolved = Field(description="At 0.143, the convention for independent halves.")


def curves(sums: fourier.ShellSums) -> dict[Sector, Curve]:
    """The curve of every sector."""
    return {sector: _curve(fourier.curve(sums, sector), sums) for sector in SECTORS}


def _curve(curve: fourier.FscCurve, sums: fourier.ShellSums) -> Curve:
    row = SECTORS.index(curve.sector)
    shells = np.rint(curve.frequency / sums.width).astype(int)
    return Curve(
        frequency_per_nm=rounded(curve.frequency),
        correlation=rounded(curve.correlation),
        power_ratio=rounded(sums.power_b[row][shells] / sums.power_a[row][shells]),
        nyquist_per_nm=curve.nyquist,
        at_half=_resolved(curve, 0.5),
        at_seventh=_resolved(curve, 0.143),
    )


def _resolved(curve: fourier.FscCurve, threshold: float) -> Resolved:
    resolution = fourier.resolution(curve, threshold)
    return Resolved(
        threshold=resolution.threshold,
        nm=resolution.value_nm,
        at_nyquist=resolution.at_nyquist,
        reason=resolution.reason,
    )
