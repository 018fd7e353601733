"""Curves of the report, drawn by matplotlib as SVG; nothing is fetched."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import matplotlib
import numpy as np
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from emgen.qc.axes import Axis
from emgen.qc.curves import Curve
from emgen.qc.fourier import Sector

Curves = Mapping[Sector, Curve]
Styled = list[tuple[Curve, dict[str, Any]]]
RESTORED, INTERPOLATED, QUIET = "#0a5aa0", "#c4540a", "#8a8f98"
SECTOR_TITLES: dict[Sector, str] = {
    "spherical": "all directions",
    "axial": "axial (within 20° of z)",
    "lateral": "lateral (beyond 70° of z)",
}
# A gap of a twelfth of the axis keeps the labels of two periods apart.
PERIOD_GAP = 1 / 12
STYLE: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#5b616b",
    "axes.labelcolor": "#24292f",
    "axes.titlesize": 10,
    "axes.labelsize": 9,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "xtick.color": "#41464e",
    "ytick.color": "#41464e",
    "font.size": 9,
    "lines.linewidth": 1.7,
    "svg.hashsalt": "emgen",
}


@matplotlib.rc_context(STYLE)
def fsc(restored: Curves, interpolated: Curves, baseline: str, *, power: bool) -> Markup:
    """Fourier shell correlation by sector.

    Args:
        restored: curves of the result.
        interpolated: curves of what it is compared with.
        baseline: name of the latter.
        power: whether the power over the reference's is drawn underneath.
    """
    figure = _figure(9.6, 5.4 if power else 3.2)
    sectors = [sector for sector in SECTOR_TITLES if restored[sector].frequency_per_nm]
    for column, sector in enumerate(sectors):
        nyquist = 1000 * restored[sector].nyquist_per_nm
        styled = _styled(restored[sector], interpolated[sector])
        lowest = figure.add_subplot(1 + power, len(sectors), column + 1)
        _correlation(lowest, styled, nyquist)
        lowest.set_title(SECTOR_TITLES[sector])
        _periods(lowest, nyquist)
        if column == 0:
            lowest.set_ylabel("Fourier shell correlation")
            pair = lowest.lines[-2:]
            figure.legend(
                pair, ["restored", baseline], frameon=False, ncols=2, loc="outside lower center"
            )
        if power:
            lowest = figure.add_subplot(2, len(sectors), len(sectors) + column + 1)
            _power(lowest, styled, nyquist)
            if column == 0:
                lowest.set_ylabel("power / reference's power")
        lowest.set_xlabel("frequency (1/µm)")
    return _svg(figure, "Fourier shell correlation by direction, restored and interpolated")


def _correlation(axes: Any, styled: Styled, nyquist: float) -> None:
    for threshold in (0.5, 0.143):
        axes.axhline(threshold, color=QUIET, linewidth=0.8, linestyle=(0, (1, 2)))
        axes.annotate(
            f"{threshold:g}",
            (0, threshold),
            xytext=(3, 2),
            textcoords="offset points",
            fontsize=7.5,
            color="#5b616b",
        )
    for curve, style in styled:
        axes.plot(1000 * np.array(curve.frequency_per_nm), curve.correlation, **style)
    axes.set(xlim=(0, nyquist), ylim=(min(-0.05, axes.get_ylim()[0]), 1.03))


def _power(axes: Any, styled: Styled, nyquist: float) -> None:
    axes.axhline(1, color=QUIET, linewidth=0.8, linestyle=(0, (1, 2)))
    for curve, style in styled:
        axes.plot(
            1000 * np.array(curve.frequency_per_nm), np.clip(curve.power_ratio, 1e-3, 1e3), **style
        )
    axes.set(xlim=(0, nyquist), yscale="log")
    low, high = axes.get_ylim()
    low, high = max(min(low, 0.25), 2e-3), min(max(high, 4.0), 500)
    axes.set_ylim(low, high)
    ticks = [
        step * ten
        for ten in (1e-3, 1e-2, 0.1, 1.0, 10.0, 100.0)
        for step in (1, 3)
        if low <= step * ten <= high
    ]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.set_yticks([], minor=True)


def _styled(restored: Curve, interpolated: Curve) -> Styled:
    return [
        (restored, {"color": RESTORED, "zorder": 3}),
        (interpolated, {"color": INTERPOLATED, "linestyle": (0, (5, 2))}),
    ]


def _periods(axes: Any, nyquist: float) -> None:
    """Label the periods in nm along the top of a frequency axis (1/µm)."""
    shown = periods(nyquist)
    above = axes.twiny()
    above.spines["top"].set_visible(True)
    above.set(
        xlim=(0, nyquist),
        xticks=[1000 / nm for nm in shown],
        xticklabels=[f"{nm:g}" for nm in shown],
    )
    above.set_xlabel("period (nm)", fontsize=8.5, labelpad=3)


def periods(nyquist: float) -> list[float]:
    """Round periods in nm for a frequency axis up to `nyquist` (1/µm), Nyquist first, not crowded.

    >>> periods(62.5)
    [16.0, 20.0, 25.0, 40.0, 100.0]
    """
    gap, shown = PERIOD_GAP * nyquist, [nyquist]
    for ten in (0.1, 1.0, 10.0, 100.0, 1000.0, 10000.0):
        for step in (1, 2, 2.5, 4, 5):
            frequency = 1000 / (step * ten)
            if gap < frequency < shown[-1] - gap:
                shown.append(frequency)
    return [float(f"{1000 / frequency:.3g}") for frequency in shown]


class FoldedSteps(NamedTuple):
    """Steps between neighbouring planes by their place in a block, counted from its face, along one axis.

    Attributes:
        restored: of the result, over the usual step.
        baseline: of what it is compared with, which has no blocks.
        halo: of the blocks, in voxels.
    """

    restored: Sequence[float]
    baseline: Sequence[float]
    halo: int


@matplotlib.rc_context(STYLE)
def seams(profiles: Mapping[Axis, FoldedSteps], baseline: str) -> Markup:
    """Steps folded by their place in a block, along every axis that has block faces.

    Args:
        profiles: of each of these axes.
        baseline: name of what the result is compared with.
    """
    figure = _figure(9.6, 2.6)
    for column, (axis, steps) in enumerate(profiles.items()):
        axes = figure.add_subplot(1, len(profiles), column + 1)
        reach = steps.halo
        for place in sorted({-reach, 0, reach}):
            axes.axvline(place, color=QUIET, linewidth=0.8, linestyle=(0, (1, 2)))
        for profile, label, colour, width in (
            (steps.baseline, f"{baseline} (no blocks)", INTERPOLATED, 1.0),
            (steps.restored, "restored", RESTORED, 1.4),
        ):
            half = len(profile) // 2
            axes.plot(
                np.arange(len(profile)) - half,
                np.roll(profile, half),
                label=label,
                color=colour,
                linewidth=width,
            )
        axes.set(title=f"along {axis}", xlabel="voxels from the block face")
        axes.set_ylim(0, max(3.5, axes.get_ylim()[1]))
        if column == 0:
            axes.set_ylabel("step / usual step")
            axes.legend(frameon=False, fontsize=8, loc="upper left")
    return _svg(figure, "Steps between neighbouring sections, folded by block")


def _figure(width: float, height: float) -> Figure:
    """An empty figure, sizes in inches."""
    return Figure(figsize=(width, height), layout="constrained")


def _svg(figure: Figure, alt: str) -> Markup:
    """A figure as an image that names nothing outside itself; the same figure gives the same text."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    uri = "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
    return Markup(f'<img class="plot" alt="{escape(alt)}" src="{uri}">')
