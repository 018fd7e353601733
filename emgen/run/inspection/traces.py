"""Traces: a few numbers of every section and of every pair of near sections, along a volume.

Everything that is found about sections is found in these, so voxels are read once and none are held.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.fft

LAGS = (1, 2, 3)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
# Frequencies in cycles a pixel where bands begin and end. The last is noise in nearly every image: a focused beam's spot is
# two pixels wide or more.
BANDS = (1 / 64, 1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2)
# Standard deviations in pixels of the two Gaussians between which tissue is compared: wider than noise, narrower than
# shading.
FINE, COARSE = 1.5, 12.0
SPAN = 16  # pixels of displacement that are looked for, at most a quarter of a column

Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Traces:
    """What is kept of n sections seen in c columns.

    Attributes:
        numbers: of the sections (n).
        quantiles: of their grey values (n, c, 5).
        deviation: standard deviation of their grey values (n, c).
        power: mean spectral power in `BANDS` (n, c, 5).
        codes: the same for two sections only where all their voxels are (n).
        similarity: of sections k and k + lag, in the best place, by lag (n).
        still: the same, where they are.
        shift: displacement of k + lag against k in pixels (y, x), by lag (n, 2).
        twins: correlation of the finest detail of k and k + 1, which is mostly noise (n).
        sure: standard deviation of a similarity of sections that have nothing in common.

    Of pairs, what cannot be had is NaN.
    """

    numbers: npt.NDArray[np.int64]
    quantiles: Numbers
    deviation: Numbers
    power: Numbers
    codes: npt.NDArray[np.int64]
    similarity: dict[int, Numbers]
    still: dict[int, Numbers]
    shift: dict[int, Numbers]
    twins: Numbers
    sure: float


def trace(
    columns: Iterable[npt.NDArray[Any]], numbers: npt.NDArray[np.int64], side: tuple[int, int]
) -> Traces:
    """Traces of sections.

    Args:
        columns: of one section after another, (places, y, x).
        numbers: of these sections.
        side: pixels of a column (y, x).
    """
    view = _View(side)
    n = len(numbers)
    single: dict[str, list[Any]] = {
        name: [] for name in ("quantiles", "deviation", "power", "codes")
    }
    pairs = {
        name: {lag: np.full((n, 2) if name == "shift" else n, np.nan) for lag in LAGS}
        for name in ("similarity", "still", "shift")
    }
    twins = np.full(n, np.nan)
    before: dict[int, tuple[Any, Any]] = {}
    for i, (number, section) in enumerate(zip(numbers, columns, strict=True)):
        grey = np.nan_to_num(section.astype(np.float32))
        spectrum = view.spectrum(grey)
        single["quantiles"].append(np.quantile(grey, QUANTILES, axis=(1, 2)).T)
        single["deviation"].append(grey.std(axis=(1, 2)))
        single["power"].append(view.power(spectrum))
        single["codes"].append(zlib.crc32(np.ascontiguousarray(section).tobytes()))
        tissue, finest = view.tissue(spectrum), view.finest(spectrum)
        for lag in LAGS:
            near = before.get(int(number) - lag)
            if near is not None:
                still, similarity, shift = view.compare(near[0], tissue)
                pairs["still"][lag][i - lag] = still
                pairs["similarity"][lag][i - lag] = similarity
                pairs["shift"][lag][i - lag] = shift
                if lag == 1:
                    twins[i - 1] = view.correlation(near[1], finest)
        before[int(number)] = (tissue, finest)
        before.pop(int(number) - max(LAGS), None)
    areas = len(single["deviation"][0]) * side[0] * side[1] / (4 * np.pi * FINE**2)
    return Traces(
        numbers=numbers,
        quantiles=np.array(single["quantiles"]),
        deviation=np.array(single["deviation"]),
        power=np.array(single["power"]),
        codes=np.array(single["codes"]),
        similarity=pairs["similarity"],
        still=pairs["still"],
        shift=pairs["shift"],
        twins=twins,
        sure=float(areas**-0.5),
    )


class _View:
    """Sections in frequencies, all columns at once: arrays (places, y, x of a real transform)."""

    def __init__(self, side: tuple[int, int]) -> None:
        self.side = side
        taper = np.outer(*(np.hanning(n + 2)[1:-1] for n in side)).astype(np.float32)
        self.taper, self.weight = taper, taper / taper.sum()
        fy, fx = np.fft.fftfreq(side[0])[:, None], np.fft.rfftfreq(side[1])[None]
        f2 = fy**2 + fx**2
        self.radius = np.sqrt(f2)
        # a real transform leaves out half of the plane
        self.twice = np.where((fx == 0) | (fx == 0.5), 1.0, 2.0) * np.ones_like(fy)
        fine, coarse = (
            np.exp(-2 * np.pi**2 * s**2 * f2) for s in (FINE, min(COARSE, min(side) / 5))
        )
        self.band = (fine - fine * coarse).astype(np.float32)
        self.high = (self.radius >= 0.25).astype(np.float32)
        edges = itertools.pairwise(BANDS)
        self.rings = [((self.radius >= a) & (self.radius < b)) * self.twice for a, b in edges]
        reach = [min(SPAN, n // 4) for n in side]
        self.near = np.ix_(*(np.arange(-r, r + 1) for r in reach))
        self.reach = reach

    def spectrum(self, grey: npt.NDArray[np.float32]) -> npt.NDArray[np.complex64]:
        mean = (grey * self.weight).sum(axis=(1, 2), keepdims=True)
        transform: npt.NDArray[np.complex64] = scipy.fft.rfft2((grey - mean) * self.taper)
        return transform

    def power(self, spectrum: Any) -> Numbers:
        energy = np.abs(spectrum) ** 2 / (self.taper**2).sum()
        return np.stack(
            [(energy * ring).sum(axis=(1, 2)) / max(ring.sum(), 1.0) for ring in self.rings], axis=1
        )

    def tissue(self, spectrum: Any) -> Any:
        return spectrum * self.band

    def finest(self, spectrum: Any) -> Any:
        return spectrum * self.high

    def inner(self, a: Any, b: Any) -> float:
        return float(((a.real * b.real + a.imag * b.imag) * self.twice).sum())

    def correlation(self, a: Any, b: Any) -> float:
        energy = (self.inner(a, a) * self.inner(b, b)) ** 0.5
        return self.inner(a, b) / energy if energy > 0 else np.nan

    def compare(self, a: Any, b: Any) -> tuple[float, float, tuple[float, float]]:
        energy = (self.inner(a, a) * self.inner(b, b)) ** 0.5
        if energy <= 0:
            return np.nan, np.nan, (np.nan, np.nan)
        cross = scipy.fft.irfft2((np.conj(a) * b).sum(axis=0), self.side)
        cross = cross[self.near] * (self.side[0] * self.side[1] / energy)
        y, x = np.unravel_index(int(cross.argmax()), cross.shape)
        still = float(cross[self.reach[0], self.reach[1]])
        return still, float(cross[y, x]), (float(y - self.reach[0]), float(x - self.reach[1]))
