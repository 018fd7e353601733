"""Sections as pictures: grey values, maps and objects, as SVG around a PNG; nothing is fetched.

They are drawn in nanometres, so that all pictures of a figure have one physical scale.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterator
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape
from PIL import Image

Rgb = npt.NDArray[np.uint8]


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
    """Labels over a grey section, coloured by the object that a label covers most.

    A split object then shows as a line inside one colour, a merger as a colour beyond its object.

    Args:
        section: grey (rows, columns).
        labels: to be drawn.
        owner: labels of the objects that give the colours; 0 is no object and grey.
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
    """A picture of a section, as inline SVG.

    Args:
        pixels: grey (rows, columns) or colour (rows, columns, 3).
        nm: size of a pixel (row, column).
        alt: what is shown, for readers without the picture.
        bar: whether it has a scale bar.
        mark: nm from the top where a dashed line is drawn.
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
    """The colours of `heat` from 0 to `high` grey values, upright."""
    ramp = heat(np.linspace(1, 0, 128)[:, None], 1.0)
    return Markup(
        f'<div class="scale"><span>≥ {high:.3g}</span><img alt="" src="{png(ramp)}">'
        '<span>0</span><span class="unit">grey values</span></div>'
    )


def png(pixels: Rgb) -> str:
    """Pixels as the data URI of a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
