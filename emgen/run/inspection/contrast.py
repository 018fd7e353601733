"""Inverted contrast.

Law: in stained tissue membranes are dark lines, and no other structure is as thin. So the strongest dark lines are stronger
than the strongest bright ones, in every volume measured.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import scipy.ndimage

from emgen.run.inspection.finding import Finding
from emgen.run.inspection.look import Look, Numbers

SCALES = (1.5, 2.5)  # pixels: half the width of membranes at 4 to 10 nm
STRONGEST = 0.98  # quantile of all pixels
ELONGATED = 1.5  # times the curvature along a line that across it must exceed
# Natural logarithm of dark over bright: 0.02 to 0.3 in all tissue measured
BRIGHT = -0.05
LEAST_PIXELS = 50_000


def find(look: Look) -> Iterator[Finding]:
    """Bright membranes."""
    if sum(plane.size for plane in look.planes) < LEAST_PIXELS:
        return
    ratio, error = lines(look.planes)
    if ratio < BRIGHT and ratio + 2 * error < 0:
        yield Finding(
            what="inverted-contrast",
            severity="warn",
            sentence="The contrast is inverted: thin structures are bright. The networks learnt dark membranes.",
            evidence=f"the strongest bright lines are {np.exp(-ratio):.2f} times as strong as the strongest dark ones",
            what_to_do="Invert the grey values, and restore that.",
        )


def lines(planes: list[Numbers]) -> tuple[float, float]:
    """Logarithm of the strength of dark lines over that of bright ones, and its standard error over sections."""
    ratios = [np.mean([_ratio(plane, sigma) for sigma in SCALES]) for plane in planes]
    return float(np.mean(ratios)), float(np.std(ratios) / len(ratios) ** 0.5)


def _ratio(plane: Numbers, sigma: float) -> float:
    yy, xx, xy = (
        scipy.ndimage.gaussian_filter(plane, sigma, order, mode="nearest")
        for order in ((2, 0), (0, 2), (1, 1))
    )
    middle, difference = (yy + xx) / 2, np.hypot((yy - xx) / 2, xy)
    most, least = middle + difference, middle - difference  # the two curvatures
    dark = np.quantile(most - ELONGATED * np.abs(least), STRONGEST)
    bright = np.quantile(-least - ELONGATED * np.abs(most), STRONGEST)
    return float(np.log(max(dark, 1e-6) / max(bright, 1e-6)))
