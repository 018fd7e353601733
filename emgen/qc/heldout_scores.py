"""How well sections that were held out were restored, beside what interpolation makes of them.

Three figures, each kept as sums over places so that places add up: PSNR; Fourier ring correlation, which no smoothing
can raise; and the correlation of fine detail. Interpolation may be blurred in the plane by the width that is best for
it on the very sections that it is judged by: what smooths gains in PSNR, and the result must gain more.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import scipy.ndimage

Grey = npt.NDArray[np.float32]

BLURS = (0.0, 0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0)
"""Standard deviations in pixels that the blur of interpolation is chosen from."""
FINE_SIGMA = 2.0
"""Fine detail is what is left after a Gaussian of so many pixels is subtracted."""
PERIODS = (24.0, 16.0, 12.0, 9.6, 8.0, 6.0, 4.8, 4.0)
"""Limits in pixels of the rings of Fourier ring correlation: from the finest processes down to what no section tells of
its neighbour."""
DETAIL_PERIOD = 6.0
"""Ring correlation is averaged down to this period: finer than that even slices of one tissue hardly agree."""
CONFIDENCE, DRAWS = 0.9, 1000
"""Of the interval, and how often places are drawn for it."""


class Predicted(Protocol):
    """A section that was held out and what was made of it; `emgen.run.heldout.Held` is one."""

    @property
    def place(self) -> int: ...
    @property
    def measured(self) -> Grey: ...
    @property
    def restored(self) -> Grey: ...
    @property
    def linear(self) -> Grey: ...


@dataclass(frozen=True, eq=False)
class Scores:
    """Sums of one volume at every place, arrays (places, ...).

    Attributes:
        squared: error (places,).
        pixels: compared (places,).
        cross, power, measured_power: of Fourier coefficients by ring (places, rings), as in ring correlation.
        fine: products of fine detail (places, 3): of both, of the volume's own, of the measured.
    """

    squared: npt.NDArray[np.float64]
    pixels: npt.NDArray[np.float64]
    cross: npt.NDArray[np.float64]
    power: npt.NDArray[np.float64]
    measured_power: npt.NDArray[np.float64]
    fine: npt.NDArray[np.float64]

    def at(self, places: npt.NDArray[np.int64]) -> Scores:
        """The sums of some of the places, which may be named more than once."""
        return Scores(*(getattr(self, field.name)[places] for field in fields(self)))

    def __len__(self) -> int:
        return len(self.squared)

    @property
    def mean_squared(self) -> float:
        """Mean squared error over all places."""
        return float(self.squared.sum() / self.pixels.sum())

    @property
    def rings(self) -> npt.NDArray[np.float64]:
        """Fourier ring correlation with the measured sections (rings,)."""
        power = np.sqrt(self.power.sum(0) * self.measured_power.sum(0))
        cross = self.cross.sum(0)
        rings: npt.NDArray[np.float64] = cross / np.maximum(power, 1e-12)
        return rings

    @property
    def detail(self) -> float:
        """Mean ring correlation down to `DETAIL_PERIOD`."""
        return ring_mean(self.cross.sum(0), self.power.sum(0), self.measured_power.sum(0))

    @property
    def fine_correlation(self) -> float:
        """Correlation of fine detail with that of the measured sections."""
        both, own, measured = self.fine.sum(0)
        return float(both / math.sqrt(own * measured)) if own * measured > 0 else 0.0

    def psnr(self, data_range: float) -> float | None:
        """In dB over a range of grey values; None where there is no error at all."""
        error = self.mean_squared
        return 10 * math.log10(data_range**2 / error) if error > 0 else None


def scores(held: Sequence[Predicted], volume: Callable[[Predicted], Grey]) -> Scores:
    """Compare a volume with the measured sections.

    Args:
        held: sections that were held out.
        volume: of a section, the grey values to compare.
    """
    places = sorted({each.place for each in held})
    rows = [
        [_sums(volume(each), each.measured) for each in held if each.place == place]
        for place in places
    ]
    added = [[np.sum(column, axis=0) for column in zip(*row, strict=True)] for row in rows]
    return Scores(*(np.array(column, np.float64) for column in zip(*added, strict=True)))


def blurred(section: Grey, sigma: float) -> Grey:
    """A section (y, x) smoothed by a Gaussian of `sigma` pixels."""
    if sigma == 0:
        return section
    smooth: Grey = scipy.ndimage.gaussian_filter(section.astype(np.float32), sigma)
    return smooth


def best_blur(held: Sequence[Predicted]) -> float:
    """The blur of linear interpolation, in pixels, that brings it nearest to the measured sections."""
    errors = {
        sigma: sum(float(np.square(blurred(h.linear, sigma) - h.measured).sum()) for h in held)
        for sigma in BLURS
    }
    return min(errors, key=lambda sigma: errors[sigma])


def interval(
    count: int, figure: Callable[[npt.NDArray[np.int64]], float]
) -> tuple[float, float, float]:
    """A figure of all places, and the limits of its interval: places are drawn with replacement (bootstrap).

    Args:
        count: of the places.
        figure: of some places.

    Returns:
        The figure, its lower and its upper limit.
    """
    rng = np.random.default_rng(0)
    drawn = [figure(rng.integers(count, size=count)) for _ in range(DRAWS)]
    low, high = np.quantile(drawn, ((1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2))
    return figure(np.arange(count)), float(low), float(high)


def gain_db(result: Scores, beside: Scores) -> tuple[float, float, float]:
    """PSNR of a result less that of another, with its interval, in dB."""

    def gain(places: npt.NDArray[np.int64]) -> float:
        ours, theirs = (part.at(places).mean_squared for part in (result, beside))
        # an error of nothing would be an infinite gain
        return 10 * math.log10(max(theirs, 1e-6) / max(ours, 1e-6))

    return interval(len(result), gain)


def gain_in_detail(result: Scores, beside: Scores) -> tuple[float, float, float]:
    """Mean ring correlation of a result less that of another, with its interval."""
    return interval(len(result), lambda at: result.at(at).detail - beside.at(at).detail)


def ring_sums(section: Grey, measured: Grey) -> npt.NDArray[np.float64]:
    """Sums over the Fourier coefficients of two windowed sections, by ring: Re(A B*), |A|^2 and |B|^2, (3, rings)."""
    a, b = section.astype(np.float64), measured.astype(np.float64)
    window = np.outer(*(np.hanning(n + 2)[1:-1] for n in a.shape))
    A, B = (np.fft.fft2((part - part.mean()) * window) for part in (a, b))
    ring = _rings(a.shape)
    return np.array(
        [
            np.bincount(ring.ravel(), part.ravel(), len(PERIODS) + 1)[1 : len(PERIODS)]
            for part in ((A * B.conj()).real, np.abs(A) ** 2, np.abs(B) ** 2)
        ]
    )


def ring_mean(cross: Any, power: Any, measured_power: Any) -> float:
    """Mean correlation of the rings down to `DETAIL_PERIOD`."""
    rings = cross / np.maximum(np.sqrt(power * measured_power), 1e-12)
    return float(rings[: PERIODS.index(DETAIL_PERIOD)].mean())


def _sums(section: Grey, measured: Grey) -> tuple[Any, ...]:
    a, b = section.astype(np.float64), measured.astype(np.float64)
    fine_a, fine_b = (part - scipy.ndimage.gaussian_filter(part, FINE_SIGMA) for part in (a, b))
    fine = [
        float((p * q).mean()) for p, q in ((fine_a, fine_b), (fine_a, fine_a), (fine_b, fine_b))
    ]
    return (float(np.square(a - b).sum()), a.size, *ring_sums(section, measured), fine)


def _rings(shape: tuple[int, ...]) -> npt.NDArray[np.int64]:
    """The number of the ring of every Fourier coefficient; 0 and the last lie beyond the limits."""
    y, x = (np.fft.fftfreq(n) for n in shape)
    number: npt.NDArray[np.int64] = np.digitize(
        np.hypot(y[:, None], x), [1 / period for period in PERIODS]
    )
    return number
