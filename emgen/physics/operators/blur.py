"""Deblurring slice by slice: a point spread function in y and x."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from emgen.physics.acquisition import Acquisition, blurred_pixels
from emgen.physics.operators.convolution import Convolution, Taps
from emgen.physics.psf import Kernel, gaussian

RANK_TOLERANCE = 1e-6
"""Singular values of a kernel below this part of the largest are rounding, not shape."""


@dataclass(frozen=True)
class Blur(Convolution):
    """Each slice is convolved with a point spread function of sum one.

    sigma: standard deviation of a Gaussian in pixels, or one for y and one for x.
    kernel: instead of sigma, the point spread function (y, x) itself, an array or nested tuples
    with an odd number of pixels each way.
    At the edges of the volume the slice is mirrored, the edge pixel not repeated.
    Raises `ValueError` for anything else.
    """

    sigma: float | tuple[float, float] | None = None
    kernel: Kernel | None = None

    def validate(self) -> None:
        if (self.sigma is None) == (self.kernel is None):
            raise ValueError("a blur has either a sigma or a kernel, and not both")
        if self.sigma is not None:
            sigma = np.asarray(self.sigma, np.float64)
            if sigma.size not in (1, 2) or not (np.isfinite(sigma) & (sigma > 0)).all():
                raise ValueError(f"the blur's sigma must be positive, not {self.sigma}")
            return
        kernel = np.asarray(self.kernel, np.float64)
        if kernel.ndim != 2 or not all(n % 2 for n in kernel.shape):
            raise ValueError(
                "expected a kernel (y, x) with an odd number of pixels each way; found an array "
                f"of shape {kernel.shape}"
            )
        if not (np.isfinite(kernel).all() and kernel.sum() > 0):
            raise ValueError("the kernel must be finite, and its sum positive")
        # Nested tuples, so that operators can be compared.
        object.__setattr__(self, "kernel", tuple(map(tuple, kernel.tolist())))

    @cached_property
    def psf(self) -> npt.NDArray[np.float64]:
        """The point spread function (y, x), of sum one."""
        if self.sigma is not None:
            y, x = np.broadcast_to(self.sigma, 2).tolist()
            return gaussian(y, x)
        kernel = np.asarray(self.kernel, np.float64)
        return np.asarray(kernel / kernel.sum())

    @property
    def acquisition(self) -> Acquisition:
        return blurred_pixels(*self.psf.shape)

    def response_norm(self) -> float:
        return float((self.psf**2).sum() ** 0.5)

    @cached_property
    def terms(self) -> tuple[dict[int, Taps], ...]:
        # Any kernel is a short sum of separable ones; a Gaussian along the axes is a single one.
        u, s, v = np.linalg.svd(self.psf)
        rank = int((s > RANK_TOLERANCE * s[0]).sum())
        # Convolution, not correlation: the kernel is turned around.
        return tuple(
            {
                1: self.taps(1, np.sqrt(s[i]) * u[::-1, i], "mirror"),
                2: self.taps(2, np.sqrt(s[i]) * v[i, ::-1], "mirror"),
            }
            for i in range(rank)
        )
