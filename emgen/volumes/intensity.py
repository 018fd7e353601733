"""Stored grey values to the prior's range [-1, 1], and exactly back.

One scaling for the whole volume: a scaling per block would make seams.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.ndimage

LOW, HIGH = 0.1, 99.9  # percentiles: robust against single bright or dead pixels
FEWEST = 0.01  # share of the sampled voxels that must not be blank to speak for all


@dataclass(frozen=True)
class Intensity:
    """The grey values that become -1 and +1; others lie outside, none is clipped."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"low grey value must be below high, found {self.low} and {self.high}")

    @classmethod
    def of(cls, samples: Iterable[npt.NDArray[Any]]) -> Intensity:
        """From arrays (z, y, x) sampled all over a volume, where they are not `blank`.

        Raises:
            ValueError: not finite, or constant.
        """
        values = tissue(samples)
        if not np.isfinite(values).all():
            raise ValueError(
                "expected finite grey values, found NaN or infinite ones; replace them, numpy.nan_to_num does"
            )
        low, high = np.percentile(values, (LOW, HIGH))
        if low == high:
            low, high = float(values.min()), float(values.max())
        if low == high:
            raise ValueError(
                f"expected an image, found the grey value {low:g} in all sampled voxels; check the file, and input.lost"
            )
        return cls(float(low), float(high))

    def without_noise(self, samples: Iterable[npt.NDArray[Any]], noise: float) -> Self:
        """As it would be without noise of this standard deviation, which spreads the grey values around their mean.

        A prior knows tissue at one contrast. At least a tenth of the variance is left to the tissue.
        """
        if noise == 0:
            return self
        values = tissue(samples)
        mean, variance = float(values.mean()), float(values.var())
        if variance == 0:
            return self
        share = max(0.1, 1 - noise**2 / variance) ** 0.5
        return type(self)(mean + share * (self.low - mean), mean + share * (self.high - mean))

    @property
    def unit(self) -> float:
        """Grey values per unit of the prior's range."""
        return (self.high - self.low) / 2

    @property
    def middle(self) -> float:
        """The grey value that becomes 0."""
        return (self.high + self.low) / 2

    def encode(self, stored: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Grey values to the prior's range."""
        return ((stored.astype(np.float64) - self.low) / self.unit - 1).astype(np.float32)

    def decode(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Back to grey values, not rounded.

        `store(decode(encode(v)), v.dtype) == v` for integers up to 16 bits.
        """
        return (values.astype(np.float64) + 1) * self.unit + self.low


def blank(sections: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Pixels (..., y, x) in squares of 3 x 3 that all have the least, or all the greatest, grey value of their section.

    Black or white padding of aligned stacks, or saturated: they say nothing of tissue and its noise.
    """
    square = (*[1] * (sections.ndim - 2), 3, 3)
    least, greatest = (
        scipy.ndimage.grey_opening(sections == f(sections, axis=(-2, -1), keepdims=True), square)
        for f in (np.min, np.max)
    )
    found: npt.NDArray[np.bool_] = least | greatest
    return found


def tissue(samples: Iterable[npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
    """Grey values of samples (z, y, x) that are not blank, in one row; all of them where hardly any is not."""
    sections = [np.atleast_2d(sample) for sample in samples]
    seen = np.concatenate([each[~blank(each)] for each in sections])
    few = seen.size < FEWEST * sum(each.size for each in sections)
    if few or seen.min() == seen.max():
        seen = np.concatenate([each.ravel() for each in sections])
    return seen.astype(np.float64)


def store(grey: npt.NDArray[Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Grey values as stored voxels: rounded to even and clipped where the type is an integer."""
    kind = np.dtype(dtype)
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        grey = np.clip(np.rint(grey), limits.min, limits.max)
    return grey.astype(kind)
