"""Sections without an image.

Law: an image has contrast, and shares it with the sections beside it. A section that was lost, and stored as black, white
or the noise of a closed shutter, has a small part of the usual contrast.
"""

from __future__ import annotations

from collections.abc import Iterator

from emgen.run.inspection.finding import Finding, listed
from emgen.run.inspection.look import Look


def find(look: Look) -> Iterator[Finding]:
    """Blank sections: of one grey value, which are known to be lost, and of faint noise, which are not."""
    numbers = look.numbers
    known = numbers[look.constant & ~look.said_lost].tolist()
    faint = numbers[look.imageless & ~look.constant & ~look.said_lost].tolist()
    if len(known) + len(faint) == len(numbers):
        return  # the finding is that there is no tissue at all
    if known:
        yield Finding(
            what="blank-sections",
            severity="note",
            sections=known,
            sentence=f"{listed(known).capitalize()} {_hold(known)} one grey value all over: no image.",
            evidence="standard deviation 0 in all columns",
            what_to_do="Nothing: `input.lost: auto` restores those between sections with an image from their neighbours.",
        )
    if faint:
        spread = float(
            look.traces.deviation[look.imageless & ~look.constant & ~look.said_lost].mean()
        )
        usual = (
            float(look.traces.deviation[look.with_image].mean()) if look.with_image.any() else 0.0
        )
        yield Finding(
            what="faint-sections",
            severity="warn",
            sections=faint,
            sentence=f"{listed(faint).capitalize()} {_hold(faint)} faint noise and no image.",
            evidence=f"standard deviation {spread:.1f} grey values, elsewhere {usual:.1f}",
            what_to_do=f"Say that they are lost: `input: {{lost: {sorted({*look.lost, *known, *faint})}}}`.",
        )


def _hold(sections: list[int]) -> str:
    return "holds" if len(sections) == 1 else "hold"
