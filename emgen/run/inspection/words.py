"""An inspection in words, for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from emgen.run.inspection.finding import Inspection

WIDTH = 100


def lines(inspection: Inspection) -> Iterator[str]:
    """What was found, worst first: a line for each finding, and below it the evidence and what to do."""
    yield scope(inspection)
    if not inspection.findings:
        yield "Nothing was found that speaks against it."
    for finding in inspection.findings:
        yield ""
        yield from textwrap.wrap(
            f"{finding.severity}: {finding.sentence} [{finding.what}]",
            WIDTH,
            subsequent_indent="  ",
        )
        for text in (f"Evidence: {finding.evidence}.", finding.what_to_do):
            yield from textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="  ")


def scope(inspection: Inspection) -> str:
    """How much was looked at."""
    seen, sections = inspection.sections_looked_at, inspection.sections
    some = f"all {sections} sections" if seen == sections else f"{seen} of {sections} sections"
    places = f"{inspection.columns} place{'s' if inspection.columns > 1 else ''}"
    return f"{inspection.volume}: looked at {some} in {places}."
