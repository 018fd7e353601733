"""Fourier shell correlation with the reference: resolution, power of fine detail, shift."""

from __future__ import annotations

import math

from pydantic import Field

from emgen.config.facts import Figures
from emgen.geometry import Box
from emgen.qc import fourier
from emgen.qc.curves import Curve, Resolved, curves
from emgen.qc.fourier import SECTORS, Sector
from emgen.qc.metrics.metric import Measured, Metric, Needs
from emgen.qc.report.blocks import Note, Page, Panel, Picture
from emgen.qc.report.tables import Row, Table, distance_from_one, row
from emgen.qc.sample import CANDIDATES, Sample, baseline
from emgen.qc.tiles import Pair, Sampled, added, rested_on, sampled
from emgen.qc.verdict import Check, Verdict, judged
from emgen.qc.words import number, opened
from emgen.run.plan import Plan

# Warn, fail; period in nm at FSC 0.5, restored over interpolated. Shells of a tile lie about 5 % apart
# where curves cross, so less says nothing; a fifth is a loss that can be seen.
PERIOD_RATIO = (1.05, 1.2)
# Power over the reference's between half and whole Nyquist frequency: warn below, warn above, fail above.
# Twice less or half as much again can be seen; four times (twice the amplitude) is noise or invented
# detail. Too little never fails: a reference has noise that no restoration can know.
POWER_RATIO = (0.5, 1.5, 4.0)
# Voxels. At half a voxel apart the correlation at the Nyquist frequency, cos(pi / 2), is lost.
MAX_SHIFT = 0.5

DIRECTIONS = {"axial": "Along z", "lateral": "In the plane", "spherical": "In all directions"}
LABELS = {"spherical": "all directions", "axial": "axial", "lateral": "lateral"}


class Shift(Figures):
    """How the volume lies against the reference, (z, y, x)."""

    voxels: tuple[float, float, float]
    nm: tuple[float, float, float]
    applied: bool
    reason: str


class FscOf(Figures):
    """One volume against the reference."""

    curves: dict[Sector, Curve]
    fine_power: dict[Sector, float | None] = Field(
        description="Power over the reference's between half and whole Nyquist frequency."
    )
    shift: Shift


class FscFigures(Figures):
    """Fourier shell correlation with the reference."""

    sampled: Sampled
    figures: Pair[FscOf]


class Fsc(Metric[FscFigures]):
    """Whether detail agrees with the reference, how much there is, and whether both lie alike."""

    name = "fsc"
    title = "Resolution"
    message = "Fourier shell correlation with the reference"
    figures = FscFigures
    needs = Needs(reference=True, threads=4, memory_mb=16000)

    def measure(self, sample: Sample, threads: int) -> Measured[FscFigures]:
        voxel = sample.plan.voxel
        width = max(fourier.shell_width(box.shape, voxel) for box in sample.boxes)
        middle = sample.read(sample.middle)
        shifts = [
            fourier.register(
                middle.without_copies(middle.truth),
                middle.without_copies(middle.candidate(name)),
                voxel,
            )
            for name in CANDIDATES
        ]

        def sums(box: Box) -> list[fourier.ShellSums]:
            tile = sample.read(box)
            truth = tile.without_copies(tile.truth)
            return [
                fourier.shell_sums(
                    truth,
                    tile.without_copies(tile.candidate(name)),
                    voxel,
                    width=width,
                    registration=shift,
                )
                for name, shift in zip(CANDIDATES, shifts, strict=True)
            ]

        totals = added(sample.map(sums, threads))
        restored, interpolated = map(_figures, totals, shifts)
        pair = Pair(restored=restored, interpolated=interpolated)
        return Measured(FscFigures(sampled=sampled(sample), figures=pair))

    def checks(self, figures: FscFigures, plan: Plan) -> list[Check]:
        restored, interpolated = figures.figures.restored, figures.figures.interpolated
        sectors: tuple[Sector, ...] = ("axial", "lateral") if plan.scale[0] > 1 else ("lateral",)
        resolved = [
            _resolution(
                sector,
                restored.curves[sector].at_half,
                interpolated.curves[sector].at_half,
                baseline(plan),
            )
            for sector in sectors
        ]
        power = restored.fine_power[sectors[0]]
        detail = [] if power is None else [_power(sectors[0], power)]
        return [*resolved, *detail, _shift(max(map(abs, restored.shift.voxels)))]

    def rows(self, figures: FscFigures) -> list[Row]:
        volumes = figures.figures.restored, figures.figures.interpolated
        resolutions = [
            _resolution_row(
                f"FSC {threshold:g}, {LABELS[sector]}",
                [getattr(volume.curves[sector], place) for volume in volumes],
            )
            for sector in SECTORS
            for threshold, place in ((0.5, "at_half"), (0.143, "at_seventh"))
        ]
        power = [
            row(
                f"power of fine detail over the reference's, {LABELS[sector]}",
                [volume.fine_power[sector] for volume in volumes],
                ".2f",
                key=distance_from_one,
            )
            for sector in SECTORS
        ]
        shifts = [", ".join(number(n, ".2f") for n in volume.shift.voxels) for volume in volumes]
        label = "shift against the reference (z, y, x)"
        return [
            *resolutions,
            *power,
            row(label, [None, None], "", "voxels", compare=False, texts=shifts),
        ]

    def panel(self, figures: FscFigures, page: Page) -> Panel:
        from emgen.qc.report import charts

        volumes = figures.figures
        picture = charts.fsc(
            volumes.restored.curves, volumes.interpolated.curves, page.baseline, power=True
        )
        return Panel(
            self.title,
            (
                Picture(
                    picture,
                    "Top: Fourier shell correlation with the reference. Detail agrees down to the period where "
                    "the curve falls below 0.5 (the usual criterion against a reference; 0.143 is that between "
                    "independent halves). Bottom: power over the reference's. Correlation does not see smoothing, "
                    "power does: below 1 the volume is smoother than the reference, which has noise of its own. "
                    f"{opened(rested_on(figures.sampled, page.plan))}",
                ),
                Table(page.columns, tuple(self.rows(figures))),
                Note(
                    "Resolutions are full periods; ≤ means that the curve never falls below the threshold, so that "
                    "the limit is two voxels. Fine detail is what lies between half and whole Nyquist frequency; "
                    "nearer to 1 is better."
                ),
            ),
        )


def _figures(total: fourier.ShellSums, shift: fourier.Registration) -> FscOf:
    return FscOf(
        curves=curves(total),
        fine_power={sector: fourier.power_ratio(total, sector) for sector in SECTORS},
        shift=Shift(voxels=shift.voxels, nm=shift.nm, applied=shift.applied, reason=shift.reason),
    )


def _resolution(sector: Sector, restored: Resolved, interpolated: Resolved, beside: str) -> Check:
    name, measure, direction = f"resolution {sector}", "period over the other's", DIRECTIONS[sector]
    if restored.nm is None:
        verdict: Verdict = "warn" if interpolated.nm is None else "fail"
        reason = (
            f"{direction}, the result agrees with the reference at no scale: {restored.reason}."
        )
        return Check(
            name=name,
            verdict=verdict,
            measure=measure,
            value=None,
            reason=reason,
            decisive=True,
        )
    ratio = 0.0 if interpolated.nm is None else restored.nm / interpolated.nm
    reach = "at no scale" if interpolated.nm is None else f"down to {interpolated.nm:.3g} nm"
    warn, fail = PERIOD_RATIO
    return Check(
        name=name,
        verdict=judged(ratio, warn, fail),
        measure=measure,
        value=ratio,
        warn=warn,
        fail=fail,
        reason=f"{direction}, the result agrees with the reference down to {restored.nm:.3g} nm "
        f"(FSC 0.5), {beside} {reach}.",
        decisive=True,
    )


def _power(sector: Sector, power: float) -> Check:
    lowest, warn, fail = POWER_RATIO
    smooth = power < lowest
    says = "as much as there should be"
    if smooth:
        says = "the result is much smoother; noise may be gone, or detail"
    elif power > warn:
        says = "there is more than there should be"
    return Check(
        name="fine detail",
        verdict="warn" if smooth else judged(power, warn, fail),
        measure="power over the reference's",
        value=power,
        warn=lowest if power < 1 else warn,
        fail=None if power < 1 else fail,
        higher=power < 1,
        reason=f"{DIRECTIONS[sector]}, the finest structure and noise have {power:.2g} times the "
        f"power of the reference's: {says}.",
    )


def _shift(shift: float) -> Check:
    apart = "they lie alike" if shift <= MAX_SHIFT else "every comparison with it is worth less"
    return Check(
        name="shift",
        verdict=judged(shift, MAX_SHIFT, math.inf),
        measure="distance",
        value=shift,
        warn=MAX_SHIFT,
        unit="voxels",
        reason=f"Result and reference are {shift:.2g} voxels apart: {apart}.",
    )


def _resolution_row(label: str, resolutions: list[Resolved]) -> Row:
    texts = [
        "none" if r.nm is None else f"≤ {r.nm:.3g}" if r.at_nyquist else f"{r.nm:.3g}"
        for r in resolutions
    ]
    periods = [math.inf if r.nm is None else r.nm for r in resolutions]
    return row(label, periods, "", "nm", texts=texts)


METRIC = Fsc()
