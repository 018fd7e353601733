"""Held-out sections: what the run makes of measured sections that it is not shown, beside interpolation.

The test that needs no reference and that every isotropic run makes. `emgen.run.heldout` restores the sections.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from emgen.qc.heldout_figures import Gain, HeldOutFigures, compared, section_model
from emgen.qc.heldout_scores import Predicted, blurred
from emgen.qc.metrics.image import data_range
from emgen.qc.metrics.metric import Arrays, Measured, Metric, Needs
from emgen.qc.report.blocks import Block, Gallery, Note, Page, Panel, Paragraph
from emgen.qc.report.tables import Row, Table, row
from emgen.qc.sample import Sample
from emgen.qc.section_model import UNDECIDED_DB, tells
from emgen.qc.verdict import Check, Verdict, not_tested
from emgen.qc.words import number, opened, plural, times
from emgen.run.plan import Plan
from emgen.volumes.measured import Measured as Volume
from emgen.volumes.samples import sample_boxes

FEW_PLACES = 6
"""With fewer places the interval is a guess, and a pass would be one too."""
MIN_DETAIL = 0.01
"""Ring correlation that the result must have more: what sharpening alone may gain at the border of the window."""
VOLUMES = ("measured", "restored", "linear", "blurred")


class HeldOut(Metric[HeldOutFigures]):
    """Whether sections that were held out come out better than from interpolation."""

    name = "heldout"
    title = "Held-out sections"
    message = "Restoring measured sections from those around them"
    figures = HeldOutFigures
    needs = Needs(environment="torch", threads=8, memory_mb=8000, modes=("isotropic",), gpu=True)
    keeps_arrays = True

    def measure(self, sample: Sample, threads: int) -> Measured[HeldOutFigures]:
        from emgen.run.claim import claimed_device

        plan = sample.plan
        samples = [
            plan.see(sample.measured, box).voxels for box in sample_boxes(plan.measured_shape)
        ]
        with claimed_device() as device:
            held, figures = tried(plan, sample.measured, samples, device, threads)
        few = [held[0], held[len(held) // 2]] if held else []
        return Measured(figures, shown(few, figures.blur_px or 0.0))

    def checks(self, figures: HeldOutFigures, plan: Plan) -> list[Check]:
        if figures.places == 0:
            return [not_tested("held-out sections", _why_not(plan), decisive=True)]
        return [_judged(figures), _section_model(figures, plan)]

    def rows(self, figures: HeldOutFigures) -> list[Row]:
        volumes = [figures.restored, figures.linear, figures.blurred]
        psnr, rings, fine = (
            [None if v is None else getattr(v, key) for v in volumes]
            for key in ("psnr_db", "ring_correlation", "fine_correlation")
        )
        return [
            row("Fourier ring correlation, 24 to 6 pixels", rings, ".3f", higher=True),
            row("correlation of fine detail", fine, ".3f", higher=True),
            row("PSNR", psnr, ".2f", "dB", higher=True),
        ]

    def panel(self, figures: HeldOutFigures, page: Page) -> Panel:
        blocks: list[Block] = [Paragraph(_told(figures, page.plan))]
        if figures.places == 0:
            return Panel(self.title, tuple(blocks))
        columns = ("restored", "linear", f"linear, blurred by {figures.blur_px:g} px")
        blocks += [Table(columns, tuple(self.rows(figures))), Note(_gains(figures))]
        if page.arrays:
            blocks.append(_gallery(page.arrays, page.plan))
        return Panel(self.title, tuple(blocks))


def tried(
    plan: Plan,
    measured: Volume,
    samples: Sequence[npt.NDArray[Any]],
    device: str = "cpu",
    threads: int = 1,
    most: int | None = None,
) -> tuple[Sequence[Predicted], HeldOutFigures]:
    """Hold out sections, and restore them by the other thickness model too where that can tell anything.

    Args:
        plan: of an isotropic run.
        measured: its input.
        samples: measured voxels (z, y, x) from all over it.
        device: "cpu" or a CUDA device.
        threads: on a CPU.
        most: places at most; the default is what a run of this size affords.

    Returns:
        The parts of sections that were held out, and their figures.
    """
    from emgen.networks.device import fixed_arithmetic
    from emgen.run.heldout import PLACES, by_the_other_model, hold_out

    most = most or PLACES[1]
    with fixed_arithmetic(plan.config.restore.precision):
        held = hold_out(plan, measured, device, threads, most=most)
        figures = compared(held, data_range(plan))
        if figures.linear is None or not tells(figures.linear.ring_correlation):
            return held, figures
        other = hold_out(by_the_other_model(plan), measured, device, threads, most=most)
    model = section_model(held, other, samples, plan)
    return held, figures.model_copy(update={"section_model": model})


def _judged(figures: HeldOutFigures) -> Check:
    """Fails where the result is not better than interpolation; passes where that is more than chance.

    Grey values must be nearer than those of plain linear interpolation at least. Beyond that there are two questions,
    whether they are nearer than those of blurred interpolation too, and whether finer detail agrees: noise and
    fine grain, which nobody can know, favour what is blurred in the first; in the second blurring counts for nothing.
    """
    linear, better, detail = _gains_of(figures)
    finer, nearer = detail.low > MIN_DETAIL, better.low > 0
    verdict: Verdict = "warn"
    if linear.value <= 0 or (better.value <= 0 and not finer) or (detail.value <= 0 and not nearer):
        verdict = "fail"
    elif linear.low > 0 and min(better.value, detail.value) > 0 and (finer or nearer):
        verdict = "pass" if figures.places >= FEW_PLACES else "warn"
    return Check(
        name="held-out sections",
        verdict=verdict,
        measure="gain over the better interpolation",
        value=better.value,
        unit="dB",
        decisive=True,
        reason=_reason(verdict, figures),
    )


def _gains_of(figures: HeldOutFigures) -> tuple[Gain, Gain, Gain]:
    linear, better, detail = (
        figures.gain_over_linear_db,
        figures.gain_over_better_db,
        figures.gain_in_detail,
    )
    assert linear is not None and better is not None and detail is not None
    return linear, better, detail


def _reason(verdict: Verdict, figures: HeldOutFigures) -> str:
    linear, better, detail = _gains_of(figures)
    held = f"measured sections that were held out at {plural(figures.places, 'place')} and restored from the rest"
    by = f"{_limits(better, '+.2f')} dB beside the better of two interpolations, {_limits(detail, '+.3f')} in ring correlation"
    if verdict == "pass":
        return opened(f"{held} come out better than from interpolation: {by}")
    if verdict == "fail":
        plain = (
            f", {_limits(linear, '+.2f')} dB beside plain linear interpolation"
            if linear.value <= 0
            else ""
        )
        return opened(f"{held} come out no better than from interpolation: {by}{plain}")
    if figures.places < FEW_PLACES:
        return opened(
            f"{held} come out better than from interpolation, but these are few places: {by}"
        )
    if better.value <= 0:
        return opened(
            f"{held} show finer detail than interpolation, but their grey values are no nearer: {by}"
        )
    if detail.value <= 0:
        return opened(
            f"{held} are nearer in grey values than interpolation, but show no finer detail: {by}"
        )
    return opened(
        f"{held} come out better than from interpolation, but not by more than chance: {by}"
    )


def _limits(gain: Gain, form: str) -> str:
    low, high = number(gain.low, form), number(gain.high, form)
    return f"{number(gain.value, form)} ({low} to {high})"


def _section_model(figures: HeldOutFigures, plan: Plan) -> Check:
    name, own = "section model", plan.config.restore.section
    found = figures.section_model
    if found is None:
        return not_tested(
            name,
            "The sections tell too little of each other to say whether they are slices of the tissue or means of it.",
        )
    fits = "mean" if found.evidence_db > 0 else "slice"
    if UNDECIDED_DB[0] < found.evidence_db < UNDECIDED_DB[1]:
        return not_tested(
            name,
            "The measured sections do not tell whether they are slices of the tissue or means of it.",
        )
    agrees = (own == "slice") == (fits == "slice")
    speaks = f"{number(abs(found.evidence_db), '.2f')} dB speak for it"
    reason = (
        f"The sections look like {fits}s of the tissue, as `section: {own}` says ({speaks})."
        if agrees
        else f"The sections look like {fits}s of the tissue, but `section: {own}` was set ({speaks}): try `section: {fits}`."
    )
    return Check(
        name=name,
        verdict="pass" if agrees else "warn",
        measure=f"what speaks for {fits}s",
        value=abs(found.evidence_db),
        unit="dB",
        reason=reason,
    )


def _why_not(plan: Plan) -> str:
    if plan.scale[0] == 1:
        return "Nothing lies between measured sections with a factor of 1: nothing was restored that could be tested."
    return "No section could be held out: the volume has too few sections in a row that show something."


def _told(figures: HeldOutFigures, plan: Plan) -> str:
    if figures.places == 0:
        return _why_not(plan)
    by = "" if plan.mode.keeps_measured else ", measured once more by the operator,"
    return (
        f"Measured sections were taken for lost at {plural(figures.places, 'place')} and restored from the rest as the run "
        f"was; what was restored{by} is compared with what was measured, beside linear interpolation between the sections "
        "on either side, and the same blurred in the plane by the width that is best for it. Sections are twice as far "
        "apart here as in the run, so the result is nearer to the truth than these figures, and so is interpolation. The "
        "noise of the measured sections, which nobody can know, lowers all figures."
    )


def _gains(figures: HeldOutFigures) -> str:
    linear, better = figures.gain_over_linear_db, figures.gain_over_better_db
    assert linear is not None and better is not None
    few = (
        f" {plural(figures.places, 'place')} are few: the interval is rough."
        if figures.places <= FEW_PLACES
        else ""
    )
    return (
        f"{plural(figures.sections, 'part')} of sections of {times(figures.pixels)} pixels. Ring correlation asks how far "
        "detail of a size agrees, whatever its strength, so smoothing cannot raise it; fine detail is what a Gaussian of 2 "
        f"pixels takes away. Beyond linear interpolation: {number(linear.value, '+.2f')} dB "
        f"({number(linear.low, '+.2f')} to {number(linear.high, '+.2f')}); beyond the better one: "
        f"{number(better.value, '+.2f')} dB ({number(better.low, '+.2f')} to {number(better.high, '+.2f')}). Intervals: "
        f"90 %, from places drawn anew.{few}"
    )


def shown(held: Sequence[Predicted], sigma: float) -> Arrays:
    """What the report shows of sections: (sections, y, x) by the names of `VOLUMES`."""
    volumes = {
        "measured": [each.measured for each in held],
        "restored": [each.restored for each in held],
        "linear": [each.linear for each in held],
        "blurred": [blurred(each.linear, sigma) for each in held],
    }
    return {name: np.array(sections, np.float32) for name, sections in volumes.items() if sections}


def _gallery(arrays: Arrays, plan: Plan) -> Gallery:
    from emgen.qc.report import pictures
    from emgen.qc.report.views import pixel

    low, high = plan.intensity.low, plan.intensity.high
    return Gallery(
        [
            (
                name.capitalize(),
                pictures.panel(
                    pictures.grey(section, low, high),
                    pixel(plan, "xy"),
                    f"held-out section, {name}",
                ),
            )
            for number in range(len(arrays["measured"]))
            for name, section in ((name, arrays[name][number]) for name in VOLUMES)
        ],
        len(VOLUMES),
        title="Sections that were held out",
        caption="What was measured, and what three ways make of it that have not seen it.",
    )


METRIC = HeldOut()
