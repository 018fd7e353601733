"""Where measured voxels lie among the output voxels, stated once for operators, modes and the grid. Needs no torch.

output voxels   |  .  .  .  [ box . . . . . . . . ]  .  .  |
measured voxels |     o     o  [ footprint  o ]    o       |   measured voxels that the box determines wholly
                           [ support . . . . . . ]             measured voxels that the box is interpolated from
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from emgen.geometry import Box, Zyx, zyx
from emgen.physics import interpolation

Reach = tuple[int, int]
"""The first and the last output voxel that measured voxel 0 is made of, on one axis."""
ITSELF: Reach = (0, 0)
FWHM_PER_SIGMA = math.sqrt(8 * math.log(2))
"""Full width at half maximum of a Gaussian, in standard deviations."""
GAUSSIAN_REACH = 3
"""Standard deviations after which a Gaussian section is cut off: 0.3 % of its weight lies beyond."""


@dataclass(frozen=True)
class Acquisition:
    """How measured voxels lie on the grid of output voxels, axis by axis (z, y, x).

    Attributes:
        scale: output voxels per measured voxel.
        reach: the output voxels that measured voxel 0 is made of; voxel k is made of those `k * scale` further on.
    """

    scale: Zyx = (1, 1, 1)
    reach: tuple[Reach, Reach, Reach] = (ITSELF, ITSELF, ITSELF)

    @property
    def centre(self) -> tuple[float, float, float]:
        """Where the middle of measured voxel 0 lies, in output voxels (z, y, x)."""
        z, y, x = ((first + last) / 2 for first, last in self.reach)
        return z, y, x

    def output_shape(self, measured_shape: Sequence[int]) -> Zyx:
        """Shape of the output volume of a measured one: the physical extent is kept."""
        return zyx([n * s for n, s in zip(measured_shape, self.scale, strict=True)])

    def measured_shape(self, shape: Sequence[int]) -> Zyx:
        """Shape of the measured volume whose output has `shape`."""
        return zyx([n // s for n, s in zip(shape, self.scale, strict=True)])

    def footprint(self, box: Box, shape: Zyx) -> Box:
        """The measured voxels wholly determined by a box of an output volume of `shape`; it may be empty."""
        intervals = [self._determined(axis, box, shape) for axis in range(3)]
        start = [max(a, 0) for a, _ in intervals]
        stop = [max(a, b) for a, (_, b) in zip(start, intervals, strict=True)]
        return Box(zyx(start), zyx(stop))

    def support(self, box: Box, measured_shape: Zyx) -> Box:
        """The measured voxels between which every voxel of a box of the output is interpolated."""
        return interpolation.support(box, self.scale, self.centre, measured_shape)

    def _determined(self, axis: int, box: Box, shape: Zyx) -> tuple[int, int]:
        scale, (first, last) = self.scale[axis], self.reach[axis]
        start, stop = box.start[axis], box.stop[axis]
        # At a true end of the volume the border rule folds the reach back into the box.
        lower = 0 if start == 0 else -((first - start) // scale)
        at_end = stop == shape[axis]
        upper = shape[axis] // scale if at_end else (stop - 1 - last) // scale + 1
        return lower, upper


def same_voxels() -> Acquisition:
    """Measured voxels are output voxels."""
    return Acquisition()


def one_section(factor: int) -> Acquisition:
    """Measured section k is output section `k * factor`."""
    return Acquisition((factor, 1, 1))


def mean_of_sections(factor: int) -> Acquisition:
    """Measured section k is made of output sections `k * factor` to `(k + 1) * factor - 1`."""
    return Acquisition((factor, 1, 1), ((0, factor - 1), ITSELF, ITSELF))


def gaussian_section(factor: int, fwhm: float) -> Acquisition:
    """Measured section k is a Gaussian mean around the middle of its span; `fwhm` in output sections."""
    middle = (factor - 1) / 2
    radius = max(GAUSSIAN_REACH * fwhm / FWHM_PER_SIGMA, 0.5)
    span = (math.ceil(middle - radius), math.floor(middle + radius))
    return Acquisition((factor, 1, 1), (span, ITSELF, ITSELF))


def coarser_pixels(factor: int) -> Acquisition:
    """Measured pixels are `factor` x `factor` output pixels of a section."""
    return Acquisition((1, factor, factor), (ITSELF, (0, factor - 1), (0, factor - 1)))


def blurred_pixels(height: int, width: int) -> Acquisition:
    """Measured pixels see `height` x `width` output pixels around their own, both odd."""
    y, x = height // 2, width // 2
    return Acquisition(reach=(ITSELF, (-y, y), (-x, x)))
