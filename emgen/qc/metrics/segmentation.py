"""Objects that a fixed segmenter makes of the volumes: split and merge errors."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup
from pydantic import Field

from emgen.config.facts import Figures
from emgen.geometry import Box
from emgen.qc.axes import AXES, PLANES
from emgen.qc.metrics.metric import Arrays, Measured, Metric, Needs
from emgen.qc.object_errors import (
    Contingency,
    adapted_rand_error,
    contingency,
    error_counts,
    pooled,
    voi,
)
from emgen.qc.report.blocks import Block, Gallery, Note, Page, Panel, Paragraph
from emgen.qc.report.tables import Row, Table, row
from emgen.qc.sample import Sample, baseline
from emgen.qc.segmenter import segment
from emgen.qc.tiles import Pair, Sampled, described, sampled
from emgen.qc.verdict import Check, judged
from emgen.qc.words import opened
from emgen.run.plan import Plan
from emgen.volumes.volume import Volume

# Warn, fail; restored over interpolated. Interpolation costs nothing, so what is worse than it warns. The
# adapted Rand error hangs on a few large objects and differs by some per cent between samples, so it has
# some per cent more of room.
VOI_RATIO, RAND_RATIO = (1.0, 1.1), (1.05, 1.15)

VOLUMES = ("restored", "interpolated", "reference")
Labels = dict[str, npt.NDArray[Any]]


class ObjectErrors(Figures):
    """A segmentation against another."""

    voi_split_bits: float
    voi_merge_bits: float
    adapted_rand_error: float | None
    objects: int
    split: int
    merged: int
    error_free: int
    error_free_interval: tuple[float, float] = Field(
        description="Share of error-free objects, Wilson 95 %."
    )


class AgainstLabels(Pair[ObjectErrors]):
    """Segmented alike and compared with the reference labels."""

    reference: ObjectErrors = Field(
        description="The segmenter on the reference itself: what it can reach at best."
    )


class SegmentationFigures(Figures):
    """What a fixed, untrained segmenter makes of the volumes: relative, never an accuracy."""

    sampled: Sampled
    against_reference: Pair[ObjectErrors] = Field(
        description="Against the same segmenter on the reference."
    )
    against_labels: AgainstLabels | None


class Segmentation(Metric[SegmentationFigures]):
    """Whether objects come out more like those of the reference than from interpolation."""

    name = "segmentation"
    title = "Objects"
    message = "Segmenting the result, linear interpolation and the reference alike"
    figures = SegmentationFigures
    needs = Needs(reference=True, threads=4, memory_mb=16000, runtime_min=240)
    keeps_arrays = True

    def measure(self, sample: Sample, threads: int) -> Measured[SegmentationFigures]:
        path = sample.qc.labels
        truth = Volume.open(path) if path else None

        def compared(box: Box) -> tuple[list[Contingency], Labels]:
            labels = segmented(sample, box, truth)
            section = middle_section(labels, box, across_z=sample.plan.scale[0] == 1)
            number = sample.boxes.index(box)
            return _tables(labels, number), section if box == sample.middle else {}

        tables, sections = zip(*sample.map(compared, threads), strict=True)
        errors = [_errors(pooled(tiles)) for tiles in zip(*tables, strict=True)]
        restored, interpolated, *against_labels = errors
        figures = SegmentationFigures(
            sampled=sampled(sample),
            against_reference=Pair(restored=restored, interpolated=interpolated),
            against_labels=AgainstLabels(**dict(zip(VOLUMES, against_labels, strict=True)))
            if against_labels
            else None,
        )
        return Measured(figures, next(section for section in sections if section))

    def checks(self, figures: SegmentationFigures, plan: Plan) -> list[Check]:
        # Against labels by the adapted Rand error: in terms of VOI, a single segment may look better
        # than the many fragments of a segmenter that splits too much.
        beside, pair = baseline(plan), figures.against_reference
        vois = [e.voi_split_bits + e.voi_merge_bits for e in (pair.restored, pair.interpolated)]
        checks = [
            _ratio("segmentation", "VOI", "the reference", "bits (VOI)", vois, VOI_RATIO, beside)
        ]
        if figures.against_labels is not None:
            labels = figures.against_labels
            rands = [e.adapted_rand_error or 0.0 for e in (labels.restored, labels.interpolated)]
            measure, unit = "adapted Rand error", "(adapted Rand error)"
            checks.append(_ratio("objects", measure, "the labels", unit, rands, RAND_RATIO, beside))
        return checks

    def panel(self, figures: SegmentationFigures, page: Page) -> Panel:
        labels, pair = figures.against_labels, figures.against_reference
        tables = [
            Table(
                page.columns,
                tuple(error_rows([pair.restored, pair.interpolated])),
                title="Against the reference, segmented alike",
            )
        ]
        if labels is not None:
            rows = error_rows([labels.restored, labels.interpolated, labels.reference])
            columns = (*page.columns, "reference")
            tables.insert(0, Table(columns, tuple(rows), title="Against the reference labels"))
        blocks: list[Block] = [
            Paragraph(
                Markup(
                    "A fixed segmenter without training (watershed and multicut on dark membranes) was run on every "
                    "volume alike. It makes many errors of its own, so these numbers are <strong>relative</strong>: "
                    "they say which volume is the easier one to segment, and not how well a trained network would do."
                )
            ),
            *tables,
            Note(
                "VOI: variation of information in bits, for one object cut into several (split) and several joined "
                f"(merge). The better of restored and {page.baseline} is bold. Intervals by Wilson's score; where they "
                f"overlap, the shares may be equal. {opened(described(figures.sampled, page.plan))}"
            ),
        ]
        if page.arrays:
            blocks.append(_gallery(page))
        return Panel(self.title, tuple(blocks))


def segmented(sample: Sample, box: Box, truth: Volume | None) -> Labels:
    """Segment a box of every volume, and read the reference labels as "labels" if there are any."""
    tile, intensity, voxel = sample.read(box), sample.plan.intensity, sample.plan.voxel
    volumes = dict(zip(VOLUMES, (tile.restored, tile.interpolated, tile.truth), strict=True))
    labels = {
        name: segment(voxels, voxel, low=intensity.low, high=intensity.high)
        for name, voxels in volumes.items()
    }
    return labels if truth is None else {**labels, "labels": truth.read(box)}


def middle_section(labels: Mapping[str, npt.NDArray[Any]], box: Box, *, across_z: bool) -> Labels:
    """The section of labels through the middle of a box, across z or else across y.

    Returns:
        Labels (rows, columns) by volume, and "start" and "stop" of the section's box.
    """
    axis = 0 if across_z else 1
    at = box.shape[axis] // 2
    start, stop = list(box.start), list(box.stop)
    start[axis], stop[axis] = box.start[axis] + at, box.start[axis] + at + 1
    sections = {name: volume.take(at, axis) for name, volume in labels.items()}
    return {"start": np.array(start), "stop": np.array(stop), **sections}


def error_rows(volumes: list[ObjectErrors]) -> list[Row]:
    """Rows of object errors: restored, interpolated, and what else was segmented."""
    free = [f"{e.error_free} of {e.objects}" for e in volumes]
    intervals = [_interval(e) for e in volumes]
    shares = [e.error_free / e.objects if e.objects else None for e in volumes]
    return [
        row("VOI split", [e.voi_split_bits for e in volumes], ".2f", "bits"),
        row("VOI merge", [e.voi_merge_bits for e in volumes], ".2f", "bits"),
        row("adapted Rand error", [e.adapted_rand_error for e in volumes], ".2f"),
        row("objects split", [e.split for e in volumes], "d"),
        row("objects merged", [e.merged for e in volumes], "d"),
        row("objects free of error", shares, "", higher=True, texts=free),
        row("their share (95 % interval)", shares, "", compare=False, texts=intervals),
    ]


def _interval(errors: ObjectErrors) -> str:
    if not errors.objects:
        return "none"
    low, high = errors.error_free_interval
    return f"{100 * errors.error_free / errors.objects:.0f} % ({100 * low:.0f} to {100 * high:.0f})"


def _tables(labels: Labels, tile: int) -> list[Contingency]:
    """Label pairs of a tile: of every volume against the reference, then against reference labels."""
    return [
        contingency(labels[against], labels[name], tile=tile)
        for against in ("reference", "labels")
        for name in VOLUMES
        if against in labels and against != name
    ]


def _errors(table: Contingency) -> ObjectErrors:
    split, merge = voi(table)
    counts = error_counts(table)
    return ObjectErrors(
        voi_split_bits=split,
        voi_merge_bits=merge,
        adapted_rand_error=adapted_rand_error(table),
        objects=counts.objects,
        split=counts.split,
        merged=counts.merged,
        error_free=counts.error_free,
        error_free_interval=counts.error_free_interval,
    )


def _ratio(
    name: str,
    measure: str,
    against: str,
    unit: str,
    errors: list[float],
    limits: tuple[float, float],
    beside: str,
) -> Check:
    restored, interpolated = errors
    ratio = restored / interpolated if interpolated else math.inf if restored else 1.0
    warn, fail = limits
    return Check(
        name=name,
        verdict=judged(ratio, warn, fail),
        measure=f"{measure} over the other's",
        value=ratio if math.isfinite(ratio) else None,
        warn=warn,
        fail=fail,
        reason=f"Segmented alike, the result differs from {against} by {restored:.3g} {unit}, "
        f"{beside} by {interpolated:.3g}.",
    )


def _gallery(page: Page) -> Gallery:
    from emgen.qc.report import views

    arrays: Arrays = page.arrays
    plane, pictures = views.objects(page.sample, arrays)
    axis = PLANES.index(plane)
    owner = "labelled" if "labels" in arrays else "reference"
    return Gallery(
        pictures,
        3 if len(pictures) == 3 else 2,
        caption=f"Objects in the {plane} section at {AXES[axis]} = {arrays['start'][axis]}. Black lines are the borders "
        f"in each volume; the colour is that of the {owner} object a segment covers most, grey where there is none. "
        "A line within one colour is a split; a colour beyond its object is a merger.",
    )


METRIC = Segmentation()
