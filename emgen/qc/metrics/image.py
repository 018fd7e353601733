"""Grey values against the reference: mean error, PSNR and SSIM."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import scipy.ndimage
from pydantic import Field

from emgen.config.facts import Figures
from emgen.geometry import Box
from emgen.qc import heldout_scores
from emgen.qc.axes import PLANES, Plane
from emgen.qc.grey_errors import ErrorSums, SsimSums, error_sums, ssim_sums
from emgen.qc.metrics.metric import Measured, Metric, Needs
from emgen.qc.report.blocks import Gallery, Note, Page, Panel
from emgen.qc.report.sections import from_measured, main_plane
from emgen.qc.report.tables import Row, Table, row
from emgen.qc.sample import CANDIDATES, Sample, Tile, baseline
from emgen.qc.tiles import Pair, Sampled, added, rested_on, sampled
from emgen.qc.verdict import Check, judged
from emgen.run.plan import Plan

# Warn, fail; restored less interpolated. Interpolation costs nothing, so what is worse than it warns.
# 1 dB is a mean squared error 26 % larger. SSIM has no unit: 0.02 is a third of what the demo's
# restoration gains, a loss that can be seen.
PSNR_GAIN_DB, SSIM_GAIN = (0.0, -1.0), (0.0, -0.02)
# Warn, fail; ring correlation of sections, restored less interpolated. Good restorations gain 0.05 to 0.3.
DETAIL_GAIN = (0.0, -0.05)
# SSIM takes most of the time: of more tiles than this it is taken in every so many-th section, which
# still are thousands of windows.
MANY_TILES, SECTION_STEP = 4, 4


Grey = npt.NDArray[np.float32]
Detail = dict[float, Any]


class GreyError(Figures):
    """Errors in grey values."""

    rmse_grey: float | None
    bias_grey: float | None = Field(description="Mean error; positive is too bright.")


class ImageOf(GreyError):
    """One volume against the reference."""

    psnr_db: float | None = Field(description="Over all voxels; null if there is no error at all.")
    ssim: dict[Plane, float | None] = Field(description="Mean over the slices of each orientation.")
    ring_correlation: dict[str, float] = Field(
        description=(
            "Fourier ring correlation of xy sections, averaged over periods of 24 to 6 pixels, by the distance from the nearest "
            "measured section in output sections; no smoothing raises it."
        )
    )


class ImageFigures(Figures):
    """Grey values against the reference."""

    sampled: Sampled
    data_range: float = Field(
        description="Grey values that PSNR and SSIM refer to: 255 for 8 bits, else the plan's."
    )
    figures: Pair[ImageOf]
    blurred: ImageOf = Field(
        description="What is compared with, blurred in the plane by the width that brings it nearest to the reference."
    )
    blur_px: float


class Image(Metric[ImageFigures]):
    """Whether the grey values are nearer to the reference than those of interpolation."""

    name = "image"
    title = "Grey values"
    message = "Comparing grey values with the reference"
    figures = ImageFigures
    needs = Needs(reference=True, threads=4, memory_mb=8000)
    labels: ClassVar[Mapping[str, str]] = {"psnr": "grey values", "ssim": "structure"}

    def measure(self, sample: Sample, threads: int) -> Measured[ImageFigures]:
        scale = data_range(sample.plan)
        step = SECTION_STEP if len(sample.boxes) > MANY_TILES else 1

        blur = _best_blur(sample)

        def sums(box: Box) -> tuple[_Sums, ...]:
            tile = sample.read(box)
            rows = tile.restored_sections
            volumes = [tile.candidate(name) for name in CANDIDATES]
            volumes.append(_blurred(tile.interpolated, blur))
            return tuple(
                _Sums(
                    error_sums(tile.truth[rows], volume[rows]),
                    ssim_sums(tile.truth, volume, scale, every=step, sections=rows),
                    _detail(tile, volume, sample.plan),
                )
                for volume in volumes
            )

        restored, interpolated, smooth = (
            total.figures(scale) for total in added(sample.map(sums, threads))
        )
        return Measured(
            ImageFigures(
                sampled=sampled(sample),
                data_range=scale,
                figures=Pair(restored=restored, interpolated=interpolated),
                blurred=smooth,
                blur_px=blur,
            )
        )

    def checks(self, figures: ImageFigures, plan: Plan) -> list[Check]:
        restored, interpolated = figures.figures.restored, figures.figures.interpolated
        beside = baseline(plan)
        checks = []
        if restored.psnr_db is not None and interpolated.psnr_db is not None:
            gain = restored.psnr_db - interpolated.psnr_db
            side = "nearer to" if gain >= 0 else "farther from"
            reason = (
                f"Grey values are {abs(gain):.2g} dB {side} the reference than those of {beside}."
            )
            checks.append(_gain("psnr", gain, PSNR_GAIN_DB, "dB", reason))
        planes: tuple[Plane, ...] = ("xz", "yz") if plan.scale[0] > 1 else ("xy",)
        a, b = _mean_ssim(restored, planes), _mean_ssim(interpolated, planes)
        if a is not None and b is not None:
            reason = (
                f"In {' and '.join(planes)}, structure is {'more' if a >= b else 'less'} like "
                f"the reference's (SSIM {a:.3f}) than that of {beside} ({b:.3f})."
            )
            checks.append(_gain("ssim", a - b, SSIM_GAIN, "", reason))
        ours, theirs = (sum(v.ring_correlation.values()) for v in (restored, interpolated))
        if ours or theirs:
            gain = (ours - theirs) / len(restored.ring_correlation)
            reason = (
                f"Detail of 24 to 6 pixels in sections agrees {'more' if gain >= 0 else 'less'} with the reference than that of "
                f"{beside}, by {abs(gain):.2g} in ring correlation."
            )
            checks.append(_gain("section detail", gain, DETAIL_GAIN, "", reason))
        return checks

    def rows(self, figures: ImageFigures) -> list[Row]:
        volumes = figures.figures.restored, figures.figures.interpolated, figures.blurred
        psnr, rmse, bias = (
            [getattr(volume, key) for volume in volumes]
            for key in ("psnr_db", "rmse_grey", "bias_grey")
        )
        distances = sorted(volumes[0].ring_correlation, key=float)
        return [
            *(
                row(
                    f"ring correlation, {distance} from measured"
                    if distance != "0"
                    else "ring correlation",
                    [v.ring_correlation[distance] for v in volumes],
                    ".3f",
                    higher=True,
                )
                for distance in distances
            ),
            row("PSNR", psnr, ".2f", "dB", higher=True, missing="∞"),
            row("RMSE", rmse, ".2f", "grey values"),
            row("mean error", bias, "+.1f", "grey values", key=abs),
            *(
                row(f"SSIM, {plane} slices", [v.ssim[plane] for v in volumes], ".3f", higher=True)
                for plane in PLANES
            ),
        ]

    def panel(self, figures: ImageFigures, page: Page) -> Panel:
        from emgen.qc.report import views

        kept = figures.sampled.restored_sections < page.plan.shape[0]
        plane = main_plane(page.plan)
        maps, scale = views.differences(page.plan, page.sections[plane])
        lines = "The pale lines are measured sections, which both volumes keep." if kept else ""
        return Panel(
            self.title,
            (
                Table(
                    (*page.columns, f"{page.baseline}, blurred by {figures.blur_px:g} px"),
                    tuple(self.rows(figures)),
                ),
                Note(
                    "Against the reference; the better of two different numbers is bold. PSNR and SSIM "
                    f"refer to a range of {figures.data_range:.4g} grey values; "
                    f"{rested_on(figures.sampled, page.plan)}. Ring correlation asks how far detail of 24 to 6 pixels agrees in "
                    "sections, whatever its strength: smoothing cannot raise it."
                ),
                Gallery(
                    maps,
                    2,
                    title=f"Absolute difference from the reference, {plane}",
                    caption=lines,
                    scale=scale,
                ),
            ),
        )


@dataclass(frozen=True)
class _Sums:
    errors: ErrorSums
    ssim: SsimSums
    detail: Detail

    def __add__(self, other: _Sums) -> _Sums:
        detail = {
            k: self.detail.get(k, 0) + other.detail.get(k, 0) for k in {*self.detail, *other.detail}
        }
        return _Sums(self.errors + other.errors, self.ssim + other.ssim, detail)

    def figures(self, scale: float) -> ImageOf:
        psnr = self.errors.psnr(scale)
        return ImageOf(
            rmse_grey=self.errors.rmse,
            bias_grey=self.errors.bias,
            psnr_db=None if psnr is None or math.isinf(psnr) else psnr,
            ssim={plane: self.ssim.mean(plane) for plane in PLANES},
            ring_correlation={
                f"{distance:g}": heldout_scores.ring_mean(*self.detail[distance])
                for distance in sorted(self.detail)
            },
        )


def _detail(tile: Tile, volume: Grey, plan: Plan) -> Detail:
    """Sums of Fourier coefficients by ring (3, rings), by the distance from the nearest measured section."""
    sums: Detail = {}
    for k in np.flatnonzero(tile.restored_sections):
        distance = from_measured(plan, tile.box.start[0] + int(k))
        section = heldout_scores.ring_sums(volume[k], tile.truth[k])
        sums[distance] = sums.get(distance, 0) + section
    return sums


def _blurred(volume: Grey, sigma: float) -> Grey:
    smooth: Grey = scipy.ndimage.gaussian_filter(volume, (0, sigma, sigma)) if sigma else volume
    return smooth


def _best_blur(sample: Sample) -> float:
    """The blur of the baseline in pixels that is best for it on the tile in the middle."""
    tile = sample.read(sample.middle)
    rows = tile.restored_sections
    errors = {
        sigma: error_sums(tile.truth[rows], _blurred(tile.interpolated, sigma)[rows]).squared
        for sigma in heldout_scores.BLURS
    }
    return min(errors, key=lambda sigma: errors[sigma])


def data_range(plan: Plan) -> float:
    """Grey values that PSNR and SSIM refer to: 255 for 8-bit data, else the plan's range."""
    intensity = plan.intensity
    return 255.0 if plan.dtype in ("uint8", "int8") else intensity.high - intensity.low


def _gain(name: str, gain: float, limits: tuple[float, float], unit: str, reason: str) -> Check:
    warn, fail = limits
    return Check(
        name=name,
        verdict=judged(gain, warn, fail, higher=True),
        measure="gain",
        value=gain,
        warn=warn,
        fail=fail,
        higher=True,
        unit=unit,
        reason=reason,
        decisive=True,
    )


def _mean_ssim(volume: ImageOf, planes: tuple[Plane, ...]) -> float | None:
    values = [value for plane in planes if (value := volume.ssim[plane]) is not None]
    return sum(values) / len(values) if values else None


METRIC = Image()
