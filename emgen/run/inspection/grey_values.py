"""Grey values that were cut off, wrapped around, or are too few.

Laws: the histogram of tissue runs out at its ends, where clipping leaves a spike; a lens blurs, so that no pixel next to
another one of its own kind lies at the opposite end of the type's range; and noise visits every grey value between two.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from emgen.run.inspection.finding import Finding
from emgen.run.inspection.look import Look

# Share of the pixels at an end of the range, and times the share of the values beside: an unclipped histogram falls off.
CLIPPED, MUCH, SPIKE = 0.01, 0.05, 4.0
PADDING = 9  # pixels a side: what is of one value and larger is padding, not a saturated organelle
# Share of neighbouring pixels three quarters of the type's range apart, each with a neighbour of its own kind. None of a
# million pairs in the volumes measured; 1 % of wrapped pixels leave 3 in a thousand.
WRAPPED, OPPOSITE = 2e-4, 0.75
# Grey values in use, of those between the 0.1 and 99.9 percentile. Noise of one grey value already visits all of them;
# a palette has 64 or fewer.
FEW, HALF = 80, 0.6
NARROW = 24  # grey values from end to end: rounding then adds noise of 0.3 to a detail of 1


def find(look: Look) -> Iterator[Finding]:
    """Saturation, wrap-around, few grey values and a narrow range."""
    planes = look.planes
    if not planes:
        return
    values = np.concatenate([plane.ravel() for plane in planes])
    low, high = np.percentile(values, (0.1, 99.9))
    yield from _saturated(planes)
    if look.dtype.kind not in "iu":
        return
    yield from _wrapped(look, planes)
    used, span = len(np.unique(values[(values >= low) & (values <= high)])), int(high - low) + 1
    if span < NARROW:
        yield Finding(
            what="narrow-range",
            severity="warn",
            sentence=f"The tissue has only {span} grey values from end to end.",
            evidence=f"0.1 to 99.9 percentile: {low:g} to {high:g}, of {np.iinfo(look.dtype).max}",
            what_to_do="Export the volume again with its full range; rounding has taken detail away.",
        )
    elif used < min(FEW, HALF * span):
        yield Finding(
            what="few-grey-values",
            severity="warn",
            sentence=f"Only {used} grey values occur: the images went through a palette or a coarse conversion.",
            evidence=f"{used} of the {span} values between the 0.1 and 99.9 percentile",
            what_to_do="Export the volume again from the microscope's files.",
        )


def _saturated(planes: list[npt.NDArray[np.float64]]) -> Iterator[Finding]:
    everything = np.concatenate([plane.ravel() for plane in planes])
    ends = {"dark": float(everything.min()), "bright": float(everything.max())}
    span = ends["bright"] - ends["dark"]
    for name, end in ends.items():
        at_end, beside, tissue = 0, 0, 0
        for plane in planes:
            here = plane == end
            padding = scipy.ndimage.binary_opening(here, np.ones((PADDING, PADDING)))
            near = (np.abs(plane - end) <= 0.04 * span) & ~here
            at_end, beside = at_end + int((here & ~padding).sum()), beside + int(near.sum())
            tissue += plane.size - int(padding.sum())
        share = at_end / max(tissue, 1)
        # values beside the end: 4 % of the range, one part in ten of which a smooth histogram would put at its end
        if share > CLIPPED and at_end > SPIKE * 0.1 * max(beside, 1):
            yield Finding(
                what="saturated",
                severity="warn" if share > MUCH else "note",
                sentence=f"{100 * share:.0f} % of the pixels are saturated at the {name} end.",
                evidence=f"{at_end} of {tissue} pixels have the grey value {end:g}, {beside} lie within 4 % of the range beside it",
                what_to_do="What was cut off cannot be restored. Record or export again with a lower contrast.",
            )


def _wrapped(look: Look, planes: list[npt.NDArray[np.float64]]) -> Iterator[Finding]:
    limits = np.iinfo(look.dtype)
    far = OPPOSITE * (float(limits.max) - float(limits.min))
    pairs = opposite = 0
    for plane in planes:
        across = np.abs(np.diff(plane, axis=1))
        # the pixels left and right of both are of the same kind: an isolated bright pixel is no wrapped region
        same = across[:, :-2] < far / 3
        opposite += int((same & (across[:, 1:-1] > far) & (across[:, 2:] < far / 3)).sum())
        pairs += same.size
    if opposite > max(5, WRAPPED * pairs):
        yield Finding(
            what="wrapped-values",
            severity="warn",
            sentence="Grey values wrap around: what was too bright for the type became dark, or the reverse.",
            evidence=f"{opposite} of {pairs} neighbouring pixels lie {100 * OPPOSITE:.0f} % of the range of {look.dtype.name} apart",
            what_to_do="Convert the volume again, with a scale that fits the type, or with the right type (signed or unsigned).",
        )
