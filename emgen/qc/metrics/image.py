"""Grey values against the reference: mean error, PSNR and SSIM."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from pydantic import Field

from emgen.config.facts import Figures
from emgen.geometry import Box
from emgen.qc.axes import PLANES, Plane
from emgen.qc.grey_errors import ErrorSums, SsimSums, error_sums, ssim_sums
from emgen.qc.metrics.metric import Measured, Metric, Needs
from emgen.qc.report.blocks import Gallery, Note, Page, Panel
from emgen.qc.report.sections import main_plane
from emgen.qc.report.tables import Row, Table, row
from emgen.qc.sample import CANDIDATES, Sample, baseline
from emgen.qc.tiles import Pair, Sampled, added, described, sampled
from emgen.qc.verdict import Check, judged
from emgen.run.plan import Plan

# Warn, fail; restored less interpolated. Interpolation costs nothing, so what is worse than it warns.
# 1 dB is a mean squared error 26 % larger. SSIM has no unit: 0.02 is a third of what the demo's
# restoration gains, a loss that can be seen.
PSNR_GAIN_DB, SSIM_GAIN = (0.0, -1.0), (0.0, -0.02)
# SSIM takes most of the time: of more tiles than this it is taken in every so many-th section, which
# still are thousands of windows.
MANY_TILES, SECTION_STEP = 4, 4


class GreyError(Figures):
    """Errors in grey values."""

    rmse_grey: float | None
    bias_grey: float | None = Field(description="Mean error; positive is too bright.")


class ImageOf(GreyError):
    """One volume against the reference."""

    psnr_db: float | None = Field(description="Over all voxels; null if there is no error at all.")
    ssim: dict[Plane, float | None] = Field(description="Mean over the slices of each orientation.")


class ImageFigures(Figures):
    """Grey values against the reference."""

    sampled: Sampled
    data_range: float = Field(
        description="Grey values that PSNR and SSIM refer to: 255 for 8 bits, else the plan's."
    )
    figures: Pair[ImageOf]


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

        def sums(box: Box) -> tuple[_Sums, ...]:
            tile = sample.read(box)
            volumes = (tile.candidate(name) for name in CANDIDATES)
            return tuple(
                _Sums(
                    error_sums(tile.truth, volume),
                    ssim_sums(tile.truth, volume, scale, every=step),
                )
                for volume in volumes
            )

        restored, interpolated = (
            total.figures(scale) for total in added(sample.map(sums, threads))
        )
        return Measured(
            ImageFigures(
                sampled=sampled(sample),
                data_range=scale,
                figures=Pair(restored=restored, interpolated=interpolated),
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
        return checks

    def rows(self, figures: ImageFigures) -> list[Row]:
        volumes = figures.figures.restored, figures.figures.interpolated
        psnr, rmse, bias = (
            [getattr(volume, key) for volume in volumes]
            for key in ("psnr_db", "rmse_grey", "bias_grey")
        )
        return [
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

        kept = page.plan.scale[0] > 1 and page.plan.mode.keeps_measured
        plane = main_plane(page.plan)
        maps, scale = views.differences(page.plan, page.sections[plane])
        counted = ". Measured sections, which both volumes keep, are counted" if kept else ""
        lines = "The pale lines are measured sections, which both volumes keep." if kept else ""
        return Panel(
            self.title,
            (
                Table(page.columns, tuple(self.rows(figures))),
                Note(
                    "Against the reference; the better of two different numbers is bold. PSNR and SSIM "
                    f"refer to a range of {figures.data_range:.4g} grey values; "
                    f"{described(figures.sampled, page.plan)}{counted}."
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

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(self.errors + other.errors, self.ssim + other.ssim)

    def figures(self, scale: float) -> ImageOf:
        psnr = self.errors.psnr(scale)
        return ImageOf(
            rmse_grey=self.errors.rmse,
            bias_grey=self.errors.bias,
            psnr_db=None if psnr is None or math.isinf(psnr) else psnr,
            ssim={plane: self.ssim.mean(plane) for plane in PLANES},
        )


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
