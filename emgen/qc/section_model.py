"""Are measured sections slices of the tissue, or means of it? What the measured sections themselves say.

Two signs, neither sure alone; a sum of both is (trials of five tissues, docs/decisions/section-model.md):

- Sections that were held out are restored by either model and predicted through its operator. The mean squared errors
  differ by `gain` (dB): means are predicted better by the mean model by 0.3 to 0.9 dB, slices by less.
- In tissue that looks alike along all axes, slices a distance apart differ as much along z as pixels of one section
  that far apart do in the plane, and means of `factor` pixels as means of `factor` sections. The logarithm of the ratio,
  by either model, is `texture`: means differ less along z.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

Grey = npt.NDArray[Any]

TEXTURE_WEIGHT = 0.5
"""Decibels that one unit of texture is worth: parts slices from means best in the trials."""
LIMIT_DB = 0.31
"""Evidence between slices (at most 0.26) and means (at least 0.37)."""
LEAST_RING_CORRELATION = 0.4
"""Of linear interpolation. Below it, as at factors of 6 and 8, sections tell too little of each other, and the trials
did not part."""
UNDECIDED_DB = -0.03, 0.15
"""Evidence between these tells nothing: slices of six volumes reach 0.12, means of five begin at 0.06. The wider side is
that of the default, slices, where a false alarm would be heard most."""


def tells(ring_correlation: float) -> bool:
    """Whether sections tell enough of each other to say anything.

    Args:
        ring_correlation: of linear interpolation with the sections held out, 24 to 6 pixels.
    """
    return ring_correlation >= LEAST_RING_CORRELATION


def evidence(gain_db: float, texture: float) -> float:
    """How much speaks for means: positive, for slices: negative; in dB. To be asked only where sections tell.

    Args:
        gain_db: PSNR of the mean model's prediction less that of the slice model's.
        texture: see `texture`.
    """
    return gain_db + TEXTURE_WEIGHT * texture - LIMIT_DB


def texture(samples: Iterable[Grey], factor: int) -> float | None:
    """Logarithm of how much sections differ over pixels as far apart, added up over both models.

    Args:
        samples: measured voxels (z, y, x).
        factor: pixels between two sections.

    Returns:
        0 where the tissue looks alike along all axes, halfway between the models; None where samples are too small.
    """
    sums = np.zeros((2, 2))
    for sample in samples:
        depth, height, width = sample.shape
        if depth > 1 and min(height, width) >= 2 * factor:
            centred = sample.astype(np.float64)
            centred -= centred.mean((1, 2), keepdims=True)
            for turned in (centred, centred.swapaxes(1, 2)):
                sums += sample.size * np.array(
                    [_as_slices(turned, factor), _as_means(turned, factor)]
                )
    if not (sums > 0).all():
        return None
    return float(sum(math.log(along_z / in_plane) for along_z, in_plane in sums))


def _as_slices(volume: Grey, factor: int) -> tuple[float, float]:
    return _apart(volume[1:], volume[:-1]), _apart(volume[:, factor:], volume[:, :-factor])


def _as_means(volume: Grey, factor: int) -> tuple[float, float]:
    depth, height, width = volume.shape
    rows = volume[:, : height // factor * factor].reshape(depth, -1, factor, width).mean(2)
    return _apart(rows[1:], rows[:-1]), _apart(rows[:, 1:], rows[:, :-1])


def _apart(a: Grey, b: Grey) -> float:
    """Half the mean squared difference: noise counts alike in both directions."""
    return float(np.square(a - b).mean() / 2)
