"""Uncertainty: the spread over posterior samples, beside the error where that is known."""

from __future__ import annotations

import math

import numpy as np
from markupsafe import Markup
from pydantic import Field

from emgen.config.facts import Figures
from emgen.qc.grey_errors import error_sums
from emgen.qc.metrics.metric import Measured, Metric, Needs
from emgen.qc.report.blocks import Gallery, Page, Panel, Paragraph
from emgen.qc.sample import Sample
from emgen.run.calibration_facts import Calibration

DEVIATIONS = (1, 2, 3)
"""Multiples of the standard deviation at which the coverage is counted."""


class UncertaintyFigures(Figures):
    """Standard deviation over posterior samples in grey values."""

    rms_grey: float
    p99_grey: float
    calibration: Calibration | None = Field(
        default=None, description="Null where it was not tried: the spread is that of the samples."
    )
    error_over_spread: float | None = Field(
        description=(
            "RMSE against the reference over what the spread lets expect: the rms spread, times sqrt(1 + 1/samples) where "
            "the result is the mean of the samples. 1 is calibrated; null without a reference."
        )
    )
    coverage: dict[str, float] | None = Field(
        default=None,
        description=(
            "Share of the voxels that vary whose reference lies within 1, 2 and 3 standard deviations of the mean, those of one "
            "more sample; for four samples 0.61, 0.86 and 0.94 (Student's t) if errors are normal and the spread is right. Null without a reference."
        ),
    )


class Uncertainty(Metric[UncertaintyFigures]):
    """Whether the spread over samples is as large as the error."""

    name = "uncertainty"
    title = "Uncertainty"
    message = "Comparing the spread over samples with the error"
    figures = UncertaintyFigures
    needs = Needs(samples=True)

    def measure(self, sample: Sample, threads: int) -> Measured[UncertaintyFigures]:
        if sample.uncertainty is None:
            raise ValueError("the spread over samples is measured, and the run has one sample")
        spread = sample.uncertainty
        # the mean of n samples is off the truth by their variance, and by 1/n of it for being a mean
        wider = math.sqrt(sample.plan.mode.error_variance_ratio)
        squared = count = errors = varying = 0.0
        highest, within = [], np.zeros(len(DEVIATIONS))
        for box in sample.boxes:
            deviation, tile = spread.read(box), sample.read(box)
            squared += float(np.square(deviation, dtype=np.float64).sum())
            count += box.size
            highest.append(float(np.percentile(deviation, 99)))
            if tile.reference is not None:
                errors += error_sums(tile.reference, tile.restored).squared
                varies = deviation > 0
                off = np.abs(tile.restored - tile.reference)[varies] / (wider * deviation[varies])
                varying += off.size
                within += [float((off <= k).sum()) for k in DEVIATIONS]
        compared = sample.reference is not None and squared > 0
        shares = {str(k): float(n / varying) for k, n in zip(DEVIATIONS, within)} if varying else {}
        return Measured(
            UncertaintyFigures(
                rms_grey=math.sqrt(squared / count),
                p99_grey=float(np.median(highest)),
                calibration=sample.calibration,
                error_over_spread=math.sqrt(errors / squared) / wider if compared else None,
                coverage=shares if compared and shares else None,
            )
        )

    def panel(self, figures: UncertaintyFigures, page: Page) -> Panel:
        from emgen.qc.report import views

        maps, scale = views.spread(page.sample, page.view)
        sentences = [
            _size(figures, page.plan.config.restore.samples),
            _calibration(figures.calibration, page.plan.mode.trial_sentence),
            _error(figures.error_over_spread),
            _coverage(figures.coverage),
            Markup("The whole map is in <code>uncertainty.ome.zarr</code>."),
        ]
        text = Markup(" ").join(sentence for sentence in sentences if sentence)
        return Panel(self.title, (Paragraph(text), Gallery(maps, len(maps), scale=scale)))


def _size(figures: UncertaintyFigures, samples: int) -> str:
    factor = figures.calibration and figures.calibration.factor
    calibrated = "" if factor is None else f", times {factor:.2f}"
    return (
        f"Standard deviation over {samples} posterior samples{calibrated}: {figures.rms_grey:.3g} grey values "
        f"(root mean square), {figures.p99_grey:.3g} at the 99th percentile."
    )


def _calibration(calibration: Calibration | None, trial: str) -> str:
    if calibration is None:
        return (
            "It is as the samples have it, which tend to be surer than they should be: it was not tried on the "
            "input's own sections."
        )
    if calibration.factor is None:
        why = (
            "they are too small or empty, or their noise is shared by neighbours"
            if calibration.crops == 0
            else "they are too noisy, or there is no noise to remove"
        )
        return f"It is as the samples have it: the measured sections could not be tried ({why})."
    return (
        f"The factor makes the spread as large as the error where that is known: {calibration.crops} parts of the "
        f"measured sections {trial}, and were restored as the volume is."
    )


def _error(ratio: float | None) -> str:
    if ratio is None:
        return ""
    return (
        f"The error against the reference is {ratio:.2f} times what that lets expect; a spread that is right has "
        "about 1, and more means that the samples are surer than they should be."
    )


def _coverage(coverage: dict[str, float] | None) -> str:
    if coverage is None:
        return ""
    one, two, three = (100 * coverage[str(k)] for k in DEVIATIONS)
    return (
        f"Within 1, 2 and 3 standard deviations of the mean lie {one:.0f}, {two:.0f} and {three:.1f} % of the reference's "
        "voxels; Student's t with one degree of freedom fewer than samples would be right (61, 86 and 94 % for four), "
        "and the reference has noise that no sample knows."
    )


METRIC = Uncertainty()
