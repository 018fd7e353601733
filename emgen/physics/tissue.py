"""Where there is tissue: which measured voxels show some, which are holes in it, and which lie outside.

    0  outside: blank, no data, masked, beyond the field. It is never seen by networks, and stays as it was measured
    1  measured
    2  a hole: nothing was measured, but tissue lies around it in its section, or in the sections on either side. It is
       restored from that, and so inferred

A voxel's state depends on the voxels within a margin around it and on nothing else, so that blocks, stitching and
quality control agree about it whatever box each of them looks at. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from emgen.geometry import Box, Zyx, zyx
from emgen.physics.filling import DEPTH, filled_in
from emgen.volumes.measured import Measured
from emgen.volumes.samples import sample_boxes

OUTSIDE, MEASURED, INFERRED = 0, 1, 2
SQUARE = 9
"""Pixels on a side of the least square of a no-data value that is taken for no data: tissue has none of so many equal
ones, but single pixels of any value."""
GROWTH = 12
"""Pixels that no data reach beyond such squares where they go on, as in a corner too narrow for one."""
Grey = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]
States = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Seen:
    """Measured voxels of a box, as networks may see them.

    Attributes:
        voxels: grey values (z, y, x); where nothing was measured they are made up from what lies around.
        states: of each voxel, None where all were measured.
    """

    voxels: Grey
    states: States | None = None

    def within(self, box: Box) -> Seen:
        """A part, given in voxels from the start of this one."""
        states = None if self.states is None else self.states[box.slices]
        return Seen(self.voxels[box.slices], states)

    @property
    def shows_tissue(self) -> bool:
        """Whether anything in it is to be restored."""
        return self.states is None or bool(self.states.any())


@dataclass(frozen=True)
class Tissue:
    """The rule by which a volume's voxels are told apart.

    Attributes:
        shape: measured voxels (z, y, x).
        no_data: grey values that stand for "nothing was measured" wherever they fill squares.
        missing: numbers of the sections that hold no image.
        rim: pixels beside no data that are not trusted: aligned stacks are interpolated, and mix tissue and no data
            there.
        holes: pixels; what is narrower and lies inside tissue is restored.
        anisotropy: pixels that a section is thick.
        always: whether voxels may be absent for other reasons: a mask, missing chunks, NaN.
    """

    shape: Zyx
    no_data: tuple[float, ...] = ()
    missing: tuple[int, ...] = ()
    rim: int = 0
    holes: int = 32
    anisotropy: float = 1.0
    always: bool = False

    @property
    def all_measured(self) -> bool:
        """Whether it is known of the volume as a whole that every voxel was measured."""
        return not (self.no_data or self.missing or self.always)

    @cached_property
    def images(self) -> npt.NDArray[np.int64]:
        """Numbers of the sections that hold an image."""
        return np.setdiff1d(np.arange(self.shape[0]), self.missing)

    def margin(self) -> int:
        """Pixels along y and x, on either side, that a voxel's state depends on."""
        if not (self.no_data or self.always):
            return 0
        local = SQUARE - 1 + GROWTH + self.rim if self.no_data else 0
        return local + self.holes

    def surroundings(self, box: Box) -> Box:
        """The measured voxels that the states within a box depend on."""
        if self.all_measured:
            return box
        first, stop = box.start[0], box.stop[0]
        before, behind = self.images[self.images < first], self.images[self.images >= stop]
        # one more for missing sections: what they hold depends on the states of the next ones with an image
        count = DEPTH * bool(self.no_data or self.always) + bool(self.missing)
        first = int(before[-count:][0]) if len(before) else first
        stop = int(behind[:count][-1]) + 1 if len(behind) else stop
        pixels = self.margin()
        grown = box.grow((0, pixels, pixels)).clip(self.shape)
        return Box((first, *grown.start[1:]), (stop, *grown.stop[1:]))

    def states(self, voxels: Grey, box: Box, absent: Mask | None = None) -> States | None:
        """The state of every voxel of a box; right for those of whom it holds the `surroundings`.

        Args:
            voxels: grey values of the box (z, y, x).
            box: in measured voxels.
            absent: voxels that were not measured, whatever their grey value.

        Returns:
            The states, None where all were measured.
        """
        unknown = self._unknown(voxels, box, absent)
        lost = np.isin(np.arange(box.start[0], box.stop[0]), self.missing)
        unknown[lost] = True
        if not unknown.any():
            return None
        known = ~unknown
        tissue = known | self._holes_in_sections(known, box) | _between(known, ~lost)
        tissue[lost] = _between_images(tissue, ~lost)
        return np.where(known, MEASURED, np.where(tissue, INFERRED, OUTSIDE)).astype(np.uint8)

    def _unknown(self, voxels: Grey, box: Box, absent: Mask | None) -> Mask:
        unknown = np.zeros(box.shape, bool)
        for value in self.no_data:
            unknown |= self._with_rim(self.filled_with(voxels == value, box))
        if voxels.dtype.kind == "f":
            unknown |= ~np.isfinite(voxels)
        if absent is not None:
            unknown |= absent
        return unknown

    def filled_with(self, equal: Mask, box: Box) -> Mask:
        """Where pixels of one value are no data: in squares of them, and what is joined to these."""
        if not equal.any():
            return equal
        # beyond the volume there is no data either: a narrow strip along its edge is the end of a square
        padding = self._beyond(box, SQUARE)
        padded = np.pad(equal, padding, constant_values=True)
        squares = scipy.ndimage.grey_opening(padded, (1, SQUARE, SQUARE))
        squares = squares[_inner(padding, equal.shape)]
        near = np.ones((1, 3, 3), bool)
        joined = scipy.ndimage.binary_dilation(squares, near, iterations=GROWTH, mask=equal)
        return np.asarray(joined, bool)

    def _with_rim(self, filled: Mask) -> Mask:
        size = 2 * self.rim + 1
        return (
            filled
            if size == 1
            else np.asarray(scipy.ndimage.maximum_filter(filled, (1, size, size)))
        )

    def _holes_in_sections(self, known: Mask, box: Box) -> Mask:
        """Closing of each section with a square: what has no room for one, beyond the volume included, is a hole."""
        if self.holes < 2:
            return known
        padding = self._beyond(box, self.holes)
        padded = np.pad(known, padding)
        closed = scipy.ndimage.grey_closing(padded, (1, self.holes, self.holes))
        return np.asarray(closed[_inner(padding, known.shape)])

    def _beyond(self, box: Box, pixels: int) -> list[tuple[int, int]]:
        """Padding of a box by so many pixels where it ends with the volume."""
        ends = zip(box.start[1:], box.stop[1:], self.shape[1:], strict=True)
        return [(0, 0), *((pixels * (a == 0), pixels * (b == n)) for a, b, n in ends)]

    def seen(self, voxels: Grey, around: Box, box: Box, absent: Mask | None, grey: float) -> Seen:
        """The voxels of a box with what nobody measured made up.

        Args:
            voxels: grey values of `around` (z, y, x).
            around: `surroundings` of the box, or as much of them as there is.
            box: in measured voxels.
            absent: see `states`, of `around`.
            grey: the value of what is far from any tissue.
        """
        inside = box.relative_to(around)
        states = self.states(voxels, around, absent)
        if states is None or (states[inside.slices] == MEASURED).all():
            return Seen(voxels[inside.slices])
        sections = np.arange(around.start[0], around.stop[0])
        image = ~np.isin(sections, self.missing)
        filled = filled_in(voxels, states == MEASURED, image, grey, self.anisotropy)
        return Seen(filled, states).within(inside)

    def of_samples(
        self, measured: Measured, samples: Sequence[Grey]
    ) -> tuple[list[Grey], float, float]:
        """Samples of a volume without the sections that show no tissue, NaN where nothing was measured.

        Also the shares of their voxels that lie outside, and in holes.
        """
        shown, outside, inferred = [], 0, 0
        for sample, box in zip(samples, sample_boxes(measured.shape), strict=True):
            states = self.states(sample, box, measured.absent(box))
            if states is not None:
                outside += int((states == OUTSIDE).sum())
                inferred += int((states == INFERRED).sum())
                known = states == MEASURED
                sample = np.where(known, sample, np.nan)[known.any((1, 2))].astype(np.float64)
            shown.append(sample)
        total = sum(sample.size for sample in samples)
        return [sample for sample in shown if sample.size], outside / total, inferred / total


def as_measured(voxels: Grey, states: tuple[States, Grey] | None, field: str = "mean") -> Grey:
    """Output voxels, those that show no tissue with the grey value that was measured nearest to them.

    Args:
        voxels: of a box of the output.
        states: of each, and the grey values measured nearest to them; None where all were measured.
        field: "mean", or "std", which is 0 where there is no tissue.
    """
    if states is None:
        return voxels
    blank = states[1] if field == "mean" else 0
    return np.where(states[0] == OUTSIDE, blank, voxels).astype(voxels.dtype, copy=False)


def _between(known: Mask, image: Mask) -> Mask:
    """Voxels with known ones on both sides along z, in sections with an image, across a gap of `DEPTH` at most."""
    stack = known[image]
    found = np.zeros_like(stack)
    for size in range(1, DEPTH + 1):
        for before in range(1, size + 1):
            behind = size + 1 - before
            if len(stack) > size:
                found[before : len(stack) - behind] |= (
                    stack[: len(stack) - before - behind] & stack[before + behind :]
                )
    result = np.zeros_like(known)
    result[image] = found
    return result


def _between_images(tissue: Mask, image: Mask) -> Mask:
    """Of the sections without an image, the voxels with tissue in the next sections with one on both sides."""
    images, lost = np.flatnonzero(image), np.flatnonzero(~image)
    if not len(images):
        return np.zeros((len(lost), *tissue.shape[1:]), bool)
    place = np.searchsorted(images, lost)
    inner = (place > 0) & (place < len(images))
    below, above = images[(place - 1).clip(0)], images[place.clip(max=len(images) - 1)]
    found: Mask = tissue[below] & tissue[above] & inner[:, None, None]
    return found


def _inner(padding: Sequence[tuple[int, int]], shape: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(a, a + n) for (a, _), n in zip(padding, zyx(shape), strict=True))
