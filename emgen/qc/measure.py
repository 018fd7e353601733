"""A run's figures: the measures of this package, added up over the tiles of a sample."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from emgen.geometry import Box, zyx
from emgen.qc import consistency as consistency_
from emgen.qc import fsc as fsc_
from emgen.qc import image as image_
from emgen.qc import seams as seams_
from emgen.qc import segmentation as segmentation_
from emgen.qc import summary
from emgen.qc.sample import CANDIDATES, Sample, Tile, supported, whole_blocks
from emgen.volumes.volume import Volume

Grey = npt.NDArray[np.float32]
Labels = dict[str, npt.NDArray[Any]]
Degrade = Callable[[Box, Grey], tuple[Box, Grey]]

VOLUMES = (*CANDIDATES, "reference")
DEVIATIONS = (1, 2, 3)
MANY_TILES, EVERY = 4, 4  # SSIM of more tiles than this is taken in every 4th slice


def image(sample: Sample, threads: int = 1) -> summary.Image:
    """Grey values against the reference; `sample` must have one."""
    scale = data_range(sample)
    every = EVERY if len(sample.boxes) > MANY_TILES else 1

    def sums(box: Box) -> tuple[_ImageSums, ...]:
        tile = sample.read(box)
        reference = _reference(tile)
        return tuple(
            _ImageSums(
                image_.error_sums(reference, tile.candidate(name)),
                image_.ssim_sums(reference, tile.candidate(name), scale, every=every),
            )
            for name in CANDIDATES
        )

    restored, interpolated = (total.figures(scale) for total in _added(sample.map(sums, threads)))
    return summary.Image(
        sampled=sampled(sample),
        data_range=scale,
        figures=summary.Pair(restored=restored, interpolated=interpolated),
    )


@dataclass(frozen=True)
class _ImageSums:
    errors: image_.ErrorSums
    ssim: image_.SsimSums

    def __add__(self, other: _ImageSums) -> _ImageSums:
        return _ImageSums(self.errors + other.errors, self.ssim + other.ssim)

    def figures(self, scale: float) -> summary.ImageOf:
        psnr = self.errors.psnr(scale)
        return summary.ImageOf(
            rmse_grey=self.errors.rmse,
            bias_grey=self.errors.bias,
            psnr_db=None if psnr is None or math.isinf(psnr) else psnr,
            ssim={plane: self.ssim.mean(plane) for plane in image_.PLANES},
        )


def data_range(sample: Sample) -> float:
    """Grey values that PSNR and SSIM refer to: 255 for 8-bit data, else the plan's range."""
    intensity = sample.plan.intensity
    return 255.0 if sample.plan.dtype in ("uint8", "int8") else intensity.high - intensity.low


def fsc(sample: Sample, threads: int = 1) -> summary.Fsc:
    """Fourier shell correlation with the reference; `sample` must have one."""
    voxel = sample.plan.voxel
    width = max(fsc_.shell_width(box.shape, voxel) for box in sample.boxes)
    middle = sample.read(sample.middle)
    shifts = [
        fsc_.register(_reference(middle), middle.candidate(name), voxel) for name in CANDIDATES
    ]

    def sums(box: Box) -> tuple[fsc_.ShellSums, ...]:
        tile = sample.read(box)
        return tuple(
            fsc_.shell_sums(
                _reference(tile), tile.candidate(name), voxel, width=width, registration=shift
            )
            for name, shift in zip(CANDIDATES, shifts, strict=True)
        )

    restored, interpolated = (
        summary.FscOf(
            curves=curves(total),
            fine_power={
                sector: image_.power_spectrum_ratio(total, sector) for sector in fsc_.SECTORS
            },
            shift=summary.Shift(
                voxels=shift.voxels, nm=shift.nm, applied=shift.applied, reason=shift.reason
            ),
        )
        for total, shift in zip(_added(sample.map(sums, threads)), shifts, strict=True)
    )
    return summary.Fsc(
        sampled=sampled(sample), figures=summary.Pair(restored=restored, interpolated=interpolated)
    )


def curves(sums: fsc_.ShellSums) -> dict[summary.Sector, summary.Curve]:
    """The curve of every sector that has one."""
    found = {sector: fsc_.curve(sums, sector) for sector in fsc_.SECTORS}
    return {sector: _curve(curve, sums) for sector, curve in found.items()}


def _curve(curve: fsc_.FscCurve, sums: fsc_.ShellSums) -> summary.Curve:
    row = fsc_.SECTORS.index(curve.sector)
    shells = np.rint(curve.frequency / sums.width).astype(int)
    ratio = sums.power_b[row][shells] / sums.power_a[row][shells]
    half, seventh = (fsc_.resolution(curve, threshold) for threshold in (0.5, 0.143))
    return summary.Curve(
        frequency_per_nm=_rounded(curve.frequency),
        correlation=_rounded(curve.correlation),
        power_ratio=_rounded(ratio),
        nyquist_per_nm=curve.nyquist,
        at_half=_resolved(half),
        at_seventh=_resolved(seventh),
    )


def _resolved(found: fsc_.Resolution) -> summary.Resolved:
    return summary.Resolved(
        threshold=found.threshold,
        nm=found.value_nm,
        at_nyquist=found.at_nyquist,
        reason=found.reason,
    )


def seams(sample: Sample) -> summary.Seams:
    """Traces of the block grid in as many whole blocks as fit the sample's voxels."""
    plan, qc = sample.plan, sample.plan.config.qc
    grid = plan.grid
    box = whole_blocks(plan.shape, grid.block, math.prod(qc.tile) * qc.tiles)
    controls = seams_.score(
        _scan(lambda b: sample.plan.interpolated(sample.measured, b), box, grid.block), plan.scale
    )
    found = seams_.score(_scan(sample.restored.read, box, grid.block), plan.scale)
    restored, interpolated = (
        {each.seam.axis: _seam(each) for each in reports}
        for reports in (seams_.compare(found, controls), seams_.compare(controls))
    )
    return summary.Seams(
        start=box.start,
        stop=box.stop,
        block=grid.block,
        halo=grid.halo,
        figures=summary.Pair(restored=restored, interpolated=interpolated),
    )


def _scan(
    read: Callable[[Box], npt.NDArray[Any]], box: Box, block: tuple[int, int, int]
) -> seams_.FaceMeans:
    return seams_.scan(lambda region: read(region.shift(box.start)), box.shape, block)


def _seam(report: seams_.SeamReport) -> summary.Seam:
    seam = report.seam
    return summary.Seam(
        score=seam.score,
        offset=seam.offset,
        paired=seam.paired,
        height_grey=seam.height,
        chance=seam.chance,
        relative=report.relative,
        verdict=report.verdict,
        profile=_rounded(seam.profile),
    )


def consistency(sample: Sample, degrade: Degrade, threads: int = 1) -> summary.Consistency:
    """The result degraded again, against the input.

    Args:
        sample: of the run.
        degrade: of a box of output and its voxels (float32 grey values), the box of measured voxels
            that they determine and the values that the forward model gives them.
        threads: tiles at a time.
    """
    plan = sample.plan
    width = max(
        fsc_.shell_width(
            zyx([max(2, n // s) for n, s in zip(box.shape, plan.scale, strict=True)]),
            plan.measured_voxel,
        )
        for box in sample.boxes
    )

    def sums(box: Box) -> list[consistency_.Consistency]:
        tile, found = sample.read(box), []
        for name in CANDIDATES:
            footprint, degraded = degrade(box, tile.candidate(name))
            if footprint.size:
                measured = sample.measured.read(footprint).astype(np.float32)
                gone = [
                    k - footprint.start[0]
                    for k in plan.missing
                    if k in range(footprint.start[0], footprint.stop[0])
                ]
                measured[gone] = degraded[gone]  # nothing was measured that could disagree
                found.append(
                    consistency_.consistency(degraded, measured, plan.measured_voxel, width=width)
                )
        return found

    deviation = plan.noise_model.true_sigma
    totals = _added(each for each in sample.map(sums, threads) if each)
    nothing = summary.ConsistencyOf(
        rmse_grey=None, bias_grey=None, relative_to_noise=None, curves={}
    )
    restored, interpolated = [_consistent(total, deviation) for total in totals] or [nothing] * 2
    return summary.Consistency(
        sampled=sampled(sample),
        noise_grey=deviation,
        grey_range=plan.intensity.high - plan.intensity.low,
        figures=summary.Pair(restored=restored, interpolated=interpolated),
    )


def _consistent(total: consistency_.Consistency, noise: float) -> summary.ConsistencyOf:
    return summary.ConsistencyOf(
        rmse_grey=total.errors.rmse,
        bias_grey=total.errors.bias,
        relative_to_noise=total.relative_to_noise(noise),
        curves=curves(total.shells),
    )


def segmentation(sample: Sample, threads: int = 1) -> tuple[summary.Segmentation, Labels]:
    """Segment every tile of every volume alike; `sample` must have a reference.

    Returns:
        The figures, and one section through the middle tile to be shown: "start" and "stop" of its
        box, and labels by volume.
    """
    where = sample.plan.config.qc.labels
    truth = Volume.open(where) if where else None

    def measured(box: Box) -> tuple[list[segmentation_.Contingency], Labels]:
        labels, number = segmented(sample, box, truth), sample.boxes.index(box)
        tables = [
            segmentation_.contingency(labels[against], labels[name], tile=number)
            for against in ("reference", "labels")
            for name in VOLUMES
            if against in labels and against != name
        ]
        return tables, _middle(
            labels, box, sample.plan.scale[0] > 1
        ) if box == sample.middle else {}

    tables, sections = zip(*sample.map(measured, threads), strict=True)
    errors = [_errors(segmentation_.pooled(each)) for each in zip(*tables, strict=True)]
    restored, interpolated, *against_labels = errors
    found = summary.Segmentation(
        sampled=sampled(sample),
        against_reference=summary.Pair(restored=restored, interpolated=interpolated),
        against_labels=summary.AgainstLabels(**dict(zip(VOLUMES, against_labels, strict=True)))
        if against_labels
        else None,
    )
    return found, next(section for section in sections if section)


def segmented(sample: Sample, box: Box, truth: Volume | None) -> Labels:
    """The objects found in every volume of a box, and the reference labels as "labels"."""
    tile, intensity, voxel = sample.read(box), sample.plan.intensity, sample.plan.voxel
    volumes = dict(zip(VOLUMES, (tile.restored, tile.interpolated, _reference(tile)), strict=True))
    found = {
        name: segmentation_.segment(voxels, voxel, low=intensity.low, high=intensity.high)
        for name, voxels in volumes.items()
    }
    return found if truth is None else {**found, "labels": truth.read(box)}


def _middle(labels: Labels, box: Box, across: bool) -> Labels:
    """The section through the middle of a tile: xz, or xy where z is as it was."""
    axis = 1 if across else 0
    at = box.shape[axis] // 2
    start, stop = list(box.start), list(box.stop)
    start[axis], stop[axis] = box.start[axis] + at, box.start[axis] + at + 1
    return {
        "start": np.array(start),
        "stop": np.array(stop),
        **{name: volume.take(at, axis) for name, volume in labels.items()},
    }


def _errors(table: segmentation_.Contingency) -> summary.ObjectErrors:
    split, merge = segmentation_.voi(table)
    counts = segmentation_.error_counts(table)
    return summary.ObjectErrors(
        voi_split_bits=split,
        voi_merge_bits=merge,
        adapted_rand_error=segmentation_.adapted_rand_error(table),
        objects=counts.objects,
        split=counts.split,
        merged=counts.merged,
        error_free=counts.error_free,
        error_free_interval=counts.error_free_interval,
    )


def uncertainty(
    sample: Sample, spread: Volume, calibration: summary.Calibration | None = None
) -> summary.Uncertainty:
    """The spread over posterior samples (grey values), calibrated already, beside the error where that is known."""
    squared = count = errors = varying = 0.0
    highest, within = [], np.zeros(len(DEVIATIONS))
    wider = math.sqrt(sample.plan.mode.error_variance_ratio)
    for box in sample.boxes:
        values, tile = spread.read(box), sample.read(box)
        squared += float(np.square(values, dtype=np.float64).sum())
        count += box.size
        highest.append(float(np.percentile(values, 99)))
        if tile.reference is not None:
            errors += image_.error_sums(tile.reference, tile.restored).squared
            varies = values > 0
            deviation = np.abs(tile.restored - tile.reference)[varies] / (wider * values[varies])
            varying += deviation.size
            within += [float((deviation <= k).sum()) for k in DEVIATIONS]
    known = sample.reference is not None and squared > 0
    return summary.Uncertainty(
        rms_grey=math.sqrt(squared / count),
        p99_grey=float(np.median(highest)),
        calibration=calibration,
        error_over_spread=math.sqrt(errors / squared) if known else None,
        coverage={str(k): float(n / varying) for k, n in zip(DEVIATIONS, within, strict=True)}
        if known and varying
        else None,
    )


def sampled(sample: Sample) -> summary.Sampled:
    """What part of the volume a sample is."""
    box = supported(sample.plan)
    return summary.Sampled(
        tiles=len(sample.boxes),
        largest_tile=max((each.shape for each in sample.boxes), key=math.prod),
        share=sum(each.size for each in sample.boxes) / math.prod(sample.plan.shape),
        sections=(box.start[0], box.stop[0]),
    )


def _added(tiles: Iterable[Sequence[Any]]) -> list[Any]:
    """The sums of every candidate over the tiles, one tile in memory at a time."""
    totals: list[Any] = []
    for tile in tiles:
        totals = [a + b for a, b in zip(totals, tile, strict=True)] if totals else list(tile)
    return totals


def _reference(tile: Tile) -> Grey:
    if tile.reference is None:
        raise ValueError("this is measured against a reference, and the run has none")
    return tile.reference


def _rounded(values: npt.NDArray[Any]) -> list[float]:
    """To six digits: what is behind them is rounding, and differs between machines."""
    return [float(f"{value:.6g}") for value in values]
