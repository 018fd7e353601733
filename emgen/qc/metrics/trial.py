"""Known answers: sections of the input, measured once more and restored, beside the best simple method."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from pydantic import Field

from emgen.config.facts import Figures
from emgen.qc.heldout_scores import interval
from emgen.qc.metrics.metric import Measured, Metric, Needs
from emgen.qc.report.blocks import Note, Page, Panel, Paragraph
from emgen.qc.report.tables import Table, row
from emgen.qc.sample import Sample
from emgen.qc.simple_methods import best
from emgen.qc.verdict import Check, Verdict, not_tested
from emgen.qc.words import number, opened, plural
from emgen.run.plan import Plan

if TYPE_CHECKING:
    from emgen.run.known_answers import Answer

FEW = 6
"""With fewer sections nothing passes."""


class Saved(Figures):
    """By how much the mean squared error is less than another's, with an interval over sections (90 %, bootstrap)."""

    value: float
    low: float
    high: float


class TrialFigures(Figures):
    """Sections whose answer is known; errors are less the noise of what they are compared with."""

    sections: int
    simple_method: str = Field(
        description="The simple method that is best for these very sections."
    )
    rmse_restored_grey: float | None
    rmse_simple_grey: float | None
    rmse_alone_grey: float | None = Field(
        description="Restored without the sections beside; null where there are none."
    )
    saved_over_simple: Saved | None = Field(description="Grey values squared.")
    saved_by_neighbours: Saved | None = Field(description="Grey values squared.")


class Trial(Metric[TrialFigures]):
    """Whether sections that were measured once more come out nearer to what they were than by simple methods."""

    name = "trial"
    title = "Known answers"
    message = "Measuring sections of the input once more, and restoring them"
    figures = TrialFigures
    needs = Needs(
        environment="torch",
        threads=8,
        memory_mb=8000,
        modes=("denoise", "superres", "deblur"),
        gpu=True,
    )

    def measure(self, sample: Sample, threads: int) -> Measured[TrialFigures]:
        from emgen.networks.device import fixed_arithmetic
        from emgen.run.claim import claimed_device
        from emgen.run.known_answers import known_answers

        plan = sample.plan
        with claimed_device() as device, fixed_arithmetic(plan.config.restore.precision):
            return Measured(compared(known_answers(plan, sample.measured, device, threads)))

    def checks(self, figures: TrialFigures, plan: Plan) -> list[Check]:
        if figures.saved_over_simple is None or _nothing_to_do(plan):
            return [not_tested("known answers", _why_not(plan), decisive=True)]
        stack = figures.saved_by_neighbours
        return [
            _against_simple(figures, figures.saved_over_simple),
            *([] if stack is None else [_against_alone(stack)]),
        ]

    def panel(self, figures: TrialFigures, page: Page) -> Panel:
        if figures.saved_over_simple is None or _nothing_to_do(page.plan):
            return Panel(self.title, (Paragraph(_why_not(page.plan)),))
        columns = ["restored", figures.simple_method]
        errors = [figures.rmse_restored_grey, figures.rmse_simple_grey]
        if figures.saved_by_neighbours is not None:
            columns.append("restored without the sections beside")
            errors.append(figures.rmse_alone_grey)
        rows = (row("RMSE without the noise of the truth", errors, ".2f", "grey values"),)
        return Panel(
            self.title,
            (
                Paragraph(
                    f"{plural(figures.sections, 'part')} of the measured sections {page.plan.mode.trial_sentence}, and were "
                    "restored as the volume is. What they were is known but for their noise, which is taken off every error."
                ),
                Table(tuple(columns), rows),
                Note(
                    "The simple method is the best of enlarging, smoothing and sharpening, with the settings that are best for "
                    "these very sections: a user cannot know them."
                ),
            ),
        )


def compared(answers: Sequence[Answer]) -> TrialFigures:
    """Compare what was restored with what is known."""
    if not answers:
        return TrialFigures(
            sections=0,
            simple_method="",
            rmse_restored_grey=None,
            rmse_simple_grey=None,
            rmse_alone_grey=None,
            saved_over_simple=None,
            saved_by_neighbours=None,
        )
    name, simple = best([a.measured for a in answers], [a.truth for a in answers])
    noise = np.array([a.noise_power for a in answers])
    ours = _errors(answers, lambda k: answers[k].restored)
    theirs = _errors(answers, lambda k: simple[k])
    lone = [a.alone for a in answers]
    alone = (
        None if any(each is None for each in lone) else _errors(answers, lambda k: answers[k].alone)
    )
    return TrialFigures(
        sections=len(answers),
        simple_method=name,
        rmse_restored_grey=_rmse(ours - noise),
        rmse_simple_grey=_rmse(theirs - noise),
        rmse_alone_grey=None if alone is None else _rmse(alone - noise),
        saved_over_simple=_saved(theirs - ours),
        saved_by_neighbours=None if alone is None else _saved(alone - ours),
    )


def _errors(
    answers: Sequence[Answer], volume: Callable[[int], npt.NDArray[np.float32] | None]
) -> npt.NDArray[np.float64]:
    return np.array(
        [np.square(np.float64(volume(k)) - a.truth).mean() for k, a in enumerate(answers)]
    )


def _rmse(squared: npt.NDArray[np.float64]) -> float | None:
    mean = float(squared.mean())
    return math.sqrt(mean) if mean > 0 else None


def _saved(squared: npt.NDArray[np.float64]) -> Saved:
    value, low, high = interval(len(squared), lambda at: float(squared[at].mean()))
    return Saved(value=value, low=low, high=high)


def _nothing_to_do(plan: Plan) -> bool:
    return plan.mode.returns_estimate and plan.noise_model.sigma == 0


def _why_not(plan: Plan) -> str:
    if plan.noise_model.is_correlated:
        return "Noise that neighbouring pixels share cannot be told from tissue: no section has a known answer."
    if _nothing_to_do(plan):
        return "The input was taken as free of noise: nothing was removed that could be tested."
    return "The sections are too small or too empty to be measured once more."


def _against_simple(figures: TrialFigures, saved: Saved) -> Check:
    verdict: Verdict = "pass" if saved.low > 0 and figures.sections >= FEW else "warn"
    if saved.value <= 0:
        verdict = "fail"
    ours, theirs = figures.rmse_restored_grey, figures.rmse_simple_grey
    errors = " grey values against ".join(
        "none" if e is None else number(e, ".2f") for e in (ours, theirs)
    )
    what = f"{plural(figures.sections, 'part')} of sections whose answer is known"
    how = {
        "pass": "come out nearer to it than by the best simple method",
        "warn": "come out nearer to it than by the best simple method, but not by more than chance",
        "fail": "come out no nearer to it than by the best simple method",
    }[verdict]
    return Check(
        name="known answers",
        verdict=verdict,
        measure="mean squared error saved",
        value=saved.value,
        unit="grey values squared",
        reason=opened(f"{what} {how}, {figures.simple_method}: errors of {errors}"),
        decisive=True,
    )


def _against_alone(saved: Saved) -> Check:
    worse = saved.high < 0
    reason = (
        "Sections come out better without those beside them: the stack is no stack of one tissue. Restore them one by one, "
        "as volumes of one section."
        if worse
        else "The sections beside a section help to restore it, or do no harm."
    )
    return Check(
        name="stack or single",
        verdict="warn" if worse else "pass",
        measure="mean squared error saved by the sections beside",
        value=saved.value,
        unit="grey values squared",
        reason=reason,
    )


METRIC = Trial()
