"""Which grey values of a volume stand for "nothing was measured"."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from emgen.geometry import Zyx

LARGE = 16
"""Pixels on a side of squares of one grey value by which that value is found out to stand for no data."""
MIN_SHARE, MIN_CONCENTRATED = 5e-4, 0.5
"""Of all sampled voxels, the share that such squares must fill; and the share of the voxels of a least or greatest grey
value that must lie in them: saturated tissue has many elsewhere. In saturated scans that share is at most 0.4."""

Grey = npt.NDArray[Any]


def find_no_data(samples: Sequence[Grey], setting: float | str) -> tuple[float, ...]:
    """The grey values that stand for no data in a volume.

    A value does that fills large squares of sections. The least and the greatest grey value may fill some because tissue
    is saturated; then they are found outside of squares as well.

    Args:
        samples: arrays (z, y, x) from all over the volume.
        setting: of `input.no_data`.
    """
    if isinstance(setting, int | float):
        return (float(setting),)
    if setting == "none":
        return ()
    total = sum(sample.size for sample in samples)
    found = [value for value, count in _in_squares(samples).items() if count >= MIN_SHARE * total]
    ends = _ends(samples) if found else (0.0, 0.0)
    if ends[0] == ends[1]:  # nothing else is there
        return ()
    return tuple(
        sorted(value for value in found if value not in ends or _is_concentrated(samples, value))
    )


def _in_squares(samples: Sequence[Grey]) -> dict[float, int]:
    """Grey values that fill large squares of sections, and how many voxels of each lie in such squares."""
    inside: dict[float, int] = {}
    for sample in samples:
        window = _window(sample)
        least = scipy.ndimage.minimum_filter(sample, window)
        greatest = scipy.ndimage.maximum_filter(sample, window)
        for value in np.unique(least[least == greatest]):
            inside[float(value)] = inside.get(float(value), 0) + _squares(sample, value)
    return inside


def _squares(sample: Grey, value: float) -> int:
    return int(scipy.ndimage.grey_opening(sample == value, _window(sample)).sum())


def _window(sample: Grey) -> Zyx:
    side = min(LARGE, *sample.shape[1:])
    return (1, side, side)


def _is_concentrated(samples: Sequence[Grey], value: float) -> bool:
    """Whether most voxels of a grey value lie in large squares of it."""
    voxels = sum(int((sample == value).sum()) for sample in samples)
    return sum(_squares(sample, value) for sample in samples) >= MIN_CONCENTRATED * voxels


def _ends(samples: Sequence[Grey]) -> tuple[float, float]:
    """The least and the greatest finite grey value."""
    finite = [part for part in (sample[np.isfinite(sample)] for sample in samples) if part.size]
    return min(float(part.min()) for part in finite), max(float(part.max()) for part in finite)
