"""Deblurring slice by slice: a point spread function in y and x."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from emgen.geometry import Zyx
from emgen.operators.convolution import Convolution, Taps
from emgen.operators.operator import Reach

Kernel = tuple[tuple[float, ...], ...]
RANK_TOLERANCE = 1e-6
"""Singular values of a kernel below this part of the largest are rounding, not shape."""


@dataclass(frozen=True)
class Blur(Convolution):
    """Each slice is convolved with a point spread function of sum one.

    psf: a standard deviation in pixels, one for y and one for x, or a kernel (y, x) with an odd
    number of pixels each way (an array or nested tuples). At the edges of the volume the slice is
    mirrored, the edge pixel not repeated. Raises `ValueError` for anything else.
    """

    psf: float | tuple[float, float] | Kernel

    def validate(self) -> None:
        psf = np.asarray(self.psf, np.float64)
        if not np.isfinite(psf).all():
            raise ValueError("the point spread function holds values that are not finite")
        if psf.ndim < 2 and psf.size in (1, 2):
            if (psf <= 0).any():
                raise ValueError(f"the blur's sigma must be positive, not {self.psf}")
            value: object = tuple(psf.tolist()) if psf.ndim else float(psf)
        elif psf.ndim == 2 and psf.shape[0] % 2 and psf.shape[1] % 2:
            if psf.sum() <= 0:
                raise ValueError(f"the kernel's sum must be positive, not {psf.sum():g}")
            value = tuple(tuple(row) for row in psf.tolist())
        else:
            raise ValueError(
                "expected one sigma, two (y, x), or a kernel with an odd number of pixels each "
                f"way; found an array of shape {psf.shape}"
            )
        object.__setattr__(self, "psf", value)

    @property
    def scale(self) -> Zyx:
        return (1, 1, 1)

    @cached_property
    def kernel(self) -> npt.NDArray[np.float64]:
        """The point spread function (y, x), of sum one."""
        psf = np.asarray(self.psf, np.float64)
        if psf.ndim == 2:
            return np.asarray(psf / psf.sum())
        return gaussian_kernel(*np.broadcast_to(psf, 2).tolist())

    @property
    def reach(self) -> tuple[Reach, Reach, Reach]:
        y, x = (n // 2 for n in self.kernel.shape)
        return (0, 0), (-y, y), (-x, x)

    @cached_property
    def terms(self) -> tuple[dict[int, Taps], ...]:
        # Any kernel is a short sum of separable ones; a Gaussian along the axes is a single one.
        u, s, v = np.linalg.svd(self.kernel)
        rank = int((s > RANK_TOLERANCE * s[0]).sum())
        # Convolution, not correlation: the kernel is turned around.
        return tuple(
            {
                1: self.taps(1, np.sqrt(s[i]) * u[::-1, i], "mirror"),
                2: self.taps(2, np.sqrt(s[i]) * v[i, ::-1], "mirror"),
            }
            for i in range(rank)
        )


def gaussian_kernel(
    sigma_y: float, sigma_x: float, angle: float = 0.0
) -> npt.NDArray[np.float64]:
    """An elliptic Gaussian (y, x) of sum one, cut off at 3 sigma: defocus and astigmatism.

    sigma_y, sigma_x: standard deviations in pixels along the ellipse's own axes, which are turned
    by `angle` (radians) from y towards x.
    """
    c, s = math.cos(angle), math.sin(angle)
    radius_y = max(1, math.ceil(3 * math.hypot(c * sigma_y, s * sigma_x)))
    radius_x = max(1, math.ceil(3 * math.hypot(s * sigma_y, c * sigma_x)))
    y, x = np.mgrid[-radius_y : radius_y + 1, -radius_x : radius_x + 1].astype(np.float64)
    along, across = (c * y + s * x) / sigma_y, (c * x - s * y) / sigma_x
    kernel = np.exp(-(along**2 + across**2) / 2)
    return np.asarray(kernel / kernel.sum())
