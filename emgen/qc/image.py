"""How close the grey values are: PSNR, SSIM and the power at high frequencies.

All of them are kept as sums, so that tiles of one volume add up. The data range is always given:
taking it from the data would rate the same error differently in every tile.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from skimage.metrics import structural_similarity

from emgen.qc.fsc import SECTORS, Sector, ShellSums, curve

Plane = Literal["xy", "xz", "yz"]
PLANES: tuple[Plane, ...] = ("xy", "xz", "yz")

# Wang et al., IEEE Trans. Image Processing 13 (2004): a Gaussian window of sigma 1.5, 11 pixels
# wide. The sums leave out a border of half a window, where it would not be whole.
SSIM_SIGMA = 1.5
SSIM_WINDOW = 11


@dataclass(frozen=True)
class ErrorSums:
    """Sums of the error test - reference over `count` voxels, in grey values."""

    squared: float = 0.0
    signed: float = 0.0
    count: int = 0

    def __add__(self, other: ErrorSums) -> ErrorSums:
        return ErrorSums(
            self.squared + other.squared, self.signed + other.signed, self.count + other.count
        )

    @property
    def rmse(self) -> float | None:
        """Root mean squared error in grey values; None without voxels."""
        return math.sqrt(self.squared / self.count) if self.count else None

    @property
    def bias(self) -> float | None:
        """Mean error in grey values, positive where the test is brighter; None without voxels."""
        return self.signed / self.count if self.count else None

    def psnr(self, data_range: float) -> float | None:
        """10 log10(range^2 / mean squared error) in dB: infinity for equal volumes."""
        if not data_range > 0:
            raise ValueError(f"expected a data range above 0, found {data_range:g}")
        if not self.count:
            return None
        if self.squared == 0:
            return math.inf
        return 10 * math.log10(data_range**2 * self.count / self.squared)


@dataclass(frozen=True)
class SsimSums:
    """Per plane orientation (in the order of `PLANES`): the summed SSIM map, and its pixels."""

    total: tuple[float, float, float] = (0.0, 0.0, 0.0)
    count: tuple[int, int, int] = (0, 0, 0)

    def __add__(self, other: SsimSums) -> SsimSums:
        a, b, c = (x + y for x, y in zip(self.total, other.total, strict=True))
        i, j, k = (x + y for x, y in zip(self.count, other.count, strict=True))
        return SsimSums((a, b, c), (i, j, k))

    def mean(self, plane: Plane) -> float | None:
        """Mean SSIM over all slices of one orientation; None where no slice held a window."""
        k = PLANES.index(plane)
        return self.total[k] / self.count[k] if self.count[k] else None


def error_sums(reference: np.ndarray, test: np.ndarray) -> ErrorSums:
    """The errors of `test` against `reference`, of one shape; `ValueError` otherwise."""
    _check_pair(reference, test)
    error = test.astype(np.float64) - reference
    return ErrorSums(float(np.vdot(error, error)), float(error.sum()), error.size)


def psnr(reference: np.ndarray, test: np.ndarray, data_range: float) -> float | None:
    """Peak signal-to-noise ratio of one pair of volumes in dB; see `ErrorSums.psnr`."""
    return error_sums(reference, test).psnr(data_range)


def ssim_sums(
    reference: np.ndarray, test: np.ndarray, data_range: float, *, every: int = 1
) -> SsimSums:
    """SSIM of the slices of (z, y, x) volumes in the three orientations, in every n-th slice.

    An orientation whose slices are smaller than the window adds nothing.
    """
    _check_pair(reference, test)
    if reference.ndim != 3:
        raise ValueError(f"expected volumes (z, y, x), found {reference.ndim} axes")
    pairs = [
        _ssim_of_slices(np.moveaxis(reference, k, 0), np.moveaxis(test, k, 0), data_range, every)
        for k in range(3)  # a slice across z is an xy plane, across y an xz, across x a yz
    ]
    (a, i), (b, j), (c, k) = pairs
    return SsimSums((a, b, c), (i, j, k))


def ssim(reference: np.ndarray, test: np.ndarray, data_range: float) -> dict[Plane, float | None]:
    """Mean SSIM per plane orientation of one pair of volumes; None where slices are too small."""
    sums = ssim_sums(reference, test, data_range)
    return {plane: sums.mean(plane) for plane in PLANES}


def power_spectrum_ratio(
    sums: ShellSums, sector: Sector, band: tuple[float, float] = (0.5, 1.0)
) -> float | None:
    """Power of the test (`b`) over that of the reference (`a`) at high frequencies.

    `band` is in units of the sector's Nyquist frequency. Below 1 the test is smoother than the
    reference, above 1 it has more detail or more noise: FSC sees neither. None where the
    reference has no power.
    """
    row = SECTORS.index(sector)
    nyquist = curve(sums, sector).nyquist
    frequency = np.arange(sums.count.shape[1]) * sums.width
    inside = (frequency >= band[0] * nyquist) & (frequency <= band[1] * nyquist * (1 + 1e-9))
    reference = float(sums.power_a[row][inside].sum())
    return float(sums.power_b[row][inside].sum()) / reference if reference > 0 else None


def _check_pair(reference: np.ndarray, test: np.ndarray) -> None:
    if reference.shape != test.shape:
        raise ValueError(
            f"expected two volumes of one shape, found {reference.shape} and {test.shape}"
        )


def _ssim_of_slices(
    reference: np.ndarray, test: np.ndarray, data_range: float, every: int
) -> tuple[float, int]:
    height, width = reference.shape[1:]
    if min(height, width) < SSIM_WINDOW:
        return 0.0, 0
    pixels = (height - SSIM_WINDOW + 1) * (width - SSIM_WINDOW + 1)
    values = [
        structural_similarity(
            a.astype(np.float64),
            b.astype(np.float64),
            data_range=data_range,
            gaussian_weights=True,
            sigma=SSIM_SIGMA,
            use_sample_covariance=False,
        )
        for a, b in zip(reference[::every], test[::every], strict=True)
    ]
    return float(np.sum(values)) * pixels, len(values) * pixels
