"""The noise of a measurement: its standard deviation at every grey value, given by the user or estimated.

All standard deviations are in grey values; samples are arrays (z, y, x) of measured voxels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from emgen.config.restore import NoiseSetting, PoissonGaussian
from emgen.volumes.intensity import blank, tissue

MEDIAN_OF_GAUSSIAN = 0.6745  # median of |g| for a standard Gaussian g: the 0.75 quantile of g
MASK_NORM = 6  # Euclidean norm of Immerkaer's mask: 36 is the sum of its squared weights
# Bins are quantiles of the local mean. From 500 pixels a median absolute deviation tells a standard deviation to
# about 5 % (1.17 / sqrt(n)); 24 bins are enough for a line.
GREY_BINS, PIXELS_PER_BIN = 24, 500
MIN_BINS = 3  # a line through two points would fit any noise
# Detector response and scan smear noise over neighbours along x, less along y. Pixels at least as far away as
# NEIGHBOURHOOD (y, x) along an axis are taken as free of a pixel's noise; PREDICTOR_RING more rings of them predict it.
NEIGHBOURHOOD = (2, 3)
PREDICTOR_RING = 2
MAX_SECTIONS = 48  # 8e5 pixels in samples of 128 x 128: the deviation of so many is known to 0.1 %, 1 / sqrt(2 n)
MIN_RELATIVE_DEVIATION = (
    0.1  # of that at mid-grey: a fitted line may fall to 0 in the dark, noise does not
)

Grey = npt.NDArray[Any]


@dataclass(frozen=True)
class NoiseModel:
    """Poisson-Gaussian noise, sigma(g)^2 = max(sigma^2 + gain (g - middle), floor^2) at grey value g.

    Attributes:
        sigma: standard deviation at the grey value `middle`, in grey values. For correlated noise that of white
            noise which hides as much tissue.
        gain: grey values per electron counted; 0 for noise that is the same everywhere.
        middle: the grey value that becomes 0 in the prior's range.
        floor: standard deviation where no electron is counted, in grey values.
        correlation_ratio: true standard deviation of the noise divided by `sigma`: 1 for white noise, less where
            neighbouring pixels share their noise.
    """

    sigma: float
    gain: float = 0.0
    middle: float = 0.0
    floor: float = 0.0
    correlation_ratio: float = 1.0

    @classmethod
    def from_setting(cls, noise: NoiseSetting, samples: Sequence[Grey], middle: float) -> Self:
        """The noise that the setting `restore.noise` gives, estimated from samples where it asks for that.

        Args:
            noise: "auto", "poisson", "correlated", a standard deviation, or gain, sigma and black.
            samples: arrays (z, y, x) of the input.
            middle: see `NoiseModel`.
        """
        match noise:
            case "auto":
                return cls(white_noise(samples), 0.0, middle)
            case "correlated":
                deviation, low_frequency = correlated_noise(samples)
                # empirical: white noise of the geometric mean of the two hides about as much tissue
                level = (deviation * low_frequency) ** 0.5
                model = cls.estimated(samples, middle).rescaled_to(level, samples)
                return replace(model, correlation_ratio=deviation / level) if level else model
            case "poisson":
                return cls.estimated(samples, middle)
            case PoissonGaussian():
                variance = noise.sigma**2 + noise.gain * max(middle - noise.black, 0.0)
                return cls(variance**0.5, noise.gain, middle, noise.sigma)
            case _:
                return cls(float(noise), 0.0, middle)

    @classmethod
    def estimated(cls, samples: Iterable[Grey], middle: float) -> Self:
        """Fit gain and sigma to samples: a line through the local noise variance at every local mean.

        The method of Foi et al., IEEE Transactions on Image Processing 17 (2008), with the response to the mask of
        Immerkaer (1996) in place of wavelets. Without a rising line the noise is taken to be the same everywhere;
        it is 0 where all sections are too small.

        Args:
            samples: arrays (z, y, x).
            middle: see `NoiseModel`.
        """
        local = [_local(*shown) for shown in _varied(samples) if min(shown[0].shape) > 4]
        if not any(mean.size for mean, _ in local):
            return cls(0.0, 0.0, middle)
        mean, response = (np.concatenate(values) for values in zip(*local, strict=True))
        bins = min(GREY_BINS, len(mean) // PIXELS_PER_BIN)
        edges = np.unique(np.quantile(mean, np.linspace(0.01, 0.99, bins + 1)))
        number = np.searchsorted(edges, mean) - 1
        points = [
            (mean[number == k].mean(), _deviation(response[number == k]) ** 2)
            for k in range(len(edges) - 1)
            if (number == k).sum() >= PIXELS_PER_BIN / 2
        ]
        sigma = _deviation(response)
        if len(points) < MIN_BINS:
            return cls(sigma, 0.0, middle)
        g, variance = np.array(points).T
        gain, at_middle = np.polyfit(g - middle, variance, 1)
        if gain <= 0 or at_middle <= 0:
            return cls(sigma, 0.0, middle)
        return cls(float(at_middle**0.5), float(gain), middle)

    def rescaled_to(self, level: float, samples: Sequence[Grey]) -> Self:
        """This noise multiplied by one number at all grey values, so that its `rms` over the samples is `level`.

        Where there is no noise to multiply it is `level` at all grey values. The result counts as white.
        """
        rms = self.rms(samples)
        if rms == 0:
            return type(self)(level, 0.0, self.middle)
        share = level / rms
        return type(self)(self.sigma * share, self.gain * share**2, self.middle, self.floor * share)

    def amplified(self, power: float) -> Self:
        """Noise of the same kind with `power` times the variance at every grey value."""
        return replace(
            self,
            sigma=self.sigma * power**0.5,
            gain=self.gain * power,
            floor=self.floor * power**0.5,
        )

    @property
    def true_sigma(self) -> float:
        """The noise's own standard deviation at `middle`, in grey values."""
        return self.correlation_ratio * self.sigma

    @property
    def is_correlated(self) -> bool:
        """Whether neighbouring pixels share the noise, as in fast scans."""
        return self.correlation_ratio != 1

    def at(self, grey: Grey) -> npt.NDArray[np.float32]:
        """Standard deviation in grey values at every grey value, an array of the shape of `grey`."""
        variance = self.sigma**2 + self.gain * (grey.astype(np.float64) - self.middle)
        floor = max(self.floor, MIN_RELATIVE_DEVIATION * self.sigma)
        return np.sqrt(np.maximum(variance, floor**2)).astype(np.float32)

    def rms(self, samples: Iterable[Grey]) -> float:
        """Root mean square of the standard deviation over the tissue in samples (z, y, x), in grey values."""
        if self.gain == 0:
            return self.sigma
        return float(np.square(self.at(tissue(samples)), dtype=np.float64).mean() ** 0.5)


def white_noise_of(section: Grey) -> float:
    """Standard deviation of white noise in one section (y, x), in grey values; 0 where the section is too small.

    Immerkaer, Computer Vision and Image Understanding 64 (1996): the response to the difference of two Laplacians,
    a mask that planes and straight edges along an axis do not excite. The median of the response is taken in place
    of its mean, so that membranes do not count as noise, and only where the section is not blank.
    """
    return _white_noise_of(*_shown(section))


def _white_noise_of(section: Grey, hidden: Grey) -> float:
    if min(section.shape) < 3:
        return 0.0
    return _deviation(_response(section)[~hidden[1:-1, 1:-1]])


def white_noise(samples: Sequence[Grey]) -> float:
    """Median over all sections of samples (z, y, x) of their white noise, in grey values; 0 without sections."""
    deviations = [_white_noise_of(*shown) for shown in _varied(samples)]
    return float(np.median(deviations)) if deviations else 0.0


def correlated_noise(samples: Sequence[Grey]) -> tuple[float, float]:
    """Standard deviation of noise that neighbouring pixels may share, and the level of its lowest frequencies.

    Fast scans have such noise, because the detector answers more slowly than the beam moves on; `white_noise` measures
    a part of it only. Every pixel is predicted linearly from pixels outside its `NEIGHBOURHOOD`. What the
    prediction leaves is noise and the finest detail, so that the result is somewhat too high where there is little
    noise.

    Args:
        samples: arrays (z, y, x).

    Returns:
        The standard deviation of the noise, and that of white noise with the same spectral density at frequency 0
        (the root of the sum of the autocovariance), both in grey values. Both are `white_noise` where all sections
        are too small.
    """
    reach = [n + PREDICTOR_RING for n in NEIGHBOURHOOD]
    varied = [shown for shown in _varied(samples) if min(shown[0].shape) > 4 * max(reach)]
    varied = varied[:: max(1, len(varied) // MAX_SECTIONS)]
    sections = [(section.astype(np.float64), hidden) for section, hidden in varied]
    white = white_noise(samples)
    if not sections:
        return white, white
    mean = float(np.mean([section.mean() for section, _ in sections]))
    power: Grey = np.zeros(())
    cross: Grey = np.zeros(())
    for section, hidden in sections:
        pixels, predictors, _ = _predictors(section - mean, hidden, reach)
        power, cross = power + predictors @ predictors.T, cross + predictors @ pixels.ravel()
    if not power.any():  # no pixel is far enough from blank ones
        return white, white
    weights = np.linalg.solve(power + 1e-9 * np.trace(power) * np.eye(len(power)), cross)
    variance = density = visible = 0.0
    for section, hidden in sections:
        pixels, predictors, share = _predictors(section - mean, hidden, reach)
        residual = pixels - (weights @ predictors).reshape(pixels.shape)
        visible += share / len(sections)
        variance += float(np.square(residual).mean()) / len(sections)
        density += sum(
            _autocovariance(residual, *shift) for shift in np.ndindex(*NEIGHBOURHOOD)
        ) / len(sections)
    return (variance / visible) ** 0.5, (max(density, variance) / visible) ** 0.5


def _varied(samples: Iterable[Grey]) -> Iterator[tuple[Grey, Grey]]:
    """Sections (y, x) of samples (z, y, x) that have more than one grey value, as `_shown`."""
    each = (_shown(section) for sample in samples for section in sample)
    return ((section, hidden) for section, hidden in each if section.max() > section.min())


def _shown(section: Grey) -> tuple[Grey, Grey]:
    """A section (y, x), and which of its pixels are `blank`; where nothing was measured it has the mean of the rest."""
    hidden, measured = blank(section), np.isfinite(section)
    if measured.all():
        return section, hidden
    hidden = scipy.ndimage.maximum_filter(hidden, 3)
    mean = section[measured].mean() if measured.any() else 0.0
    return np.where(measured, section, mean), hidden


def _predictors(section: Grey, hidden: Grey, reach: list[int]) -> tuple[Grey, Grey, float]:
    """The pixels of a section that can be predicted, and what predicts them.

    Args:
        section: grey values (y, x) less their mean.
        hidden: which pixels do not count (y, x).
        reach: how far away predictors lie at most (y, x).

    Returns:
        Pixels at least `reach` from the border (y, x); their predictors (offsets, pixels); and the share of the
        pixels that count. Pixels near blank ones do not count: they and their predictors are 0.
    """
    (y, x), (height, width) = reach, section.shape
    offsets = [
        (i, j)
        for i in range(-y, y + 1)
        for j in range(-x, x + 1)
        if abs(i) >= NEIGHBOURHOOD[0] or abs(j) >= NEIGHBOURHOOD[1]
    ]
    predictors = [
        section[y + i : height - y + i, x + j : width - x + j].ravel() for i, j in offsets
    ]
    inner = (slice(y, height - y), slice(x, width - x))
    visible = ~scipy.ndimage.maximum_filter(hidden, (2 * y + 1, 2 * x + 1))[inner]
    return section[inner] * visible, np.stack(predictors) * visible.ravel(), float(visible.mean())


def _autocovariance(residual: Grey, dy: int, dx: int) -> float:
    """Sum of the autocovariance of a plane (y, x) over the offsets (+-dy, +-dx): four, two on an axis, one at 0."""
    height, width = residual.shape
    first, second = residual[: height - dy], residual[dy:]
    along = (first[:, : width - dx] * second[:, dx:]).mean()
    against = (first[:, dx:] * second[:, : width - dx]).mean()
    if dx == 0 or dy == 0:
        return float(along) * (1 if dx == dy else 2)
    return 2 * float(along + against)


def _response(section: Grey) -> npt.NDArray[np.float64]:
    """Response to Immerkaer's mask (1, -2, 1) x (1, -2, 1), one pixel less (y, x) on every side."""
    rows = np.diff(section.astype(np.float64), 2, axis=0)
    return np.diff(rows, 2, axis=1)


def _deviation(response: npt.NDArray[np.float64]) -> float:
    """Standard deviation of the noise from responses to the mask, by their median absolute deviation; 0 of none."""
    if not response.size:
        return 0.0
    return float(np.median(np.abs(response)) / MEDIAN_OF_GAUSSIAN / MASK_NORM)


def _local(section: Grey, hidden: Grey) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Mean of 5 x 5 pixels and response at every pixel two or more from the border and not near blank ones, in rows."""
    total = np.cumsum(np.cumsum(section.astype(np.float64), axis=0), axis=1)
    total = np.pad(total, ((1, 0), (1, 0)))
    mean = (total[5:, 5:] - total[:-5, 5:] - total[5:, :-5] + total[:-5, :-5]) / 25
    visible = ~scipy.ndimage.maximum_filter(hidden, 5)[2:-2, 2:-2]
    return mean[visible], _response(section)[1:-1, 1:-1][visible]
