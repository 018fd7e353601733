"""The figures of sections that were held out, as they stand in `summary.json`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt
from pydantic import Field

from emgen.config.facts import Figures
from emgen.qc import heldout_scores
from emgen.qc.heldout_scores import Predicted, Scores, best_blur, blurred, scores
from emgen.qc.section_model import evidence, texture
from emgen.run.plan import Plan


class Gain(Figures):
    """What the result has more than another volume, with an interval over places (90 %, bootstrap)."""

    value: float
    low: float
    high: float


class HeldOutOf(Figures):
    """What one volume has in common with the measured sections."""

    psnr_db: float | None
    ring_correlation: float = Field(
        description="Fourier ring correlation, averaged over periods of 24 to 6 pixels."
    )
    fine_correlation: float = Field(
        description="Correlation of what is left after a Gaussian of 2 pixels is subtracted."
    )
    rings: list[float] = Field(description="Fourier ring correlation by `ring_period_px`.")


class HeldOutFigures(Figures):
    """Measured sections that were held out, restored from the rest, beside interpolation."""

    places: int
    sections: int = Field(description="Parts of sections that were compared.")
    pixels: tuple[int, int] = Field(description="Of one part.")
    ring_period_px: list[float] = Field(
        description="Where rings end, from the coarsest to the finest."
    )
    restored: HeldOutOf | None
    linear: HeldOutOf | None
    blurred: HeldOutOf | None = Field(
        description="Linear interpolation, blurred in the plane by the width that is best for it."
    )
    blur_px: float | None
    gain_over_linear_db: Gain | None
    gain_over_better_db: Gain | None = Field(
        description="PSNR beyond that of the better interpolation."
    )
    gain_in_detail: Gain | None = Field(
        description="Ring correlation beyond that of linear interpolation, which blurring does not change."
    )
    section_model: SectionModel | None = Field(
        default=None,
        description="Null where it was not tried: sections tell too little of each other, or too few are there.",
    )


class SectionModel(Figures):
    """Whether measured sections look like slices of the tissue or like means of it (`emgen.qc.section_model`)."""

    gain_db: Gain = Field(
        description="PSNR of what the mean model predicts of held-out sections less that of the slice model's."
    )
    texture: float = Field(
        description="Logarithm of how much sections differ over pixels as far apart, added up over both models."
    )
    evidence_db: float = Field(description="Positive speaks for means, negative for slices.")


def compared(held: Sequence[Predicted], grey_range: float) -> HeldOutFigures:
    """Compare what was held out with what was made of it.

    Args:
        held: parts of sections, of several places; none at all are figures of nothing.
        grey_range: grey values that PSNR refers to.
    """
    if not held:
        return _nothing()
    sigma = best_blur(held)
    ours = scores(held, lambda each: each.restored)
    linear = scores(held, lambda each: each.linear)
    smooth = scores(held, lambda each: blurred(each.linear, sigma))
    better = min(linear, smooth, key=lambda volume: volume.mean_squared)
    height, width = held[0].measured.shape
    return HeldOutFigures(
        places=len(ours),
        sections=len(held),
        pixels=(height, width),
        ring_period_px=list(heldout_scores.PERIODS[1:]),
        restored=_of(ours, grey_range),
        linear=_of(linear, grey_range),
        blurred=_of(smooth, grey_range),
        blur_px=sigma,
        gain_over_linear_db=_gain(heldout_scores.gain_db(ours, linear)),
        gain_over_better_db=_gain(heldout_scores.gain_db(ours, better)),
        gain_in_detail=_gain(heldout_scores.gain_in_detail(ours, linear)),
    )


def section_model(
    held: Sequence[Predicted],
    other: Sequence[Predicted],
    samples: Sequence[npt.NDArray[Any]],
    plan: Plan,
) -> SectionModel | None:
    """Whether the sections look like slices or like means; None where it cannot be told.

    Args:
        held: parts of sections, predicted by the run's thickness model.
        other: the same parts, predicted by the other one.
        samples: measured voxels (z, y, x).
        plan: of the run.
    """
    apart = texture(samples, plan.scale[0])
    if apart is None:
        return None
    models = [scores(parts, lambda each: each.restored) for parts in (held, other)]
    slices, means = models if plan.config.restore.section == "slice" else reversed(models)
    gain = _gain(heldout_scores.gain_db(means, slices))
    return SectionModel(
        gain_db=gain,
        texture=apart,
        evidence_db=evidence(gain.value, apart),
    )


def _nothing() -> HeldOutFigures:
    nothing = dict.fromkeys(
        ("restored", "linear", "blurred", "blur_px", "gain_over_linear_db", "gain_over_better_db")
    )
    return HeldOutFigures(
        places=0, sections=0, pixels=(0, 0), ring_period_px=[], gain_in_detail=None, **nothing
    )


def _of(volume: Scores, grey_range: float) -> HeldOutOf:
    return HeldOutOf(
        psnr_db=volume.psnr(grey_range),
        ring_correlation=volume.detail,
        fine_correlation=volume.fine_correlation,
        rings=[float(ring) for ring in volume.rings],
    )


def _gain(limits: tuple[float, float, float]) -> Gain:
    value, low, high = limits
    return Gain(value=value, low=low, high=high)
