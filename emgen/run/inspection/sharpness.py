"""Sections that are softer or noisier than those around them.

Law: tissue changes slowly from section to section, and so does the share of fine detail in its power. Defocus takes detail
of 4 to 8 pixels away by orders of magnitude; a shorter dwell time adds power where an image has none, above 3/8 of a cycle
a pixel.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from emgen.run.inspection.finding import Finding, listed
from emgen.run.inspection.look import Look, around, nanmedian, spread

# Natural logarithms of power. Neighbours differ by 0.4 (detail) and 0.5 (noise) at most in nine of ten sections of the
# volumes measured; a Gaussian blur of one pixel takes 1.4 away, twice the noise adds 1.4.
SOFTER, NOISIER = 0.8, 1.0
DEVIATIONS = 6.0
MOST = 0.34  # of the sections: what many have is no outlier


def find(look: Look) -> Iterator[Finding]:
    """Outliers of sharpness and of noise."""
    power = np.where(look.seen[:, :, None], np.maximum(look.traces.power, 1e-12), np.nan)
    if look.with_image.sum() < 5:
        return
    detail = nanmedian(np.log(power[:, :, 2] / power[:, :, 1]))
    noise = nanmedian(np.log(power[:, :, 4] / power[:, :, 1]))
    soft = _outliers(-detail, SOFTER)
    if soft.any():
        sections = look.numbers[soft].tolist()
        less = float(np.exp(np.abs(detail - around(detail))[soft].mean()))
        yield Finding(
            what="blurred-sections",
            severity="warn",
            sections=sections,
            sentence=f"{listed(sections).capitalize()} {_verb(sections, 'is', 'are')} less sharp than the sections around.",
            evidence=f"detail of 4 to 8 pixels has {less:.1f} times less power",
            what_to_do="Look at them. Sections out of focus may be left out: name them in `input.lost`.",
        )
    noisy = _outliers(noise, NOISIER) & ~soft
    if noisy.any():
        sections = look.numbers[noisy].tolist()
        more = float(np.exp(np.abs(noise - around(noise))[noisy].mean()) ** 0.5)
        yield Finding(
            what="noisy-sections",
            severity="warn",
            sections=sections,
            sentence=f"{listed(sections).capitalize()} {_verb(sections, 'has', 'have')} more noise than the sections around.",
            evidence=f"about {more:.1f} times the noise",
            what_to_do="Look at them; sections of little use may be named in `input.lost`.",
        )


def _outliers(values: npt.NDArray[np.float64], least: float) -> npt.NDArray[np.bool_]:
    """Which values lie above those around them by `least` and six robust standard deviations."""
    beyond = values - around(values)
    found = np.nan_to_num(beyond) > max(least, DEVIATIONS * spread(beyond))
    return found if found.mean() <= MOST else np.zeros_like(found)


def _verb(sections: list[int], one: str, several: str) -> str:
    return one if len(sections) == 1 else several
