"""Point spread functions in the plane: elliptic Gaussians, or read from a file."""

from __future__ import annotations

import math
from collections.abc import Sequence
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

WIDEST = MAX_WIDTH // 2 // CUTOFF  # pixels: standard deviation of a Gaussian that fits into it


def read_kernel(path: str) -> npt.NDArray[np.float64]:
    """Read a point spread function from a TIFF.

    Returns:
        Weights (y, x) of sum one, one for each pixel of the input.

    Raises:
        EmgenError: not a TIFF, not a plane with an odd number of pixels each way, or no positive finite sum.
    """
    import tifffile

    try:
        with tifffile.TiffFile(Path(path)) as file:
            # asked before a voxel is decoded: a few bytes may say that they are a terabyte
            check_shape(file.series[0].shape, path)
            kernel = np.asarray(file.asarray(maxworkers=1), np.float64)
    except EmgenError:
        raise
    except Exception as error:  # a damaged file raises whatever its bytes happen to say
        raise EmgenError(
            f"restore.psf.kernel: {path} cannot be read as a TIFF ({type(error).__name__}: {error})"
        ) from None
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
    check_shape(kernel.shape, name)
    if kernel.ndim != 2:
        raise EmgenError(_unfit(kernel.shape, name))
    if not (np.isfinite(kernel).all() and kernel.sum() > 0):
        raise EmgenError(
            f"restore.psf.kernel: the values in {name} must be finite, and their sum positive"
        )
    return np.asarray(kernel / kernel.sum(), np.float64)


def check_shape(shape: Sequence[int], name: str) -> None:
    """`EmgenError` if an array of this shape, ones apart, is no plane with an odd number of pixels each way."""
    plane = shape[-2:]
    if (
        len(plane) != 2
        or any(n != 1 for n in shape[:-2])
        or not all(n % 2 and n <= MAX_WIDTH for n in plane)
    ):
        raise EmgenError(_unfit(shape, name))


def _unfit(shape: Sequence[int], name: str) -> str:
    return (
        f"restore.psf.kernel: {name} holds an array of shape {tuple(shape)}; expected a plane (y, x) with an odd number of "
        f"pixels each way, so that one is in the middle, and at most {MAX_WIDTH}"
    )


def gaussian(sigma_y: float, sigma_x: float, angle: float = 0.0) -> npt.NDArray[np.float64]:
    """An elliptic Gaussian: the blur of defocus and astigmatism.

    Args:
        sigma_y, sigma_x: standard deviations in pixels along the ellipse's own axes.
        angle: in radians, by which these axes are turned from y towards x.

    Returns:
        Weights (y, x) of sum one, cut off at 3 standard deviations.

    Raises:
        EmgenError: it is wider than a point spread function can be.
    """
    if max(sigma_y, sigma_x) > WIDEST:
        raise EmgenError(
            f"restore.psf.sigma: expected at most {WIDEST} pixels; found {max(sigma_y, sigma_x):g}. It is cut off at {CUTOFF} "
            f"standard deviations, and a function wider than {MAX_WIDTH} pixels is no blur that can be undone"
        )
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
