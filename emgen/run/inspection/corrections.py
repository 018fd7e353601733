"""What is set right on reading, where the settings ask for it: decided once, from the traces of all sections."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from emgen.config.input import Input
from emgen.config.restore import Restore
from emgen.run.inspection.hot_pixels import threshold
from emgen.run.inspection.look import Look, around, nanmedian
from emgen.volumes.corrected import Corrections
from emgen.volumes.measured import Measured

# Sections around one whose median it is brought to: jumps from section to section go, and what changes over more stays
AROUND = 31
MOST_GAIN = 2.0  # and least, 1/2: beyond it noise is all that would be seen


def decide(
    measured: Measured, settings: Input, lost: tuple[int, ...], no_data: tuple[float, ...]
) -> Corrections | None:
    """The corrections of a volume; None where the settings ask for none.

    Args:
        measured: as it is stored.
        settings: `input`.
        lost: numbers of the sections that hold no image.
        no_data: grey values that stand for no data.
    """
    if settings.equalise == "none" and settings.hot_pixels == "keep":
        return None
    look = Look.at(measured, Restore(), lost, every=settings.equalise == "sections")
    corrections = Corrections(kept=no_data)
    if settings.hot_pixels == "remove" and look.planes:
        corrections = replace(corrections, hot=threshold(look.planes))
    if settings.equalise == "sections":
        gain, offset = _evened(look)
        corrections = replace(corrections, gain=gain, offset=offset)
    return corrections


def _evened(look: Look) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Gain and offset that bring middle and contrast of every section to those around it."""
    quantiles = np.where(look.seen[:, :, None], look.traces.quantiles, np.nan)
    middle = nanmedian(quantiles[..., 1:4].mean(axis=-1))
    width = nanmedian(quantiles[..., 4] - quantiles[..., 0])
    gain = np.clip(around(width, AROUND) / np.maximum(width, 1e-6), 1 / MOST_GAIN, MOST_GAIN)
    offset = around(middle, AROUND) - gain * middle
    known = np.isfinite(gain) & np.isfinite(offset)
    return (
        tuple(np.where(known, gain, 1.0).round(6).tolist()),
        tuple(np.where(known, offset, 0.0).round(6).tolist()),
    )
