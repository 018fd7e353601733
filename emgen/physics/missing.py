"""Missing sections, which hold no image: detected, read past, and filled from their neighbours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from emgen.errors import EmgenError
from emgen.geometry import Box, Zyx, zyx
from emgen.volumes.measured import Measured
from emgen.volumes.samples import sample_boxes

# places at which every section is looked at first, and pixels on a side of each: 5 x 32 x 32 pixels tell nearly all
# sections that have an image, and what is left is read whole
PLACES, PLACE_WIDTH = 5, 32
BAND = 1 << 24  # pixels of a section that are read at once
MOST_READ = 16  # blank sections at each end of a volume that are read whole
# faint noise: percentiles between which the pixels of a section lie, the most that these may lie apart in parts of what is
# usual, and the fewest sections to tell that from
PIXELS, FAINT, MIN_COMPARED = (5, 95), 0.2, 4

Sections = Sequence[int]
Grey = npt.NDArray[Any]


def detect_missing(measured: Measured) -> tuple[int, ...]:
    """Numbers of the sections without an image: of one grey value all over, of no number at all, or of faint noise.

    A few columns through the volume are read, and whole those sections that show nothing in any of them; of many at the
    ends of the volume, a few.
    """
    columns = [measured.read(box) for box in _columns(measured.shape)]
    flat = np.logical_and.reduce([constant_sections(column) for column in columns])
    usual = Usual.of(np.concatenate([c.reshape(len(c), -1) for c in columns], axis=1)[~flat])
    blank = flat | [usual.is_beside(*(column[k] for column in columns)) for k in range(len(flat))]
    images = np.flatnonzero(~blank)
    if not blank.any() or not len(images):
        return ()
    first, last = int(images[0]), int(images[-1])
    lost = [k for k in range(first, last) if blank[k] and _shows_nothing(measured, k, usual)]
    ends = (range(first - 1, -1, -1), range(last + 1, len(blank)))
    beyond = [k for end in ends for k in _blank_end(measured, end, usual)]
    return tuple(sorted([*lost, *beyond]))


def _columns(shape: Zyx) -> list[Box]:
    depth, height, width = shape
    boxes = []
    for k in range(PLACES):
        corner = [round((n - min(n, PLACE_WIDTH)) * k / (PLACES - 1)) for n in (height, width)]
        stop = [min(a + PLACE_WIDTH, n) for a, n in zip(corner, (height, width), strict=True)]
        boxes.append(Box(zyx([0, *corner]), zyx([depth, *stop])))
    return boxes


def _blank_end(measured: Measured, outwards: range, usual: Usual) -> range:
    """The sections beyond the outermost image, from it on, up to the first that shows something after all."""
    for count, k in enumerate(outwards[:MOST_READ]):
        if not _shows_nothing(measured, k, usual):
            return outwards[:count]
    # what lies beyond so many blank sections is blank
    return outwards


@dataclass(frozen=True)
class Usual:
    """The grey values of sections with an image, by which one of faint noise is told.

    Attributes:
        spread: of a usual section, from one of `PIXELS` to the other; 0 where there are too few to tell.
        low, high: these percentiles themselves.
    """

    spread: float = 0.0
    low: float = 0.0
    high: float = 0.0

    @classmethod
    def of(cls, values: Grey) -> Usual:
        """Of values (sections, pixels)."""
        finite = values[np.isfinite(values).all(axis=1)]
        if len(finite) < MIN_COMPARED:
            return cls()
        low, high = np.percentile(finite, PIXELS, axis=1)
        return cls(float(np.median(high - low)), float(np.median(low)), float(np.median(high)))

    def is_beside(self, *parts: Grey) -> bool:
        """Whether in all parts of a section there is little contrast, and hardly a pixel as dark or bright as usual."""
        if self.spread == 0:
            return False
        for part in parts:
            if not np.isfinite(part).all():
                return False
            low, high = np.percentile(part, PIXELS)
            if not (high - low < FAINT * self.spread and (high < self.low or low > self.high)):
                return False
        return True


def _shows_nothing(measured: Measured, k: int, usual: Usual) -> bool:
    """Whether section k has one value all over, or faint noise, read in bands until one shows something."""
    _, height, width = measured.shape
    rows, values = max(1, BAND // width), set()
    constant = faint = True
    for top in range(0, height, rows):
        band = measured.read(Box((k, top, 0), (k + 1, min(top + rows, height), width)))
        values.add(float(band.flat[0]) if np.isfinite(band.flat[0]) else None)
        constant = constant and bool(constant_sections(band)[0]) and len(values) == 1
        faint = faint and usual.is_beside(band)
        if not constant and not faint:
            return False
    return True


def resolve_missing(measured: Measured, setting: Literal["auto"] | Sections) -> tuple[int, ...]:
    """Numbers of the missing sections that the setting `input.lost` names, or asks to detect.

    Raises:
        EmgenError: as `check_missing` does.
    """
    if setting == "auto":
        return detect_missing(measured)
    return check_missing(setting, measured.shape[0])


def check_missing(missing: Sections, depth: int) -> tuple[int, ...]:
    """Section numbers in rising order and without repetition.

    Args:
        missing: as the user gives them.
        depth: sections of the volume.

    Raises:
        EmgenError: there is no such section, or none is left.
    """
    numbers = tuple(sorted(set(missing)))
    if numbers and numbers[-1] >= depth:
        raise EmgenError(
            f"input.lost: section {numbers[-1]} does not exist; the input has {depth}, counted from 0"
        )
    if len(numbers) == depth:
        raise EmgenError(f"input.lost: all {depth} sections of the input are said to be lost")
    return numbers


def drop_missing(samples: Sequence[Grey], shape: Zyx, missing: Sections) -> list[Grey]:
    """Samples of a volume without its missing sections.

    Args:
        samples: arrays (z, y, x) at the places of `sample_boxes(shape)`.
        shape: voxels of the volume (z, y, x).
        missing: numbers of its missing sections.

    Returns:
        The samples that have sections left, with these.
    """
    kept = [
        sample[~np.isin(np.arange(box.start[0], box.stop[0]), missing)]
        for sample, box in zip(samples, sample_boxes(shape), strict=True)
    ]
    return [sample for sample in kept if sample.size]


def expand_past_missing(support: Box, missing: Sections, depth: int) -> Box:
    """A box of measured voxels, grown along z until its first and last sections have an image, or none lies beyond.

    Args:
        support: the box.
        missing: numbers of the missing sections.
        depth: sections of the volume.
    """
    first, last, numbers = support.start[0], support.stop[0] - 1, set(missing)
    images = [k for k in range(depth) if k not in numbers]
    if not images:
        return support
    while first in numbers and first > images[0]:
        first -= 1
    while last in numbers and last < images[-1]:
        last += 1
    return Box((first, *support.start[1:]), (last + 1, *support.stop[1:]))


def fill_missing(
    measured: npt.NDArray[np.generic], first: int, missing: Sections
) -> npt.NDArray[np.generic]:
    """Measured sections, the missing ones interpolated linearly from those before and behind.

    Beyond the outermost sections with an image their value is held.

    Args:
        measured: grey values (z, y, x).
        first: number of the first of these sections in the volume.
        missing: numbers of the volume's missing sections.

    Returns:
        float32 (z, y, x); `measured` itself where none of its sections is missing, or all are.
    """
    empty = np.isin(np.arange(first, first + len(measured)), missing)
    if not empty.any() or empty.all():
        return measured
    images = np.flatnonzero(~empty)
    result = measured.astype(np.float32)
    for k in np.flatnonzero(empty):
        place = np.interp(k, images, np.arange(len(images)))
        below, above = images[int(place)], images[min(int(place) + 1, len(images) - 1)]
        share = np.float32(place - int(place))
        result[k] = result[below] * (1 - share) + result[above] * share
    return result


def constant_sections(sections: npt.NDArray[np.generic]) -> npt.NDArray[np.bool_]:
    """Which sections of an array (z, y, x) have one value all over, or no number at all."""
    flat = sections.reshape(len(sections), -1)
    constant: npt.NDArray[np.bool_] = (flat == flat[:, :1]).all(axis=1)
    if flat.dtype.kind == "f":
        constant |= ~np.isfinite(flat).any(axis=1)
    return constant
