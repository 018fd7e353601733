"""How close the grey values of two volumes are: root mean squared error, PSNR and SSIM.

All of them are kept as sums, so that tiles of one volume add up. The data range is always given:
taking it from the data would rate the same error differently in every tile.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from emgen.qc.axes import PLANES, Plane

# Wang et al., IEEE Trans. Image Processing 13 (2004): a Gaussian window of sigma 1.5, 11 pixels
# wide. The sums leave out a border of half a window, where it would not be whole.
SSIM_SIGMA = 1.5
SSIM_WINDOW = 11


@dataclass(frozen=True)
class ErrorSums:
    """Sums of the error, test less reference, over `count` voxels, in grey values."""

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
        """Peak signal-to-noise ratio, 10 log10(range^2 / mean squared error) in dB.

        Infinity for equal volumes, None without voxels.

        Raises:
            ValueError: the range is not above 0.
        """
        if not data_range > 0:
            raise ValueError(f"expected a data range above 0, found {data_range:g}")
        if not self.count:
            return None
        if self.squared == 0:
            return math.inf
        return 10 * math.log10(data_range**2 * self.count / self.squared)


@dataclass(frozen=True)
class SsimSums:
    """The summed SSIM map, and its pixels, per orientation in the order of `PLANES`."""

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
    """Sum the errors of `test` against `reference`.

    Raises:
        ValueError: the shapes differ.
    """
    _check_pair(reference, test)
    error = test.astype(np.float64) - reference
    return ErrorSums(float(np.vdot(error, error)), float(error.sum()), error.size)


def ssim_sums(
    reference: np.ndarray,
    test: np.ndarray,
    data_range: float,
    *,
    every: int = 1,
    sections: np.ndarray | None = None,
) -> SsimSums:
    """Sum the SSIM maps of slices in the three orientations.

    An orientation whose slices are smaller than the window adds nothing.

    Args:
        reference: grey values (z, y, x).
        test: of the same shape.
        data_range: grey values that SSIM's constants refer to.
        every: takes one of so many slices.
        sections: which sections (z,) count, all by default; windows reach into the others.

    Raises:
        ValueError: the shapes differ or are not (z, y, x).
    """
    _check_pair(reference, test)
    if reference.ndim != 3:
        raise ValueError(f"expected volumes (z, y, x), found {reference.ndim} axes")
    counted = np.ones(len(reference), bool) if sections is None else sections
    pairs = [
        _ssim_of_slices(
            np.moveaxis(reference, k, 0), np.moveaxis(test, k, 0), data_range, every, counted, k
        )
        for k in range(3)
    ]
    (a, i), (b, j), (c, k) = pairs
    return SsimSums((a, b, c), (i, j, k))


def _check_pair(reference: np.ndarray, test: np.ndarray) -> None:
    if reference.shape != test.shape:
        raise ValueError(
            f"expected two volumes of one shape, found {reference.shape} and {test.shape}"
        )


def _ssim_of_slices(
    reference: np.ndarray,
    test: np.ndarray,
    data_range: float,
    every: int,
    sections: np.ndarray,
    axis: int,
) -> tuple[float, int]:
    """The sum of the map over slices across `axis`, and its pixels; only those of `sections` count."""
    from skimage.metrics import structural_similarity  # half a second to import

    height, width = reference.shape[1:]
    if min(height, width) < SSIM_WINDOW:
        return 0.0, 0
    border = SSIM_WINDOW // 2
    inner = slice(border, -border)
    total, count = 0.0, 0
    for k in range(0, len(reference), every):
        if axis == 0 and not sections[k]:
            continue
        _, similarity = structural_similarity(
            reference[k].astype(np.float64),
            test[k].astype(np.float64),
            data_range=data_range,
            gaussian_weights=True,
            sigma=SSIM_SIGMA,
            use_sample_covariance=False,
            full=True,
        )
        # z runs along the rows of slices across y and x
        pixels = similarity[inner, inner]
        pixels = pixels if axis == 0 else pixels[sections[inner]]
        total, count = total + float(pixels.sum()), count + pixels.size
    return total, count
