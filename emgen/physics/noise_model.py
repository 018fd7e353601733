"""The noise of what was measured: its standard deviation at every grey value, given or estimated."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from emgen.config.restore import Level, Noise
from emgen.volumes.intensity import blank, tissue

BINS = 24  # grey values that are told apart
FEWEST = 500  # pixels of one that say how noisy it is
NEAR = (2, 3)  # pixels (y, x) as near as that share their noise
RING = 2  # rings of pixels beyond, which do not
SECTIONS = 48  # that are enough to tell how strong it is
DARKEST = 0.1  # of the middle's standard deviation: nothing is held to be less noisy

Grey = npt.NDArray[Any]


@dataclass(frozen=True)
class NoiseModel:
    """Poisson-Gaussian noise, counted from the middle of the grey values: variance sigma^2 + gain (g - middle).

    Attributes:
        sigma: standard deviation in the middle, in grey values.
        gain: grey values per electron counted; 0 for noise that is the same everywhere.
        middle: of the grey values.
        least: standard deviation where nothing is counted.
        own: the noise's own deviation over these, which are that of white noise that takes as much from tissue: less
            than 1 where neighbouring pixels share it.
    """

    sigma: float
    gain: float = 0.0
    middle: float = 0.0
    least: float = 0.0
    own: float = 1.0

    @classmethod
    def of(cls, noise: Noise, middle: float) -> Self:
        """As the settings say."""
        variance = noise.sigma**2 + noise.gain * max(middle - noise.black, 0.0)
        return cls(variance**0.5, noise.gain, middle, noise.sigma)

    @classmethod
    def from_setting(cls, noise: Level, samples: Sequence[Grey], middle: float) -> Self:
        """As the settings say, or as the samples (z, y, x) show where they ask for that."""
        match noise:
            case "auto":
                return cls(typical_noise(samples), 0.0, middle)
            case "correlated":
                deviation, lowest = shared_noise(samples)
                # white noise of this level takes as much from tissue
                level = (deviation * lowest) ** 0.5
                found = cls.estimated(samples, middle).rescaled_to(level, samples)
                return replace(found, own=deviation / level) if level else found
            case "poisson":
                return cls.estimated(samples, middle)
            case Noise():
                return cls.of(noise, middle)
            case _:
                return cls(float(noise), 0.0, middle)

    @classmethod
    def estimated(cls, samples: Iterable[Grey], middle: float) -> Self:
        """Fitted to the noise of the samples' sections (z, y, x) at every grey value.

        The method of Foi et al., IEEE Transactions on Image Processing 17 (2008), with the response of
        Immerkaer (1996) in place of wavelets: a line through the variance at every local mean.
        """
        local = [_local(section) for section in _showing(samples) if min(section.shape) > 4]
        if not any(mean.size for mean, _ in local):
            return cls(0.0, 0.0, middle)
        mean, response = (np.concatenate(each) for each in zip(*local, strict=True))
        bins = min(BINS, len(mean) // FEWEST)
        edges = np.unique(np.quantile(mean, np.linspace(0.01, 0.99, bins + 1)))
        place = np.searchsorted(edges, mean) - 1
        found = [
            (mean[place == k].mean(), _spread(response[place == k]) ** 2)
            for k in range(len(edges) - 1)
            if (place == k).sum() >= FEWEST / 2
        ]
        sigma = _spread(response)
        if len(found) < 3:
            return cls(sigma, 0.0, middle)
        g, variance = np.array(found).T
        gain, at_middle = np.polyfit(g - middle, variance, 1)
        if gain <= 0 or at_middle <= 0:
            return cls(sigma, 0.0, middle)
        return cls(float(at_middle**0.5), float(gain), middle)

    def rescaled_to(self, level: float, samples: Sequence[Grey]) -> Self:
        """As strong as `level` over the samples (z, y, x), and as much of it at one grey value compared with another."""
        found = self.typical(samples)
        if found == 0:
            return type(self)(level, 0.0, self.middle)
        share = level / found
        return type(self)(self.sigma * share, self.gain * share**2, self.middle, self.least * share)

    def amplified(self, power: float) -> Self:
        """Noise of the same kind with `power` times the variance at every grey value."""
        return replace(
            self,
            sigma=self.sigma * power**0.5,
            gain=self.gain * power,
            least=self.least * power**0.5,
        )

    @property
    def is_correlated(self) -> bool:
        """Whether neighbouring pixels share the noise, as in fast scans."""
        return self.own != 1

    def at(self, grey: Grey) -> npt.NDArray[np.float32]:
        """Standard deviation at every grey value, shape of `grey`."""
        variance = self.sigma**2 + self.gain * (grey.astype(np.float64) - self.middle)
        floor = max(self.least, DARKEST * self.sigma)
        return np.sqrt(np.maximum(variance, floor**2)).astype(np.float32)

    def typical(self, samples: Iterable[Grey]) -> float:
        """Root mean square over the samples (z, y, x), in grey values; blank pixels aside."""
        if self.gain == 0:
            return self.sigma
        return float(np.square(self.at(tissue(samples)), dtype=np.float64).mean() ** 0.5)


def estimate_noise(section: Grey) -> float:
    """Standard deviation of white noise in one section (y, x), in grey values; 0 where it is too small to tell.

    Immerkaer, Computer Vision and Image Understanding 64 (1996): the response to a mask that is blind to
    planes and edges, here by its median so that membranes do not count as noise, and where the section is not blank.
    """
    if min(section.shape) < 3:
        return 0.0
    return _spread(_response(section)[~blank(section)[1:-1, 1:-1]])


def typical_noise(samples: Sequence[Grey]) -> float:
    """The median of all sections' noise, in grey values; samples are (z, y, x)."""
    found = [estimate_noise(section) for section in _showing(samples)]
    return float(np.median(found)) if found else 0.0


def shared_noise(samples: Sequence[Grey]) -> tuple[float, float]:
    """The standard deviation of noise that neighbouring pixels may share, and of white noise as strong at the lowest frequencies.

    Fast scans have such noise, since a detector answers slower than the beam moves on; `estimate_noise` sees a part of it.
    What a linear prediction from pixels further away than `NEAR` leaves of a pixel is noise and the finest detail, so
    that the result is somewhat too high where there is little noise. Samples are (z, y, x), in grey values; where all
    are too small both are `typical_noise`.
    """
    reach = [n + RING for n in NEAR]
    sections = [s for s in _showing(samples) if min(s.shape) > 4 * max(reach)]
    sections = [s.astype(np.float64) for s in sections[:: max(1, len(sections) // SECTIONS)]]
    white = typical_noise(samples)
    if not sections:
        return white, white
    mean = float(np.mean([s.mean() for s in sections]))
    power: Grey = np.zeros(())
    cross: Grey = np.zeros(())
    for section in sections:
        near, far, _ = _surroundings(section - mean, reach)
        power, cross = power + far @ far.T, cross + far @ near.ravel()
    if not power.any():  # no pixel is far enough from blank ones
        return white, white
    weights = np.linalg.solve(power + 1e-9 * np.trace(power) * np.eye(len(power)), cross)
    variance = total = seen = 0.0
    for section in sections:
        near, far, share = _surroundings(section - mean, reach)
        left = near - (weights @ far).reshape(near.shape)
        seen += share / len(sections)
        variance += float(np.square(left).mean()) / len(sections)
        total += sum(_covariance(left, *shift) for shift in np.ndindex(*NEAR)) / len(sections)
    return (variance / seen) ** 0.5, (max(total, variance) / seen) ** 0.5


def _showing(samples: Iterable[Grey]) -> Iterator[Grey]:
    """Sections (y, x) of samples (z, y, x) that are not one grey value."""
    return (section for sample in samples for section in sample if section.max() > section.min())


def _surroundings(section: Grey, reach: list[int]) -> tuple[Grey, Grey, float]:
    """Inner pixels, for each those around it that are not `NEAR` (places, pixels), and the share of them that counts:
    near blank pixels all are 0."""
    (y, x), (height, width) = reach, section.shape
    places = [
        (i, j)
        for i in range(-y, y + 1)
        for j in range(-x, x + 1)
        if abs(i) >= NEAR[0] or abs(j) >= NEAR[1]
    ]
    far = [section[y + i : height - y + i, x + j : width - x + j].ravel() for i, j in places]
    inner = (slice(y, height - y), slice(x, width - x))
    seen = ~scipy.ndimage.maximum_filter(blank(section), (2 * y + 1, 2 * x + 1))[inner]
    return section[inner] * seen, np.stack(far) * seen.ravel(), float(seen.mean())


def _covariance(left: Grey, dy: int, dx: int) -> float:
    """Of pixels that far from each other, over all directions: four times, twice for those on an axis."""
    height, width = left.shape
    first, second = left[: height - dy], left[dy:]
    along = (first[:, : width - dx] * second[:, dx:]).mean()
    against = (first[:, dx:] * second[:, : width - dx]).mean()
    if dx == 0 or dy == 0:
        return float(along) * (1 if dx == dy else 2)
    return 2 * float(along + against)


def _response(section: Grey) -> npt.NDArray[np.float64]:
    rows = np.diff(section.astype(np.float64), 2, axis=0)
    return np.diff(rows, 2, axis=1)


def _spread(response: npt.NDArray[np.float64]) -> float:
    return float(np.median(np.abs(response)) / 0.6745 / 6) if response.size else 0.0


def _local(section: Grey) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The mean of 5 x 5 pixels around every pixel at least two from the edge and not near blank ones, and the response there."""
    total = np.cumsum(np.cumsum(section.astype(np.float64), axis=0), axis=1)
    total = np.pad(total, ((1, 0), (1, 0)))
    mean = (total[5:, 5:] - total[:-5, 5:] - total[5:, :-5] + total[:-5, :-5]) / 25
    seen = ~scipy.ndimage.maximum_filter(blank(section), 5)[2:-2, 2:-2]
    return mean[seen], _response(section)[1:-1, 1:-1][seen]
