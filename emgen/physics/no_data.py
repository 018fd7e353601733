"""Which grey values of a volume stand for "nothing was measured", and how far they are mixed into tissue."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from emgen.geometry import Box, Zyx
from emgen.physics.tissue import Tissue
from emgen.volumes.samples import sample_boxes

LARGE = 16
"""Pixels on a side of squares of one grey value by which that value is found out to stand for no data."""
MIN_SHARE, MIN_CONCENTRATED = 5e-4, 0.95
"""Of all sampled voxels, the share that such squares must fill; and the share of the voxels of a least or greatest grey
value that must be joined to squares of it: saturated tissue has many elsewhere. In scans with wide saturated areas that
share is at most 0.86; where a field ends it is 1."""
WIDEST_RIM = 3
"""Pixels beside no data that are looked at for a mixture of both: splines of third order reach two pixels."""
MIXED = 0.85
"""Distance of a ring of pixels from the no-data value, in parts of that of tissue, below which it is a mixture. A linear
interpolation leaves a half on average."""
MIN_RING = 100  # pixels of a ring: their mean is known to a tenth of the tissue's contrast

Grey = npt.NDArray[Any]


def no_data_of(
    samples: Sequence[Grey], shape: Zyx, setting: float | str, missing: Sequence[int]
) -> tuple[tuple[float, ...], int]:
    """The grey values that stand for no data in a volume, and the pixels beside them that are not to be trusted.

    Args:
        samples: arrays (z, y, x) at the places of `sample_boxes(shape)`.
        shape: voxels of the volume (z, y, x).
        setting: of `input.no_data`.
        missing: numbers of the sections that hold no image, which are not looked at.
    """
    shown = [
        (sample[~np.isin(np.arange(box.start[0], box.stop[0]), missing)], box)
        for sample, box in zip(samples, sample_boxes(shape), strict=True)
    ]
    shown = [(sample, box) for sample, box in shown if sample.size]
    samples, boxes = [sample for sample, _ in shown], [box for _, box in shown]
    no_data = find_no_data(samples, boxes, shape, setting)
    return no_data, rim_of(samples, boxes, shape, no_data)


def find_no_data(
    samples: Sequence[Grey], boxes: Sequence[Box], shape: Zyx, setting: float | str
) -> tuple[float, ...]:
    """The grey values that stand for no data in a volume.

    A value does that fills large squares of sections. The least and the greatest grey value may fill some because tissue
    is saturated; then they are found outside of squares as well.

    Args:
        samples: arrays (z, y, x) from all over the volume.
        boxes: where they are.
        shape: voxels of the volume (z, y, x).
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

    def is_saturation(value: float) -> bool:
        filled = [_filled(s, box, shape, value) for s, box in zip(samples, boxes, strict=True)]
        voxels = sum(int((sample == value).sum()) for sample in samples)
        return value in ends and sum(int(f.sum()) for f in filled) < MIN_CONCENTRATED * voxels

    return tuple(sorted(value for value in found if not is_saturation(value)))


def rim_of(
    samples: Sequence[Grey], boxes: Sequence[Box], shape: Zyx, no_data: Sequence[float]
) -> int:
    """Pixels beside no data in which it is mixed with tissue, as interpolation does where stacks are aligned.

    Args:
        samples, boxes, shape: as of `find_no_data`.
        no_data: the grey values that stand for no data.
    """
    widest = 0
    for value in no_data:
        rings: list[list[Grey]] = [[] for _ in range(WIDEST_RIM + 2)]
        for sample, box in zip(samples, boxes, strict=True):
            filled = _filled(sample, box, shape, value)
            if filled.any():
                for ring, more in zip(rings, _rings(sample, filled), strict=True):
                    ring.append(more)
        *near, far = (np.concatenate(ring) if ring else np.zeros(0) for ring in rings)
        usual = abs(float(far.mean()) - value) if len(far) >= MIN_RING else 0.0
        mixed = [
            k + 1
            for k, ring in enumerate(near)
            if len(ring) >= MIN_RING and abs(float(ring.mean()) - value) < MIXED * usual
        ]
        widest = max([widest, *mixed])
    return min(widest, WIDEST_RIM)


def _rings(sample: Grey, filled: npt.NDArray[np.bool_]) -> list[Grey]:
    """Finite grey values at each distance up to one more than `WIDEST_RIM`, and those a little further in the last."""
    rings, before = [], filled
    for distance in [*range(1, WIDEST_RIM + 2), 3 * WIDEST_RIM]:
        size = 2 * distance + 1
        within = scipy.ndimage.maximum_filter(filled, (1, size, size))
        values = sample[within & ~before]
        rings.append(values[np.isfinite(values)].astype(np.float64))
        before = within
    return rings


def _filled(sample: Grey, box: Box, shape: Zyx, value: float) -> npt.NDArray[np.bool_]:
    return Tissue(shape).filled_with(sample == value, box)


def _in_squares(samples: Sequence[Grey]) -> dict[float, int]:
    """Grey values that fill large squares of sections, and how many voxels of each lie in such squares."""
    inside: dict[float, int] = {}
    for sample in samples:
        window = _window(sample)
        least = scipy.ndimage.minimum_filter(sample, window)
        greatest = scipy.ndimage.maximum_filter(sample, window)
        for value in np.unique(least[least == greatest]):
            squares = scipy.ndimage.grey_opening(sample == value, window)
            inside[float(value)] = inside.get(float(value), 0) + int(squares.sum())
    return inside


def _window(sample: Grey) -> Zyx:
    side = min(LARGE, *sample.shape[1:])
    return (1, side, side)


def _ends(samples: Sequence[Grey]) -> tuple[float, float]:
    """The least and the greatest finite grey value."""
    finite = [part for part in (sample[np.isfinite(sample)] for sample in samples) if part.size]
    return min(float(part.min()) for part in finite), max(float(part.max()) for part in finite)
