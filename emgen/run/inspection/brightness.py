"""Jumps of brightness or contrast from section to section.

Law: the grey values of near sections have nearly the same distribution, because they show nearly the same tissue. Where all
parts of a section are brighter than the one before, the microscope was.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from emgen.run.inspection.finding import Finding, listed
from emgen.run.inspection.look import Look, nanmedian

# In parts of the contrast (5th to 95th percentile). Tissue alone moves the median of one column of 128 pixels by 0.23 at
# most in the volumes measured, and that of several columns less, as the root of their number.
BRIGHTER = 0.25
LEAST_BRIGHTER = 0.1
# Natural logarithm of the ratio of contrasts; tissue alone: 0.35 in one column
MORE_CONTRAST, LEAST_MORE_CONTRAST = 0.5, 0.25


def steps(look: Look) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """By how much every section is brighter (parts of the contrast) and has more contrast (logarithm) than the one before.

    NaN where one of the two holds no image, and of the first.
    """
    quantiles = np.where(look.seen[:, :, None], look.traces.quantiles, np.nan)
    middle = quantiles[..., 1:4].mean(axis=-1)
    width = np.maximum(quantiles[..., 4] - quantiles[..., 0], 1e-6)
    follows = np.diff(look.numbers, prepend=look.numbers[0] - 2) == 1
    brighter = nanmedian(np.diff(middle, axis=0, prepend=np.nan)) / max(look.contrast, 1e-6)
    stronger = nanmedian(np.diff(np.log(width), axis=0, prepend=np.nan))
    return np.where(follows, brighter, np.nan), np.where(follows, stronger, np.nan)


def find(look: Look) -> Iterator[Finding]:
    """Jumps of brightness, and jumps of contrast."""
    if look.contrast == 0:
        return
    share = max(1.0, float(look.seen.sum(axis=1).mean())) ** -0.5
    brighter, stronger = steps(look)
    for what, values, limit, noun, unit in (
        (
            "brightness-jumps",
            brighter,
            max(LEAST_BRIGHTER, BRIGHTER * share),
            "brightness",
            look.contrast,
        ),
        (
            "contrast-jumps",
            stronger,
            max(LEAST_MORE_CONTRAST, MORE_CONTRAST * share),
            "contrast",
            100.0,
        ),
    ):
        found = np.nan_to_num(np.abs(values)) > limit
        if found.any():
            sections = look.numbers[found].tolist()
            usual = (
                float(np.nanmedian(np.abs(values[~found])))
                if np.isfinite(values[~found]).any()
                else 0.0
            )
            height = float(np.abs(values[found]).mean())
            kind = "grey values" if what == "brightness-jumps" else "%"
            yield Finding(
                what=what,
                severity="warn",
                sections=sections,
                sentence=f"The {noun} jumps at {listed(sections)}.",
                evidence=f"by {height * unit:.0f} {kind} on average, elsewhere {usual * unit:.0f} {kind} from section to section",
                what_to_do="Even them: `input: {equalise: sections}`.",
            )
