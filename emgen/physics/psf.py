"""Point spread functions in the plane: elliptic Gaussians, or read from a file."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt

from emgen.errors import EmgenError

Kernel = tuple[tuple[float, ...], ...]
LARGEST = 257  # pixels on a side: more is no point spread function, but a picture


def read_kernel(path: str) -> npt.NDArray[np.float64]:
    """A point spread function (y, x) from a TIFF, of sum one.

    Raises:
        EmgenError: not a TIFF, not a plane with an odd number of pixels each way, or no positive finite sum.
    """
    import tifffile

    try:
        found = np.asarray(tifffile.imread(Path(path)), np.float64)
    except (OSError, ValueError, tifffile.TiffFileError) as error:
        raise EmgenError(f"restore.psf.kernel: {path} cannot be read as a TIFF ({error})") from None
    while found.ndim > 2 and len(found) == 1:
        found = found[0]
    return check_kernel(found, path)


def check_kernel(found: npt.NDArray[np.floating], name: str) -> npt.NDArray[np.float64]:
    """The same, of sum one; `name` is where it came from. Raises `EmgenError` as `read_kernel` does."""
    if found.ndim != 2 or not all(n % 2 and n <= LARGEST for n in found.shape):
        raise EmgenError(
            f"restore.psf.kernel: {name} holds an array of shape {found.shape}; expected a plane (y, x) with an odd "
            f"number of pixels each way, so that one is in the middle, and at most {LARGEST}"
        )
    if not (np.isfinite(found).all() and found.sum() > 0):
        raise EmgenError(
            f"restore.psf.kernel: the values in {name} must be finite, and their sum positive"
        )
    return np.asarray(found / found.sum(), np.float64)


def gaussian(sigma_y: float, sigma_x: float, angle: float = 0.0) -> npt.NDArray[np.float64]:
    """An elliptic Gaussian (y, x) of sum one, cut off at 3 sigma: defocus and astigmatism.

    sigma_y, sigma_x: standard deviations in pixels along the ellipse's own axes, which are turned
    by `angle` (radians) from y towards x.
    """
    c, s = math.cos(angle), math.sin(angle)
    radius_y = max(1, math.ceil(3 * math.hypot(c * sigma_y, s * sigma_x)))
    radius_x = max(1, math.ceil(3 * math.hypot(s * sigma_y, c * sigma_x)))
    y, x = np.mgrid[-radius_y : radius_y + 1, -radius_x : radius_x + 1].astype(np.float64)
    along, across = (c * y + s * x) / sigma_y, (c * x - s * y) / sigma_x
    found = np.exp(-(along**2 + across**2) / 2)
    return np.asarray(found / found.sum())


def as_tuples(array: npt.NDArray[np.float64]) -> Kernel:
    """As tuples, which can be compared, hashed and written as JSON."""
    return tuple(map(tuple, array.tolist()))
