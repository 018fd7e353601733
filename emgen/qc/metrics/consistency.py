"""Consistency: whether the result, degraded again, gives back what was measured.

The guard against invented structure that needs no ground truth: the forward model is applied to the
result and the outcome compared with the input, in grey values and per frequency. Agreement better
than the noise is over-fitting, agreement far worse is invention.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import scipy.ndimage
from pydantic import Field

from emgen.config.facts import Figures
from emgen.geometry import Box, VoxelSize, zyx
from emgen.physics.tissue import MEASURED
from emgen.qc.curves import Curve, curves
from emgen.qc.fourier import Sector, ShellSums, shell_sums, shell_width
from emgen.qc.grey_errors import ErrorSums, error_sums
from emgen.qc.metrics.image import GreyError
from emgen.qc.metrics.metric import Measured, Metric, Needs
from emgen.qc.report.blocks import Block, Note, Page, Panel, Paragraph, Picture
from emgen.qc.report.tables import Row, Table, row
from emgen.qc.sample import CANDIDATES, Sample
from emgen.qc.tiles import Pair, Sampled, added, described, sampled
from emgen.qc.verdict import Check, judged, not_tested
from emgen.qc.words import opened
from emgen.run.plan import Plan

Grey = npt.NDArray[np.float32]
Degrade = Callable[[Box, Grey], tuple[Box, Grey]]
"""The forward model: of a box of output and its voxels (float32 grey values), the box of measured voxels
that they determine and the values that it gives them."""

# Warn, fail; misfit to noiseless input in per cent of its grey range. Rounding to 8 bits makes 0.1 %; 1 %
# is two and a half of 256 grey values, which nobody sees, 3 % is a visible change of what was measured.
MISFIT_PERCENT = (1.0, 3.0)
# Warn, fail; misfit to noisy input over its noise. 1 is right; the noise itself is estimated to some tens
# of per cent, and at 3 eight ninths of the squared misfit are not noise.
MISFIT_OVER_NOISE = (1.5, 3.0)
# Below this share of the noise no more than 0.3^2 = 9 % of its variance was taken away.
MIN_OVER_NOISE = 0.3

BY_CONSTRUCTION = (
    "The measured sections are sections of the result, as they were measured: no result could disagree with them, and nothing "
    "is said about those between."
)


class ConsistencyOf(GreyError):
    """One volume, degraded again, against the input."""

    relative_to_noise: float | None = Field(
        description="RMSE over the noise of the input; null for noiseless input."
    )
    curves: dict[Sector, Curve]


class ConsistencyFigures(Figures):
    """What the degraded result has in common with what was measured."""

    sampled: Sampled
    noise_grey: float
    grey_range: float
    figures: Pair[ConsistencyOf]


class Consistency(Metric[ConsistencyFigures]):
    """Whether the result, degraded again, is what was measured."""

    name = "consistency"
    title = "Consistency with the input"
    message = "Degrading the result again and comparing it with the input"
    figures = ConsistencyFigures
    needs = Needs(environment="torch", threads=4, memory_mb=16000)

    def measure(self, sample: Sample, threads: int) -> Measured[ConsistencyFigures]:
        from emgen.networks.device import fixed_arithmetic
        from emgen.run.degrade import degraded

        with fixed_arithmetic():  # tiles are shared out to threads
            return Measured(
                compared(sample, lambda box, grey: degraded(sample.plan, box, grey), threads)
            )

    def checks(self, figures: ConsistencyFigures, plan: Plan) -> list[Check]:
        restored = figures.figures.restored
        if restored.rmse_grey is None:
            reason = "The tiles are too small to hold a measured voxel whole: set a larger qc.tile."
            return [not_tested("consistency", reason)]
        if restored.relative_to_noise is None:
            check = _against_range(restored.rmse_grey, figures.grey_range)
            kept = plan.mode.keeps_measured and check.verdict == "pass"
            return [not_tested("consistency", BY_CONSTRUCTION) if kept else check]
        return [_against_noise(restored.relative_to_noise, figures.noise_grey)]

    def rows(self, figures: ConsistencyFigures) -> list[Row]:
        # neither is better: the input is not the truth
        volumes = figures.figures.restored, figures.figures.interpolated
        rmse, bias, ratio = (
            [getattr(volume, key) for volume in volumes]
            for key in ("rmse_grey", "bias_grey", "relative_to_noise")
        )
        rows = [
            row("RMSE", rmse, ".3g", "grey values", compare=False),
            row("mean error", bias, "+.2g", "grey values", compare=False),
        ]
        if ratio[0] is None:
            return rows
        return [*rows, row("RMSE over the input's noise", ratio, ".2f", compare=False)]

    def panel(self, figures: ConsistencyFigures, page: Page) -> Panel:
        noiseless = figures.noise_grey == 0
        kept = page.plan.scale[0] > 1 and page.plan.mode.keeps_measured and noiseless
        blocks: list[Block] = [
            Paragraph(
                "The result was degraded again, as the measurement is taken to have been, and compared with the input. "
                "This needs no reference and is the guard against invented structure; but what the measurement does not "
                "see, it does not see either."
                + (
                    " Here the measured sections are sections of the output, and the result keeps them: nothing is said "
                    "about those between."
                    if kept
                    else ""
                )
            ),
            Table(page.columns, tuple(self.rows(figures))),
        ]
        volumes = figures.figures
        # a result that keeps its input correlates by 1: there is nothing to see
        if volumes.restored.rmse_grey and volumes.restored.curves["spherical"].frequency_per_nm:
            from emgen.qc.report import charts

            left = ": what is left of the input's noise keeps the curve up, however weak"
            blocks.append(
                Picture(
                    charts.fsc(
                        volumes.restored.curves,
                        volumes.interpolated.curves,
                        page.baseline,
                        power=False,
                    ),
                    "Fourier shell correlation of the degraded volumes with the input. It compares phases, not "
                    f"strengths{'' if noiseless else left}.",
                )
            )
        blocks.append(Note(opened(described(figures.sampled, page.plan))))
        return Panel(self.title, tuple(blocks))


@dataclass(frozen=True)
class Misfit:
    """Shell sums (a: measured, b: degraded again) and errors (degraded - measured) of tiles."""

    shells: ShellSums
    errors: ErrorSums

    def __add__(self, other: Misfit) -> Misfit:
        return Misfit(self.shells + other.shells, self.errors + other.errors)

    def relative_to_noise(self, noise: float) -> float | None:
        """RMSE over the standard deviation of the noise: about 1 is right.

        Args:
            noise: standard deviation in grey values.

        Returns:
            The ratio; None for noiseless input.
        """
        rmse = self.errors.rmse
        return rmse / noise if rmse is not None and noise > 0 else None

    def figures(self, noise: float) -> ConsistencyOf:
        """As they stand in `summary.json`; `noise` is in grey values."""
        return ConsistencyOf(
            rmse_grey=self.errors.rmse,
            bias_grey=self.errors.bias,
            relative_to_noise=self.relative_to_noise(noise),
            curves=curves(self.shells),
        )


def misfit(
    degraded: np.ndarray, measured: np.ndarray, voxel: VoxelSize, *, width: float | None = None
) -> Misfit:
    """Compare one tile that was degraded again with the input.

    Nothing is registered: the forward model says where every measured voxel lies, and a shift would be
    a fault to be seen.

    Args:
        degraded: grey values (z, y, x).
        measured: of the same shape.
        voxel: size of the input's voxels.
        width: of a shell in 1/nm, as in `shell_sums`.
    """
    return Misfit(
        shell_sums(measured, degraded, voxel, width=width), error_sums(measured, degraded)
    )


def compared(sample: Sample, degrade: Degrade, threads: int = 1) -> ConsistencyFigures:
    """Compare the degraded tiles of a sample with the input.

    Args:
        sample: of the run.
        degrade: the forward model.
        threads: tiles at a time.
    """
    plan = sample.plan
    width = max(_shell_width(box, plan) for box in sample.boxes)

    def misfits(box: Box) -> list[Misfit]:
        tile = sample.read(box)
        pairs = [_pair(sample, *degrade(box, tile.candidate(name))) for name in CANDIDATES]
        return [
            misfit(again, measured, plan.measured_voxel, width=width)
            for measured, again in pairs
            if measured.size
        ]

    noise = plan.noise_model.true_sigma
    totals = added(tile for tile in sample.map(misfits, threads) if tile)
    nothing = ConsistencyOf(rmse_grey=None, bias_grey=None, relative_to_noise=None, curves={})
    restored, interpolated = [total.figures(noise) for total in totals] or [nothing] * 2
    return ConsistencyFigures(
        sampled=sampled(sample),
        noise_grey=noise,
        grey_range=plan.intensity.high - plan.intensity.low,
        figures=Pair(restored=restored, interpolated=interpolated),
    )


def _shell_width(box: Box, plan: Plan) -> float:
    measured = zyx([max(2, n // s) for n, s in zip(box.shape, plan.scale, strict=True)])
    return shell_width(measured, plan.measured_voxel)


def _pair(sample: Sample, footprint: Box, degraded: Grey) -> tuple[Grey, Grey]:
    """The measured voxels of a footprint, and what the forward model gives them."""
    if not footprint.size:
        return degraded, degraded
    seen = sample.plan.see(sample.measured, footprint)
    measured = seen.voxels.astype(np.float32)
    if seen.states is not None:
        # where nothing was measured nothing can disagree, nor where the forward model looks there
        made_up = scipy.ndimage.maximum_filter(seen.states != MEASURED, _reach(sample.plan))
        measured[made_up] = degraded[made_up]
    return measured, degraded


def _reach(plan: Plan) -> list[int]:
    """Measured voxels (z, y, x) that share output voxels with the one in the middle."""
    acquisition = plan.mode.acquisition
    spans = zip(acquisition.reach, acquisition.scale, strict=True)
    return [2 * ((last - first) // step) + 1 for (first, last), step in spans]


def _against_range(rmse: float, grey_range: float) -> Check:
    value, (warn, fail) = 100 * rmse / grey_range, MISFIT_PERCENT
    verdict = judged(value, warn, fail)
    same = "is the input, voxel for voxel"
    differs = f"differs from the input by {rmse:.2g} grey values" if rmse else same
    end = "." if verdict == "pass" else ": what was measured was not kept."
    return Check(
        name="consistency",
        verdict=verdict,
        measure="RMSE over the grey range",
        value=value,
        warn=warn,
        fail=fail,
        unit="%",
        reason=f"Degraded again, the result {differs}{end}",
    )


def _against_noise(value: float, noise: float) -> Check:
    warn, fail = MISFIT_OVER_NOISE
    verdict, end = judged(value, warn, fail), "."
    if verdict != "pass":
        end = ", more than noise explains: structure was changed."
    elif value < MIN_OVER_NOISE:
        verdict, end = "warn", ": most of the noise was kept."
    return Check(
        name="consistency",
        verdict=verdict,
        measure="RMSE over the noise",
        value=value,
        warn=warn,
        fail=fail,
        reason=f"Degraded again, the result differs from the input by {value:.2g} times the "
        f"input's noise ({noise:.3g} grey values){end}",
    )


METRIC = Consistency()
