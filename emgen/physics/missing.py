"""Sections that hold no image: found, read around, and filled for whoever interpolates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from emgen.errors import EmgenError
from emgen.geometry import Box, Zyx, zyx
from emgen.volumes.measured import Measured
from emgen.volumes.samples import sample_boxes

COLUMNS, WIDTH = 5, 32  # places that every section is looked at, and pixels on a side of each
BAND = 1 << 24  # pixels of a section that are read at once

Sections = Sequence[int]
Grey = npt.NDArray[Any]


def detect_missing(measured: Measured) -> tuple[int, ...]:
    """Sections of one grey value all over, or of no number at all, between others that have an image.

    A few columns through the volume are read, and every section that is constant in all of them.
    """
    depth, height, width = measured.shape
    suspects = np.ones(depth, bool)
    for k in range(COLUMNS):
        along = [round((n - min(n, WIDTH)) * k / (COLUMNS - 1)) for n in (height, width)]
        stop = [min(a + WIDTH, n) for a, n in zip(along, (height, width), strict=True)]
        suspects &= constant_sections(measured.read(Box(zyx([0, *along]), zyx([depth, *stop]))))
        if not suspects.any():
            return ()
    image = np.flatnonzero(~suspects)
    inner = [int(k) for k in np.flatnonzero(suspects) if len(image) and image[0] < k < image[-1]]
    return tuple(k for k in inner if _lost(measured, k))


def _lost(measured: Measured, k: int) -> bool:
    """Whether section k is constant, looked at in bands until one is not."""
    _, height, width = measured.shape
    rows, values = max(1, BAND // width), set()
    for top in range(0, height, rows):
        band = measured.read(Box((k, top, 0), (k + 1, min(top + rows, height), width)))
        values.add(float(band.flat[0]) if np.isfinite(band.flat[0]) else None)
        if not constant_sections(band)[0] or len(values) > 1:
            return False
    return True


def resolve_missing(measured: Measured, wanted: Literal["auto"] | Sections) -> tuple[int, ...]:
    """The lost sections that `input.lost` says or asks to find. Raises `EmgenError` as `check_missing` does."""
    return (
        detect_missing(measured) if wanted == "auto" else check_missing(wanted, measured.shape[0])
    )


def drop_missing(samples: Sequence[Grey], shape: Zyx, gone: Sections) -> list[Grey]:
    """Samples at the places of `sample_boxes(shape)`, less the lost sections; those of which none is left are left out."""
    kept = [
        sample[~np.isin(np.arange(box.start[0], box.stop[0]), gone)]
        for sample, box in zip(samples, sample_boxes(shape), strict=True)
    ]
    return [sample for sample in kept if sample.size]


def check_missing(lost: Sections, depth: int) -> tuple[int, ...]:
    """Rising and without repetition.

    Raises:
        EmgenError: there is no such section, or none is left.
    """
    found = tuple(sorted(set(lost)))
    if found and found[-1] >= depth:
        raise EmgenError(
            f"input.lost: section {found[-1]} does not exist; the input has {depth}, counted from 0"
        )
    if len(found) == depth:
        raise EmgenError(f"input.lost: all {depth} sections of the input are said to be lost")
    return found


def expand_past_missing(support: Box, lost: Sections, depth: int) -> Box:
    """The support, grown along z until its first and last sections have an image, or end the volume."""
    first, last, missing = support.start[0], support.stop[0] - 1, set(lost)
    while first in missing and first > 0:
        first -= 1
    while last in missing and last < depth - 1:
        last += 1
    return Box((first, *support.start[1:]), (last + 1, *support.stop[1:]))


def fill_missing(
    measured: npt.NDArray[np.generic], first: int, lost: Sections
) -> npt.NDArray[np.generic]:
    """Measured sections from number `first` on, the lost ones interpolated linearly from those that are not.

    Beyond the outermost of these their value is held. Where none is lost it is `measured` itself.
    """
    missing = np.isin(np.arange(first, first + len(measured)), lost)
    if not missing.any() or missing.all():
        return measured
    there = np.flatnonzero(~missing)
    result = measured.astype(np.float32)
    for k in np.flatnonzero(missing):
        place = np.interp(k, there, np.arange(len(there)))
        below, above = there[int(place)], there[min(int(place) + 1, len(there) - 1)]
        share = np.float32(place - int(place))
        result[k] = result[below] * (1 - share) + result[above] * share
    return result


def constant_sections(sections: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    """Which sections (z, y, x) have one value all over, or no number at all."""
    flat = sections.reshape(len(sections), -1)
    found: npt.NDArray[np.bool_] = (flat == flat[:, :1]).all(axis=1)
    if flat.dtype.kind == "f":
        found |= ~np.isfinite(flat).any(axis=1)
    return found
