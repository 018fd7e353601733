"""Hot and dead pixels of the detector.

Law: a beam's spot is wider than a pixel, so no pixel of an image lies far above, or below, all of its neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

from emgen.physics.noise_model import white_noise
from emgen.run.inspection.finding import Finding
from emgen.run.inspection.look import Look
from emgen.volumes.corrected import isolated
from emgen.volumes.samples import sample_boxes

# Of the range of tissue (0.1 to 99.9 percentile), and noise's standard deviations, by which a pixel must lie beyond all
# four neighbours. Noise alone reaches 12 once in 1e30 pixels.
BEYOND, DEVIATIONS = 0.3, 12.0
MANY = 1e-3  # share of the pixels: of more they are noise


def find(look: Look) -> Iterator[Finding]:
    """Pixels that no image can have."""
    if not look.planes:
        return
    least = threshold(look.planes)
    places: set[tuple[int, int, int]] = set()
    size = 0
    for box, sample in zip(sample_boxes(look.shape), look.samples, strict=True):
        size += sample.size
        found = np.argwhere(isolated(sample, least)) + np.array(box.start)
        places |= {(int(z), int(y), int(x)) for z, y, x in found}
    if not places or len(places) > MANY * size:
        return
    first = ", ".join(f"({z}, {y}, {x})" for z, y, x in sorted(places)[:5])
    yield Finding(
        what="hot-pixels",
        severity="warn" if len(places) > 1e-5 * size else "note",
        sections=sorted({z for z, _, _ in places}),
        sentence=f"{len(places)} pixel{'s' if len(places) > 1 else ''} of those sampled lie far beyond all their neighbours.",
        evidence=f"by more than {least:.0f} grey values, at (z, y, x) {first}{' and more' if len(places) > 5 else ''}",
        what_to_do="Take them out: `input: {hot_pixels: remove}`.",
    )


def threshold(planes: list[npt.NDArray[np.float64]]) -> float:
    """Grey values that a pixel must lie beyond its neighbours to be no image."""
    low, high = np.percentile(np.concatenate([plane.ravel() for plane in planes]), (0.1, 99.9))
    return float(max(BEYOND * (high - low), DEVIATIONS * white_noise([p[None] for p in planes])))
