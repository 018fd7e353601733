"""No tissue at all.

Law: an image of tissue has most of its power in structures of 16 pixels and more. White noise has as much in the finest
detail; a page of text, a mask or labels consist of few grey values in flat areas.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from emgen.run.inspection.finding import Finding
from emgen.run.inspection.look import Look

# Power below 1/16 of a cycle a pixel over that above 3/8; 120 and more in the volumes measured, 8 in FIB-SEM with noise
# twice its contrast
COLOURED = 2.0
TWO_VALUES, SECOND = (
    0.8,
    0.02,
)  # share of the two most frequent grey values, and of the second of them
FLAT = 0.8  # share of pixels, padding apart, that equal those below and beside them


def find(look: Look) -> Iterator[Finding]:
    """White noise, one grey value, text, masks and labels."""
    what, evidence = _reason(look)
    if what:
        yield Finding(
            what="no-tissue",
            severity="refuse",
            sentence=f"There is no tissue: {what}.",
            evidence=evidence,
            what_to_do="Check that this is the right file and the right data set in it.",
        )


def _reason(look: Look) -> tuple[str, str]:
    if not look.with_image.any() or not look.planes:
        return "all sections hold one grey value or nothing", "standard deviation 0 in all columns"
    power = np.median(look.traces.power[look.seen], axis=0)
    if power[-1] > 0 and power[0] < COLOURED * power[-1]:
        ratio = power[0] / power[-1]
        return (
            "the image is noise",
            f"coarse structures have {ratio:.2f} times the power of the finest detail",
        )
    values, counts = np.unique(np.concatenate([p.ravel() for p in look.planes]), return_counts=True)
    order = np.argsort(counts)[::-1]
    shares = counts[order] / counts.sum()
    if len(shares) > 1 and shares[:2].sum() > TWO_VALUES and shares[1] > SECOND:
        return "nearly all pixels have one of two grey values, as in text or a mask", (
            f"{100 * shares[:2].sum():.0f} % are {values[order[0]]:g} or {values[order[1]]:g}"
        )
    flat = _flat(look, float(values[order[0]]))
    if flat > FLAT:
        return (
            "it consists of flat areas, as labels do",
            f"{100 * flat:.0f} % of the pixels equal their neighbours",
        )
    return "", ""


def _flat(look: Look, padding: float) -> float:
    equal = count = 0
    for plane in look.planes:
        tissue = plane[:-1, :-1] != padding
        same = (plane[:-1, :-1] == plane[1:, :-1]) & (plane[:-1, :-1] == plane[:-1, 1:])
        equal, count = equal + int((same & tissue).sum()), count + int(tissue.sum())
    return equal / max(count, 1)
