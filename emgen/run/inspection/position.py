"""Sections that are out of place.

Law: where a section alone is displaced, the way to it and the way from it are opposite, and the sections before and behind
fit each other where they are. Half of the difference of the two ways is its displacement; drift and slanted tissue, which
go on in one direction, cancel in it.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from emgen.run.inspection.finding import Finding, listed
from emgen.run.inspection.look import Look, spread

# Pixels. In the volumes measured the median is 1.8 at most, of sections that have little in common with their neighbours.
JITTER = 2.5
JUMP = 5.0
GAIN = 0.05  # of similarity, by which a displaced pair must fit better than where it is
DEVIATIONS = 5.0
LEAST = 4  # displacements without which no median is told


def find(look: Look) -> Iterator[Finding]:
    """Jitter of many sections, or jumps of single ones."""
    traces = look.traces
    shift, gain = traces.shift[1], traces.similarity[1] - traces.still[1]
    away = np.hypot(
        *((shift[:-1] - shift[1:]) / 2).T
    )  # of section k + 1, from those before and behind
    known = away[np.isfinite(away)]
    if len(known) < LEAST:
        return
    median = float(np.median(known))
    if median > JITTER and np.nanmedian(gain) > GAIN:
        sections = (np.flatnonzero(np.nan_to_num(away) > JITTER) + 1).tolist()
        yield Finding(
            what="jitter",
            severity="warn",
            sections=look.numbers[sections].tolist(),
            sentence=f"The sections jitter by about {median:.0f} pixels.",
            evidence=f"{len(sections)} of {len(known)} lie more than {JITTER:g} pixels beside their neighbours",
            what_to_do="Align the stack, and restore that.",
        )
        return
    least = max(JUMP, median + DEVIATIONS * spread(away))
    steps = np.hypot(*(shift - np.nanmedian(shift, axis=0)).T)
    # put right, the pair is as alike as others: without that, the best place is chance
    usual = float(np.nanmedian(traces.similarity[1]))
    sure = (np.nan_to_num(gain) > 2 * GAIN) & (
        np.nan_to_num(traces.similarity[1]) > max(0.85 * usual, 6 * traces.sure)
    )
    jumped = np.flatnonzero((np.nan_to_num(steps) > least) & sure)
    if jumped.size:
        sections = look.numbers[np.minimum(jumped + 1, len(look.numbers) - 1)].tolist()
        yield Finding(
            what="position-jumps",
            severity="warn",
            sections=sections,
            sentence=f"The position jumps at {listed(sections)}.",
            evidence=f"by {float(steps[jumped].mean()):.0f} pixels, elsewhere by {float(np.nanmedian(steps)):.0f}",
            what_to_do="Align the stack, and restore that.",
        )
