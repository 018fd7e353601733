"""What is shown to networks where nothing was measured: the most likely continuation of what lies around."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.ndimage

DEPTH = 2
"""Sections of a gap along z, at most, for what lies on both sides of it to say what is in it. Missing sections do not
count."""
FILLED = 32
"""Pixels from tissue to which a section is continued where it has none; beyond there is one grey value."""

Grey = npt.NDArray[Any]
Mask = npt.NDArray[np.bool_]


def filled_in(
    voxels: Grey, known: Mask, image: Mask, grey: float = 0.0, anisotropy: float = 1.0
) -> npt.NDArray[np.float32]:
    """Measured voxels and, where there are none, the most likely continuation of what lies around.

    Between sections on either side of a short gap it is interpolated linearly. Else what is nearer decides: pixels of the
    section itself, as far as `FILLED`, whose mirror image continues it; or sections, which are interpolated or held.

    Args:
        voxels: grey values (z, y, x).
        known: which of them were measured.
        image: which sections hold an image.
        grey: the value of what is far from any tissue.
        anisotropy: pixels that a section is thick.
    """
    result = np.where(known, voxels, np.float32(grey)).astype(np.float32)
    below, above = _nearest_along_z(known)
    place = np.cumsum(image)
    gap = place[above.clip(0)] - image[above.clip(0)] - place[below.clip(0)]
    both = (below >= 0) & (above >= 0) & ~known
    near = both & (gap <= DEPTH)
    _interpolate(result, near, below, above)
    open_ = ~(known | near)
    continued = _continue_sections(result, open_, anisotropy * _sections_to(below, above))
    open_ &= ~continued
    _interpolate(result, open_ & both, below, above)
    held = open_ & ~both & ((below >= 0) | (above >= 0))
    k, y, x = np.nonzero(held)
    result[k, y, x] = result[np.maximum(below, above)[k, y, x], y, x]
    return result


def _sections_to(below: npt.NDArray[Any], above: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Sections from each voxel to the nearest known one along z; infinite where there is none."""
    here = np.arange(len(below))[:, None, None]
    far = np.float32(np.inf)
    return np.minimum(
        np.where(below < 0, far, here - below), np.where(above < 0, far, above - here)
    )


def _nearest_along_z(known: Mask) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """Section of the nearest known voxel at or before each voxel, and at or behind it; -1 where there is none."""
    depth = len(known)
    numbers = np.arange(depth, dtype=np.int32)[:, None, None]
    below = np.maximum.accumulate(np.where(known, numbers, np.int32(-1)), axis=0)
    above = np.minimum.accumulate(np.where(known, numbers, np.int32(depth))[::-1], axis=0)[::-1]
    return below, np.where(above == depth, np.int32(-1), above)


def _interpolate(
    result: npt.NDArray[np.float32], where: Mask, below: npt.NDArray[Any], above: npt.NDArray[Any]
) -> None:
    """Set voxels to the linear interpolation between the known ones below and above them."""
    k, y, x = np.nonzero(where)
    low, high = below[k, y, x], above[k, y, x]
    share = ((k - low) / np.maximum(high - low, 1)).astype(np.float32)
    result[k, y, x] = result[low, y, x] * (1 - share) + result[high, y, x] * share


def _continue_sections(
    result: npt.NDArray[np.float32], open_: Mask, limit: npt.NDArray[np.float32]
) -> Mask:
    """Continue sections into their open pixels as their mirror image, and say which pixels were reached.

    Args:
        result: grey values, which are set.
        open_: the pixels that are to be set.
        limit: pixels as far as which a section is continued, at each of its pixels.
    """
    reached = np.zeros_like(open_)
    for k in np.flatnonzero(open_.any((1, 2)) & ~open_.all((1, 2))):
        distance, nearest = scipy.ndimage.distance_transform_edt(open_[k], return_indices=True)
        reached[k] = open_[k] & (distance <= np.minimum(limit[k], FILLED))
        y, x = np.nonzero(reached[k])
        edge = nearest[:, y, x]
        # as far behind the edge as the pixel is before it, if there is tissue there
        image = [
            np.clip(2 * e - p, 0, n - 1)
            for e, p, n in zip(edge, (y, x), open_[k].shape, strict=True)
        ]
        source = np.where(open_[k][tuple(image)], edge, image)
        result[k, y, x] = result[k][tuple(source)]
    return reached
