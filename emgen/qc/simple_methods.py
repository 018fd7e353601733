"""What needs no network: a measured section enlarged, smoothed or sharpened by the best of some settings.

The settings are those that come nearest to the very truth that the result is compared with, which no user knows: what
does not beat them is not worth a network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt
import scipy.ndimage

Grey = npt.NDArray[np.float32]

ORDERS = {1: "linear interpolation", 3: "cubic interpolation"}
SMOOTHED = (0.5, 0.7, 0.9, 1.1, 1.4, 1.8, 2.4, 3.2)
"""Standard deviations of a Gaussian in pixels."""
SHARPENED = tuple((width, much) for width in (1.0, 2.0, 3.0) for much in (0.5, 1.0, 2.0, 4.0))
"""Of an unsharp mask: standard deviation in pixels, and by how much what it leaves is raised."""


def best(measured: Sequence[Grey], truth: Sequence[Grey]) -> tuple[str, list[Grey]]:
    """The simple method that comes nearest to the truth over all sections: its name, and what it makes of them.

    Args:
        measured: sections (y, x).
        truth: of each, on as many pixels or a whole multiple of them.
    """
    tried = dict(_methods(measured, truth))
    errors = {
        name: sum(float(np.square(a - b).mean()) for a, b in zip(sections, truth, strict=True))
        for name, sections in tried.items()
    }
    name = min(errors, key=lambda each: errors[each])
    return name, tried[name]


def _methods(measured: Sequence[Grey], truth: Sequence[Grey]) -> Iterator[tuple[str, list[Grey]]]:
    factor = len(truth[0]) // len(measured[0])
    for order, enlarged in ORDERS.items() if factor > 1 else [(0, "the measured section")]:
        sections = [_enlarged(section, factor, order) for section in measured]
        yield enlarged, sections
        for width in SMOOTHED:
            name = (
                f"a Gaussian of {width:g} pixels"
                if factor == 1
                else f"{enlarged}, smoothed by {width:g} pixels"
            )
            yield name, [scipy.ndimage.gaussian_filter(s, width) for s in sections]
        for width, much in SHARPENED:
            name = f"{enlarged}, sharpened ({width:g} pixels, {much:g} times)"
            smooth = (scipy.ndimage.gaussian_filter(s, width) for s in sections)
            yield name, [s + much * (s - b) for s, b in zip(sections, smooth, strict=True)]


def _enlarged(section: Grey, factor: int, order: int) -> Grey:
    """A pixel that is the mean of factor x factor pixels lies in their middle."""
    if factor == 1:
        return section
    larger: Grey = scipy.ndimage.zoom(
        section.astype(np.float32), factor, order=order, mode="nearest", grid_mode=True
    )
    return larger
