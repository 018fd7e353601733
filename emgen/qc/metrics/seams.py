"""Seams: traces that the block grid left in the result."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy.typing as npt
from pydantic import Field

from emgen.config.facts import Figures
from emgen.geometry import Box, Zyx
from emgen.qc import face_steps
from emgen.qc.axes import AXES, Axis
from emgen.qc.metrics.metric import Measured, Metric
from emgen.qc.report.blocks import Note, Page, Panel, Paragraph, Picture
from emgen.qc.report.tables import Cell, Row, Table
from emgen.qc.sample import Sample, whole_blocks
from emgen.qc.tiles import Pair, rounded
from emgen.qc.verdict import Check, Verdict, judged, not_tested
from emgen.qc.words import times
from emgen.run.plan import Plan

# Scores beside a control of the usual height, 1.4, whose square is 2. At 2 the seam adds as much to the
# mean squared step as tissue has (4 = 2 + 2), at 3 three and a half times as much.
WARN, FAIL = 2.0, 3.0
SINGLE_BLOCK = "The output is a single block: there is nothing to stitch."


class Seam(Figures):
    """Traces of the block grid along one axis."""

    score: float | None = Field(
        description="Folded face-step score; null where there is no face between blocks."
    )
    offset: int | None = Field(description="Where it was found, in voxels from the block face.")
    paired: bool = Field(description="Found at plus and minus the offset.")
    height_grey: float = Field(description="Step beyond the usual in grey values.")
    chance: float = Field(description="The score that so few faces reach without a seam.")
    relative: float | None = Field(
        description="The score in proportion to control and chance; decides the verdict."
    )
    verdict: Verdict
    profile: list[float] = Field(
        description="Relative step by position in a block, from its face on."
    )


class SeamsFigures(Figures):
    """Traces of the block grid, and the same in a volume that has no blocks."""

    start: tuple[int, int, int] = Field(
        description="Whole blocks that were looked at: first voxel."
    )
    stop: tuple[int, int, int]
    block: tuple[int, int, int]
    halo: tuple[int, int, int]
    figures: Pair[dict[Axis, Seam]]

    @property
    def faced(self) -> tuple[Axis, ...]:
        """The axes along which blocks have faces between them."""
        return tuple(a for a in AXES if self.figures.restored[a].score is not None)


class Seams(Metric[SeamsFigures]):
    """Whether steps repeat with the blocks, in as many whole blocks as fit the sample's voxels."""

    name = "seams"
    title = "Seams"
    message = "Looking for traces of the block grid"
    figures = SeamsFigures

    def measure(self, sample: Sample, threads: int) -> Measured[SeamsFigures]:
        plan, qc = sample.plan, sample.qc
        grid = plan.grid
        box = whole_blocks(plan.shape, grid.block, math.prod(qc.tile) * qc.tiles)
        restored, controls = (
            face_steps.score(_face_means(read, box, grid.block), plan.scale)
            for read in (
                partial(sample.candidate, "restored"),
                partial(sample.candidate, "interpolated"),
            )
        )
        figures = SeamsFigures(
            start=box.start,
            stop=box.stop,
            block=grid.block,
            halo=grid.halo,
            figures=Pair(restored=compare(restored, controls), interpolated=compare(controls)),
        )
        return Measured(figures)

    def checks(self, figures: SeamsFigures, plan: Plan) -> list[Check]:
        measure, restored = "score in proportion", figures.figures.restored
        if not figures.faced:
            return [not_tested("seams", SINGLE_BLOCK)]
        axis = max(figures.faced, key=lambda axis: restored[axis].relative or 0.0)
        seam = restored[axis]
        return [
            Check(
                name="seams",
                verdict=seam.verdict,
                measure=measure,
                value=seam.relative,
                warn=WARN,
                fail=FAIL,
                reason=_reason(seam, axis),
            )
        ]

    def panel(self, figures: SeamsFigures, page: Page) -> Panel:
        if not figures.faced:
            return Panel(self.title, (Paragraph(SINGLE_BLOCK),))
        from emgen.qc.report import charts

        profiles = {
            axis: charts.FoldedSteps(
                figures.figures.restored[axis].profile,
                figures.figures.interpolated[axis].profile,
                figures.halo[AXES.index(axis)],
            )
            for axis in figures.faced
        }

        along_z = " Along z, interpolation has steps at measured sections only."
        start, stop = (", ".join(map(str, corner)) for corner in (figures.start, figures.stop))
        return Panel(
            self.title,
            (
                Picture(
                    charts.seams(profiles, page.baseline),
                    "Steps between neighbouring planes, averaged over whole block faces and folded by their place in a "
                    f"block of {times(figures.block)} voxels. Dotted lines: the block face and the ends of the halo "
                    f"({', '.join(map(str, figures.halo))} voxels), where blocks that do not fit together would leave a "
                    f"peak in the restored volume but not in {page.baseline}.{along_z if page.plan.scale[0] > 1 else ''}",
                ),
                Table(
                    (*page.columns, "expected by chance", "in proportion", ""),
                    tuple(_row(axis, figures.figures) for axis in figures.faced),
                    corner="axis",
                ),
                Note(
                    "Score: the largest step over the usual one, at one place or at a pair of places around the block "
                    f"face. In proportion: less where {page.baseline}, which has no blocks, or chance scores as high; "
                    f"warn above {WARN:g}, fail above {FAIL:g}. Voxels {start} to {stop}."
                ),
            ),
        )


def compare(
    scores: Sequence[face_steps.SeamScore], controls: Sequence[face_steps.SeamScore] | None = None
) -> dict[Axis, Seam]:
    """Judge the scores along every axis, in proportion to those of a volume without blocks.

    An axis without a face between blocks passes.
    """
    beside = [None] * len(scores) if controls is None else [control.score for control in controls]
    return {seam.axis: _seam(seam, control) for seam, control in zip(scores, beside, strict=True)}


def _face_means(
    read: Callable[[Box], npt.NDArray[Any]], box: Box, block: Zyx
) -> face_steps.FaceMeans:
    return face_steps.scan(lambda region: read(region.shift(box.start)), box.shape, block)


def _seam(score: face_steps.SeamScore, control: float | None) -> Seam:
    relative = face_steps.in_proportion(score, control)
    return Seam(
        score=score.score,
        offset=score.offset,
        paired=score.paired,
        height_grey=score.height,
        chance=score.chance,
        relative=relative,
        verdict="pass" if relative is None else judged(relative, WARN, FAIL),
        profile=rounded(score.profile),
    )


def _reason(seam: Seam, axis: Axis) -> str:
    place, height = f"along {axis}, {_place(seam)}", f"{seam.height_grey:.2g}"
    return {
        "pass": f"Steps at the block grid are not larger than elsewhere (most {place}).",
        "warn": f"Steps of about {height} grey values repeat with the blocks {place}: look there.",
        "fail": f"Seams of about {height} grey values repeat with the blocks {place}; "
        "a larger halo may remove them.",
    }[seam.verdict]


def _place(seam: Seam) -> str:
    if not seam.offset:
        return "at the block faces"
    side = "either side of" if seam.paired else "after" if seam.offset > 0 else "before"
    return f"{abs(seam.offset)} voxels {side} the block faces"


def _row(axis: Axis, pair: Pair[dict[Axis, Seam]]) -> Row:
    seam, control = pair.restored[axis], pair.interpolated[axis]
    numbers = (seam.score, control.score, seam.chance, seam.relative)
    cells = [Cell("none" if value is None else f"{value:.2f}") for value in numbers]
    return Row(axis, (*cells, Cell("", verdict=seam.verdict)))


METRIC = Seams()
