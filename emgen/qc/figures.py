"""The report's pictures: panels of sections as SVG around a PNG, curves as SVG; nothing is fetched.

Panels are drawn in nanometres, so that all panels of a figure have one physical scale.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator, Sequence
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from PIL import Image

from emgen.qc.summary import Axis, Curve, Pair, Seam, Sector

Rgb = npt.NDArray[np.uint8]
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


def grey(plane: npt.NDArray[Any], low: float, high: float) -> Rgb:
    """A section (rows, columns) as 8-bit grey, `low` black and `high` white."""
    scaled = np.clip((plane.astype(np.float64) - low) / (high - low), 0, 1)
    return np.asarray(np.rint(scaled * 255), np.uint8)


def heat(plane: npt.NDArray[Any], high: float) -> Rgb:
    """A map of magnitudes (rows, columns): palest at 0, darkest from `high` on."""
    colours = matplotlib.colormaps["magma_r"](
        np.clip(plane / high if high > 0 else plane * 0.0, 0, 1), bytes=True
    )
    return np.asarray(colours[..., :3], np.uint8)


def objects(section: Rgb, labels: npt.NDArray[Any], owner: npt.NDArray[Any]) -> Rgb:
    """Labels outlined over a grey section, coloured by the object of `owner` each lies on most.

    A split object then shows as a line inside one colour, a merger as a colour beyond its object.
    """
    named, sizes = np.unique(owner[owner > 0], return_counts=True)
    hues = {name: _hue(rank) for rank, name in enumerate(named[np.argsort(-sizes, kind="stable")])}
    colour = np.full((*labels.shape, 3), 0.5)
    for label in np.unique(labels):
        inside = labels == label
        names, counts = np.unique(owner[inside], return_counts=True)
        colour[inside] = hues.get(names[counts.argmax()], 0.5)
    blended = 0.6 * section[..., None] / 255 + 0.4 * colour
    edge = np.zeros(labels.shape, bool)
    edge[1:] |= labels[1:] != labels[:-1]
    edge[:, 1:] |= labels[:, 1:] != labels[:, :-1]
    blended[edge] = 0.05
    return np.asarray(np.rint(np.clip(blended, 0, 1) * 255), np.uint8)


def _hue(rank: int) -> npt.NDArray[np.float64]:
    # steps of the golden ratio keep the largest objects farthest apart
    return np.array(
        matplotlib.colors.hsv_to_rgb(((0.58 + rank * 0.618033988749895) % 1, 0.85, 0.95))
    )


def panel(
    pixels: Rgb,
    nm: tuple[float, float],
    alt: str,
    *,
    bar: bool = False,
    mark: float | None = None,
    text: float | None = None,
) -> Markup:
    """A section as inline SVG.

    Args:
        pixels: grey (rows, columns) or colour (rows, columns, 3).
        nm: size of a pixel (row, column).
        alt: what is shown, for readers without the picture.
        bar: whether it has a scale bar.
        mark: of a dashed line, nm from the top.
        text: height of letters in nm; by default a twentieth of the panel's width.
    """
    height, width = pixels.shape[0] * nm[0], pixels.shape[1] * nm[1]
    size = width / 20 if text is None else text
    box = f'viewBox="0 0 {width:g} {height:g}"'
    whole = f'width="{width:g}" height="{height:g}" preserveAspectRatio="none"'
    parts = [
        f'<svg class="panel" {box} role="img" aria-label="{escape(alt)}">',
        f'<image {whole} href="{png(pixels)}"/>',
    ]
    if mark is not None and 0 < mark < height:
        dash = f'stroke-width="{size / 8:g}" stroke-dasharray="{size / 2:g}"'
        parts.append(
            f'<line class="mark" x1="0" x2="{width:g}" y1="{mark:g}" y2="{mark:g}" {dash}/>'
        )
    if bar:
        parts += _scale_bar(width, height, size)
    return Markup("".join([*parts, "</svg>"]))


def _scale_bar(width: float, height: float, size: float) -> Iterator[str]:
    length = round_length(width / 4)
    x, y = size * 0.6, height - size * 0.7
    label = f"{length / 1000:g} µm" if length >= 1000 else f"{length:g} nm"
    bar = f'x="{x:g}" y="{y - size / 4:g}" width="{length:g}" height="{size / 4:g}"'
    yield f'<rect class="bar" {bar} stroke-width="{size / 10:g}"/>'
    words = f'x="{x:g}" y="{y - size * 0.55:g}" font-size="{size:g}"'
    yield f'<text class="on-image" {words} stroke-width="{size / 5:g}">{label}</text>'


def round_length(nm: float) -> float:
    """The largest of 1, 2, 5, 10, ... nm that is not above `nm`.

    >>> round_length(320)
    200.0
    """
    ten = 10.0 ** math.floor(math.log10(nm))
    return max(step * ten for step in (0.5, 1.0, 2.0, 5.0) if step * ten <= nm)


def colour_bar(high: float) -> Markup:
    """The scale of `heat`, upright, from 0 to `high` grey values."""
    ramp = heat(np.linspace(1, 0, 128)[:, None], 1.0)
    return Markup(
        f'<div class="scale"><span>≥ {high:.3g}</span><img alt="" src="{png(ramp)}">'
        '<span>0</span><span class="unit">grey values</span></div>'
    )


def png(pixels: Rgb) -> str:
    """As a data URI."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


@matplotlib.rc_context(STYLE)
def fsc(curves: Pair[dict[Sector, Curve]], beside: str, *, power: bool) -> Markup:
    """Fourier shell correlation by sector, and underneath the power over the reference's."""
    figure = _figure(9.6, 5.4 if power else 3.2)
    sectors = [sector for sector in SECTOR_TITLES if curves.restored[sector].frequency_per_nm]
    for column, sector in enumerate(sectors):
        nyquist = 1000 * curves.restored[sector].nyquist_per_nm
        lowest = figure.add_subplot(1 + power, len(sectors), column + 1)
        _correlation(lowest, curves, sector, nyquist)
        if column == 0:
            lowest.set_ylabel("Fourier shell correlation")
            pair = lowest.lines[-2:]
            figure.legend(
                pair, ["restored", beside], frameon=False, ncols=2, loc="outside lower center"
            )
        if power:
            lowest = figure.add_subplot(2, len(sectors), len(sectors) + column + 1)
            _power(lowest, curves, sector, nyquist)
            if column == 0:
                lowest.set_ylabel("power / reference's power")
        lowest.set_xlabel("frequency (1/µm)")
    return _svg(figure, "Fourier shell correlation by direction, restored and interpolated")


def _correlation(
    axes: Any, curves: Pair[dict[Sector, Curve]], sector: Sector, nyquist: float
) -> None:
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
    for curve, style in _styled(curves, sector):
        axes.plot(1000 * np.array(curve.frequency_per_nm), curve.correlation, **style)
    axes.set(xlim=(0, nyquist), ylim=(min(-0.05, axes.get_ylim()[0]), 1.03))
    axes.set_title(SECTOR_TITLES[sector])
    _periods(axes, nyquist)


def _power(axes: Any, curves: Pair[dict[Sector, Curve]], sector: Sector, nyquist: float) -> None:
    axes.axhline(1, color=QUIET, linewidth=0.8, linestyle=(0, (1, 2)))
    for curve, style in _styled(curves, sector):
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


def _styled(curves: Pair[dict[Sector, Curve]], sector: Sector) -> list[tuple[Curve, Any]]:
    return [
        (curves.restored[sector], {"color": RESTORED, "zorder": 3}),
        (curves.interpolated[sector], {"color": INTERPOLATED, "linestyle": (0, (5, 2))}),
    ]


def _periods(axes: Any, nyquist: float) -> None:
    """The period in nm along the top of a frequency axis (1/µm)."""
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


@matplotlib.rc_context(STYLE)
def seams(figures: Pair[dict[Axis, Seam]], beside: str, halo: Sequence[int]) -> Markup:
    """Steps folded by their place in a block, along every axis that has block faces."""
    figure = _figure(9.6, 2.6)
    seen = [axis for axis, seam in figures.restored.items() if seam.score is not None]
    for column, axis in enumerate(seen):
        axes = figure.add_subplot(1, len(seen), column + 1)
        reach = halo["zyx".index(axis)]
        for place in sorted({-reach, 0, reach}):
            axes.axvline(place, color=QUIET, linewidth=0.8, linestyle=(0, (1, 2)))
        for seam, label, colour, width in (
            (figures.interpolated[axis], f"{beside} (no blocks)", INTERPOLATED, 1.0),
            (figures.restored[axis], "restored", RESTORED, 1.4),
        ):
            half = len(seam.profile) // 2
            axes.plot(
                np.arange(len(seam.profile)) - half,
                np.roll(seam.profile, half),
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
    """An empty figure of so many inches."""
    return Figure(figsize=(width, height), layout="constrained")


def _svg(figure: Figure, alt: str) -> Markup:
    """As an image that names nothing outside itself; the same figure gives the same text."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    uri = "data:image/svg+xml;base64," + base64.b64encode(buffer.getvalue()).decode()
    return Markup(f'<img class="plot" alt="{escape(alt)}" src="{uri}">')
