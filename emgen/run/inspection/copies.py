"""Copied sections.

Law: noise never comes twice. Two sections that agree voxel for voxel, or whose finest detail (above a quarter of a cycle a
pixel, where a focused image is mostly noise) is the same up to brightness, are one image stored twice.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from emgen.run.inspection.finding import Finding, listed
from emgen.run.inspection.look import Look, spread

# Of neighbours in the volumes measured at most 0.65 of the finest detail is shared (FIB-SEM of 8 nm); a copy that was
# brightened has 0.99, one that went through JPEG 0.95.
SAME, SURE = 0.9, 0.97
MOST = 0.25  # of the sections; a volume in which more are alike was made finer along z than it was measured


def find(look: Look) -> Iterator[Finding]:
    """Sections that repeat another one."""
    traces, images = look.traces, look.with_image
    if images.sum() < 2:
        return
    copies = _exact(look) | _nearly(look)
    if not copies:
        return
    if len(copies) > max(1, MOST * images.sum()):
        yield Finding(
            what="repeated-sections",
            severity="warn",
            sections=sorted(copies),
            sentence="A large part of the sections repeats others: the volume was made finer along z than it was measured.",
            evidence=f"{len(copies)} of {len(traces.numbers)} sections are copies",
            what_to_do="Use the volume as it was measured, and give its section distance as the voxel size.",
        )
        return
    pairs = ", ".join(f"{k} of {of}" for k, of in sorted(copies.items())[:12])
    yield Finding(
        what="copied-sections",
        severity="warn",
        sections=sorted(copies),
        sentence=f"{listed(sorted(copies)).capitalize()} repeat{'s' if len(copies) == 1 else ''} another section.",
        evidence=f"the noise is the same: {pairs}",
        what_to_do=f"Let what was lost be restored: `input: {{lost: {sorted({*look.lost, *copies})}}}`.",
    )


def _exact(look: Look) -> dict[int, int]:
    """Sections whose voxels are those of another, with its number: of two, the one that fits its neighbours less."""
    by_code: dict[int, list[int]] = {}
    for i in np.flatnonzero(look.with_image):
        by_code.setdefault(int(look.traces.codes[i]), []).append(int(i))
    copies: dict[int, int] = {}
    for group in by_code.values():
        if len(group) > 1:
            original = max(group, key=lambda i: (_fits(look, i, group), -i))
            copies |= {
                int(look.numbers[i]): int(look.numbers[original]) for i in group if i != original
            }
    return copies


def _nearly(look: Look) -> dict[int, int]:
    twins = look.traces.twins
    usual = float(np.nanmedian(twins)) if np.isfinite(twins).any() else 0.0
    copies: dict[int, int] = {}
    for i in np.flatnonzero(
        np.nan_to_num(twins) > min(SURE, max(SAME, usual + 6 * spread(twins)))
    ).tolist():
        first, second = (_fits(look, k, [i, i + 1]) for k in (i, i + 1))
        copy, original = (i, i + 1) if first < second else (i + 1, i)
        copies[int(look.numbers[copy])] = int(look.numbers[original])
    return copies


def _fits(look: Look, i: int, apart_from: list[int]) -> float:
    """Similarity of a section to its neighbours, copies of it left out."""
    similarity = look.traces.similarity[1]
    pairs = [similarity[i - 1]] if i > 0 and i - 1 not in apart_from else []
    pairs += [similarity[i]] if i + 1 < len(similarity) and i + 1 not in apart_from else []
    known = [s for s in pairs if np.isfinite(s)]
    return float(np.mean(known)) if known else -1.0
