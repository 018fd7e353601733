"""What the input itself says of the settings: its noise, and how far its sections are apart."""

from __future__ import annotations

import math

import numpy as np
from pydantic import Field

from emgen.config.facts import Figures
from emgen.physics.missing import drop_missing
from emgen.physics.noise_model import white_noise
from emgen.qc.metrics.metric import Measured, Metric
from emgen.qc.report.blocks import Page, Panel
from emgen.qc.report.tables import Cell, Row, Table
from emgen.qc.sample import Sample
from emgen.qc.section_model import texture
from emgen.qc.verdict import Check, not_tested
from emgen.qc.words import number
from emgen.run.plan import Plan
from emgen.volumes.intensity import tissue
from emgen.volumes.samples import read_samples

MOST_UNSAID = 0.36
"""Noise that was not said, over the contrast of the tissue. Twelve volumes without added noise have 0.02 to 0.36 of
what the estimate takes for noise; noise of 20 grey values adds up to 0.35 to 0.7."""
MOST_SAID = 2.5
"""Noise that was said over what is measured: where neighbours share noise the estimate sees half of it."""
TEXTURE = -0.85, 1.25
"""Volumes lie between -0.8 and 1.0; a factor twice too large makes it 1.2 to 1.4 less, one of half 1.2 to 1.7
more."""


class MeasurementFigures(Figures):
    """What samples of the input say, in grey values."""

    noise_measured_grey: float = Field(description="Standard deviation of white noise (Immerkaer).")
    noise_said_grey: float = Field(description="Of the settings; 0 is none.")
    noise_estimated: bool = Field(description="Whether what the settings say was itself estimated.")
    contrast_grey: float = Field(description="Standard deviation of the tissue's grey values.")
    texture: float | None = Field(
        description="How unlike sections and pixels as far apart are, see `emgen.qc.section_model`; null without a factor."
    )

    @property
    def unsaid(self) -> float:
        """Noise that the settings do not know of, over the contrast."""
        rest = self.noise_measured_grey**2 - self.noise_said_grey**2
        return math.sqrt(max(0.0, rest)) / self.contrast_grey if self.contrast_grey else 0.0


class Measurement(Metric[MeasurementFigures]):
    """Whether the settings say of the input what is there."""

    name = "measurement"
    title = "Settings against the input"
    message = "Looking whether the input is as noisy and as coarse as the settings say"
    figures = MeasurementFigures

    def measure(self, sample: Sample, threads: int) -> Measured[MeasurementFigures]:
        plan = sample.plan
        samples = drop_missing(read_samples(sample.measured), sample.measured.shape, plan.missing)
        factor = plan.scale[0]
        return Measured(
            MeasurementFigures(
                noise_measured_grey=white_noise(samples),
                noise_said_grey=plan.noise_model.true_sigma,
                noise_estimated=isinstance(plan.mode.noise_setting, str),
                contrast_grey=float(np.std(tissue(samples))),
                texture=texture(samples, factor) if factor > 1 else None,
            )
        )

    def checks(self, figures: MeasurementFigures, plan: Plan) -> list[Check]:
        return [_noise(figures), *([] if figures.texture is None else [_spacing(figures.texture)])]

    def panel(self, figures: MeasurementFigures, page: Page) -> Panel:
        noise = (figures.noise_said_grey, figures.noise_measured_grey)
        cells = tuple(Cell(number(value, ".3g")) for value in noise)
        rows = (Row("noise", cells, "grey values"),)
        return Panel(self.title, (Table(("said", "measured"), rows),))


def _noise(figures: MeasurementFigures) -> Check:
    said, measured = figures.noise_said_grey, figures.noise_measured_grey
    if figures.noise_estimated:
        return not_tested(
            "noise", "The noise was estimated from the input, so that it agrees with the input."
        )
    too_much = said > MOST_SAID * measured
    too_little = figures.unsaid > MOST_UNSAID
    they = f"the input has noise of about {measured:.3g} grey values"
    reason = f"The settings say noise of {said:.3g} grey values, and {they}."
    if too_little:
        reason = f"The settings say noise of {said:.3g} grey values, but {they}: set `noise: {measured:.2g}`."
    elif too_much:
        reason = f"The settings say noise of {said:.3g} grey values, but {they}: the result is smoother than it should be."
    return Check(
        name="noise",
        verdict="warn" if too_little or too_much else "pass",
        measure="noise said over noise measured"
        if too_much
        else "noise not said, over the contrast",
        value=said / measured if too_much and measured else figures.unsaid,
        warn=MOST_SAID if too_much else MOST_UNSAID,
        reason=reason,
    )


def _spacing(found: float) -> Check:
    low, high = TEXTURE
    wrong = "" if low <= found <= high else "more" if found > high else "less"
    reason = (
        f"Sections differ {wrong} from each other than pixels as far apart do: are `factor` and the voxel size right, and are "
        "the sections in order and in place?"
        if wrong
        else "Sections differ from each other about as much as pixels as far apart do, as the voxel size says."
    )
    return Check(
        name="distance of sections",
        verdict="warn" if wrong else "pass",
        measure="logarithm of the ratio",
        value=found,
        warn=high if found > 0 else low,
        higher=found <= 0,
        reason=reason,
    )


METRIC = Measurement()
