"""Sections in the wrong order, missing, or from elsewhere.

Law: a section is more like the next one than like the one after that. Where two have changed places, or one does not belong
there, its neighbours say so; where sections are left out, the similarity falls to that of sections farther apart.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from emgen.run.inspection.finding import Finding, listed
from emgen.run.inspection.look import Look, Numbers, around, spread

# Share of sections that are more like the next than the one after: 0.97 at least in the volumes measured, one half where
# the order is by chance. Five pairs are all alike by chance in one of 32 volumes.
ORDERED, LEAST_PAIRS = 0.8, 5
# Standard errors between the means of every second (third ...) similarity: at most 2.5 in the volumes measured
UNEVEN, PERIODS, TIMES_EACH = 3.5, (2, 3, 4), 3
# Steps along z that the similarity falls at a gap: 1.0 at most in the volumes measured where the deviation, over all pairs
# that cross the place, is 3 and more
GAP_STEPS, GAP_DEVIATIONS = 1.2, 3.0


def find(look: Look) -> Iterator[Finding]:
    """Shuffled, swapped, foreign and missing sections."""
    s1, s2 = look.traces.similarity[1], look.traces.similarity[2]
    falls = s1 - s2
    known = np.isfinite(falls)
    if known.sum() < LEAST_PAIRS:
        return
    right = float((falls[known] > 0).mean())
    if right < ORDERED:
        yield _shuffled(look, right)
        return
    swapped = _swapped(look)
    if swapped:
        yield _swap(look, swapped)
    foreign = _foreign(look)
    if foreign:
        sections = look.numbers[foreign].tolist()
        one = len(sections) == 1
        yield Finding(
            what="foreign-sections",
            severity="warn",
            sections=sections,
            sentence=f"{listed(sections).capitalize()} {'fits' if one else 'fit'} neither neighbour, though these fit each other.",
            evidence=f"similarity to the neighbours {np.nanmean(s1[foreign]):.2f}, usually {np.nanmedian(s1):.2f}",
            what_to_do=f"Let {'it' if one else 'them'} be restored from the others: `input: {{lost: {sorted({*look.lost, *sections})}}}`.",
        )
    yield from _missing(look, {*swapped, *foreign})


def _shuffled(look: Look, right: float) -> Finding:
    s1, s2 = (float(np.nanmedian(look.traces.similarity[lag])) for lag in (1, 2))
    return Finding(
        what="shuffled-sections",
        severity="warn",
        sentence="Neighbouring sections are no more alike than others: the order is wrong, or most sections are missing.",
        evidence=f"{100 * right:.0f} % of the sections are more like the next than like the one after; similarity {s1:.2f} "
        f"to the next, {s2:.2f} to the one after",
        what_to_do="Do not restore it along z. Check how the sections are numbered.",
    )


def _swap(look: Look, swapped: list[int]) -> Finding:
    pairs = [(int(look.numbers[i]), int(look.numbers[i + 1])) for i in swapped]
    return Finding(
        what="swapped-sections",
        severity="warn",
        sections=sorted({k for pair in pairs for k in pair}),
        sentence=f"Sections {', '.join(f'{a} and {b}' for a, b in pairs)} have changed places.",
        evidence="each is more like the section beyond the other than like its own neighbour",
        what_to_do="Put them into order and restore that.",
    )


def _margin(look: Look) -> float:
    """By how much a similarity must be on the wrong side: a quarter of what a step along z usually costs."""
    falls = look.traces.similarity[1] - look.traces.similarity[2]
    return max(0.02, 0.25 * float(np.nanmedian(falls)))


def _swapped(look: Look) -> list[int]:
    """The first of every two neighbours that have changed places."""
    s1, s2 = look.traces.similarity[1], look.traces.similarity[2]
    margin, found = _margin(look), []
    for i in range(len(s1) - 1):
        before = s2[i - 1] - s1[i - 1] if i > 0 else np.nan
        behind = s2[i] - s1[i + 1]
        signs = [d > margin for d in (before, behind) if np.isfinite(d)]
        # at an end of the stack there is one sign only, which must be twice as clear
        certain = len(signs) == 2 or any(d > 2 * margin for d in (before, behind))
        if signs and all(signs) and certain and s1[i] > max(s1[i + 1], s1[i - 1] if i > 0 else 0):
            found.append(i)
    return found


def _foreign(look: Look) -> list[int]:
    """Sections whose two neighbours are more like each other than like them."""
    s1, s2 = look.traces.similarity[1], look.traces.similarity[2]
    margin, low = _margin(look), max(4 * look.traces.sure, 0.6 * float(np.nanmedian(s1)))
    return [
        i
        for i in range(1, len(s1) - 1)
        if s2[i - 1] > max(s1[i - 1], s1[i]) + margin and max(s1[i - 1], s1[i]) < low
    ]


def _missing(look: Look, ignored: set[int]) -> Iterator[Finding]:
    """Sections left out in a regular way, or at single places."""
    similarity = {lag: values.copy() for lag, values in look.traces.similarity.items()}
    for i in ignored:
        for lag, values in similarity.items():
            values[max(0, i - lag) : i + 2] = np.nan
    s1 = similarity[1]
    period, errors = max(((p, _unevenness(s1[:-1], p)) for p in PERIODS), key=lambda e: e[1])
    if errors > UNEVEN:
        yield Finding(
            what="uneven-sections",
            severity="warn",
            sentence=f"The distance of the sections changes with a period of {period}: some are missing regularly.",
            evidence=f"mean similarities differ by {errors:.1f} standard errors",
            what_to_do="Find what is missing. Without it, thickness and voxel size are wrong in turn: do not restore along z.",
        )
        return
    gaps = _gaps(similarity)
    if gaps:
        sections = look.numbers[[i + 1 for i in gaps]].tolist()
        yield Finding(
            what="missing-sections",
            severity="warn",
            sections=sections,
            sentence=f"Sections seem to be missing before {listed(sections)}.",
            evidence=f"similarity {float(s1[gaps].mean()):.2f} to the one before, around it {float(np.nanmean(around(s1)[gaps])):.2f}",
            what_to_do="Find what is missing, or put an empty section there, which is then restored from its neighbours.",
        )


def _unevenness(values: Numbers, period: int) -> float:
    """Standard errors between the greatest and the least mean of every `period`-th value."""
    parts = [values[i::period] for i in range(period)]
    parts = [part[np.isfinite(part)] for part in parts]
    if min(len(part) for part in parts) < TIMES_EACH:
        return 0.0
    means = [part.mean() for part in parts]
    rest = np.concatenate([part - part.mean() for part in parts])
    error = max(float(rest.std() * (period / len(rest)) ** 0.5), 0.01)
    return float(max(means) - min(means)) / error


def _gaps(similarity: dict[int, Numbers]) -> list[int]:
    """Places i with sections missing between i and i + 1.

    All pairs of sections on either side are less alike than others as far apart; the pair itself by more than one step along
    z usually costs, and its neighbours by much less: a section that is merely worse has two unlike neighbours.
    """
    beyond = {lag: values - around(values) for lag, values in similarity.items()}
    n = len(beyond[1])
    over = np.full(n, np.nan)
    for i in range(n):
        pairs = np.array(
            [beyond[lag][j] for lag in beyond for j in range(max(0, i - lag + 1), i + 1)]
        )
        if np.isfinite(pairs[0]):
            over[i] = np.nanmean(pairs)
    step = float(np.nanmedian(similarity[1] - similarity[2]))
    drop = np.nan_to_num(-beyond[1] / max(step, 0.01))
    unlike = np.nan_to_num(over) < -GAP_DEVIATIONS * max(spread(over), 0.005)
    alone = (np.append(0, drop[:-1]) < drop / 2) & (np.append(drop[1:], 0) < drop / 2)
    return [int(i) for i in np.flatnonzero((drop > GAP_STEPS) & unlike & alone)]
