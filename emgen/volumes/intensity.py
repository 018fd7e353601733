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

LOW, HIGH = 0.1, 99.9  # percentiles of the grey values: robust against single bright or dead pixels
MIN_TISSUE = (
    0.01  # share of the sampled voxels that must not be blank: of fewer, blank ones are taken too
)
MIN_TISSUE_VARIANCE = (
    0.1  # share of the variance that noise always leaves: an estimate of noise may be too high
)


@dataclass(frozen=True)
class Intensity:
    """A linear scale from grey values to the prior's range; values beyond its ends lie outside, none is clipped.

    Attributes:
        low: grey value that becomes -1.
        high: grey value that becomes +1.
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"low grey value must be below high, found {self.low} and {self.high}")

    @classmethod
    def of(cls, samples: Iterable[npt.NDArray[Any]]) -> Intensity:
        """The scale of a volume: the 0.1 and 99.9 percentiles of its tissue.

        Args:
            samples: arrays (z, y, x) of grey values from all over the volume.

        Raises:
            ValueError: the grey values are not finite, or constant.
        """
        values = tissue(samples)
        if not values.size:
            raise ValueError("expected grey values, found nothing but NaN or infinite ones")
        low, high = np.percentile(values, (LOW, HIGH))
        if low == high:
            low, high = float(values.min()), float(values.max())
        if low == high:
            raise ValueError(
                f"expected an image, found the grey value {low:g} in all sampled voxels; check the file, and input.lost"
            )
        return cls(float(low), float(high))

    def without_noise(self, samples: Iterable[npt.NDArray[Any]], noise: float) -> Self:
        """The scale as it would be without noise, which spreads the grey values around their mean.

        A prior knows tissue at one contrast. Both ends move towards the mean by the factor
        sqrt(1 - noise^2 / variance), of which at least sqrt(0.1) is left.

        Args:
            samples: arrays (z, y, x) that this scale was made of.
            noise: standard deviation of the noise in grey values.
        """
        if noise == 0:
            return self
        values = tissue(samples)
        mean, variance = float(values.mean()), float(values.var())
        if variance == 0:
            return self
        share = max(MIN_TISSUE_VARIANCE, 1 - noise**2 / variance) ** 0.5
        return type(self)(mean + share * (self.low - mean), mean + share * (self.high - mean))

    @property
    def unit(self) -> float:
        """Grey values per half of the prior's range [-1, 1]."""
        return (self.high - self.low) / 2

    @property
    def middle(self) -> float:
        """The grey value that becomes 0."""
        return (self.high + self.low) / 2

    def encode(self, stored: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
        """Grey values of any type and shape in the prior's range, float32."""
        return ((stored.astype(np.float64) - self.low) / self.unit - 1).astype(np.float32)

    def decode(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Values in the prior's range as grey values, not rounded; `store` rounds them.

        `store(decode(encode(v)), v.dtype) == v` for integers up to 16 bits.
        """
        return (values.astype(np.float64) + 1) * self.unit + self.low


def blank(sections: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
    """Which pixels are padding or saturated, and so say nothing of tissue and its noise.

    They lie in a square of 3 x 3 pixels that all have the least, or all the greatest, grey value of their section. What is
    not finite says nothing either.

    Args:
        sections: grey values (..., y, x).

    Returns:
        An array of the same shape.
    """
    square = (*[1] * (sections.ndim - 2), 3, 3)
    nothing = ~np.isfinite(sections)
    ends = (
        [
            f(sections, axis=(-2, -1), keepdims=True, where=~nothing, initial=initial)
            for f, initial in ((np.min, np.inf), (np.max, -np.inf))
        ]
        if nothing.any()
        else [f(sections, axis=(-2, -1), keepdims=True) for f in (np.min, np.max)]
    )
    least, greatest = (scipy.ndimage.grey_opening(sections == end, square) for end in ends)
    either: npt.NDArray[np.bool_] = least | greatest | nothing
    return either


def tissue(samples: Iterable[npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
    """Grey values of samples (z, y, x) that are not `blank`, in one row; all finite ones where nearly all are."""
    sections = [np.atleast_2d(sample) for sample in samples]
    values = np.concatenate([section[~blank(section)] for section in sections])
    few = values.size < MIN_TISSUE * sum(section.size for section in sections)
    if few or values.min() == values.max():
        values = np.concatenate([section[np.isfinite(section)] for section in sections])
    return values.astype(np.float64)


def store(grey: npt.NDArray[Any], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """Grey values as stored voxels: rounded to even and clipped where the type is an integer."""
    kind = np.dtype(dtype)
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        grey = np.clip(np.rint(grey), limits.min, limits.max)
    return grey.astype(kind)
