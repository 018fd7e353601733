"""Point spread functions in the plane: elliptic Gaussians, or read from a file."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from emgen.errors import EmgenError

Kernel = tuple[tuple[float, ...], ...]
"""Rows of a point spread function, as it is compared, hashed and written as JSON."""
MAX_WIDTH = 257  # pixels on a side: more is no point spread function, but a picture
CUTOFF = (
    3  # standard deviations at which a Gaussian ends: 99 % of its weight lie within, in the plane
)


def read_kernel(path: str) -> npt.NDArray[np.float64]:
    """Read a point spread function from a TIFF.

    Returns:
        Weights (y, x) of sum one, one for each pixel of the input.

    Raises:
        EmgenError: not a TIFF, not a plane with an odd number of pixels each way, or no positive finite sum.
    """
    import tifffile

    try:
        kernel = np.asarray(tifffile.imread(Path(path)), np.float64)
    except (OSError, ValueError, tifffile.TiffFileError) as error:
        raise EmgenError(f"restore.psf.kernel: {path} cannot be read as a TIFF ({error})") from None
    while kernel.ndim > 2 and len(kernel) == 1:
        kernel = kernel[0]
    return check_kernel(kernel, path)


def check_kernel(kernel: npt.NDArray[np.floating], name: str) -> npt.NDArray[np.float64]:
    """A point spread function, divided by its sum.

    Args:
        kernel: weights (y, x).
        name: where it comes from, for messages.

    Raises:
        EmgenError: not a plane with an odd number of pixels each way, or no positive finite sum.
    """
    if kernel.ndim != 2 or not all(n % 2 and n <= MAX_WIDTH for n in kernel.shape):
        raise EmgenError(
            f"restore.psf.kernel: {name} holds an array of shape {kernel.shape}; expected a plane (y, x) with an odd "
            f"number of pixels each way, so that one is in the middle, and at most {MAX_WIDTH}"
        )
    if not (np.isfinite(kernel).all() and kernel.sum() > 0):
        raise EmgenError(
            f"restore.psf.kernel: the values in {name} must be finite, and their sum positive"
        )
    return np.asarray(kernel / kernel.sum(), np.float64)


def gaussian(sigma_y: float, sigma_x: float, angle: float = 0.0) -> npt.NDArray[np.float64]:
    """An elliptic Gaussian: the blur of defocus and astigmatism.

    Args:
        sigma_y, sigma_x: standard deviations in pixels along the ellipse's own axes.
        angle: in radians, by which these axes are turned from y towards x.

    Returns:
        Weights (y, x) of sum one, cut off at 3 standard deviations.
    """
    c, s = math.cos(angle), math.sin(angle)
    radius_y = max(1, math.ceil(CUTOFF * math.hypot(c * sigma_y, s * sigma_x)))
    radius_x = max(1, math.ceil(CUTOFF * math.hypot(s * sigma_y, c * sigma_x)))
    y, x = np.mgrid[-radius_y : radius_y + 1, -radius_x : radius_x + 1].astype(np.float64)
    along, across = (c * y + s * x) / sigma_y, (c * x - s * y) / sigma_x
    weights = np.exp(-(along**2 + across**2) / 2)
    return np.asarray(weights / weights.sum())


def as_tuples(kernel: npt.NDArray[np.float64]) -> Kernel:
    """Weights (y, x) as tuples, which can be compared, hashed and written as JSON."""
    return tuple(map(tuple, kernel.tolist()))
