"""What was found in the input, as a check of the run and as the first part of its report."""

from __future__ import annotations

from emgen.qc.report.blocks import Note, Panel, Paragraph
from emgen.qc.report.tables import Cell, Row, Table
from emgen.qc.verdict import Check
from emgen.run.inspection.finding import Inspection
from emgen.run.inspection.words import scope

TITLE = "The input"
SOUND = "Nothing was found in the input that speaks against it."


def check(inspection: Inspection) -> Check:
    """Whether the input may spoil the result: it warns if any finding does."""
    serious = inspection.of("refuse") + inspection.of("warn")
    reason = " ".join(finding.sentence for finding in serious[:3])
    more = f" And {len(serious) - 3} more findings." if len(serious) > 3 else ""
    return Check(
        name="input",
        verdict="warn" if serious else "pass",
        measure="findings that may spoil the result",
        value=len(serious),
        warn=0,
        reason=f"{reason}{more}" if serious else SOUND,
    )


def panel(inspection: Inspection) -> Panel:
    """All findings, with their evidence and what to do."""
    looked = Note(scope(inspection))
    if not inspection.findings:
        return Panel(TITLE, (Paragraph(SOUND), looked))
    rows = tuple(
        Row(
            finding.sentence,
            (Cell(finding.severity), Cell(finding.evidence), Cell(finding.what_to_do)),
        )
        for finding in inspection.findings
    )
    return Panel(
        TITLE, (Table(("severity", "evidence", "what to do"), rows, corner="finding"), looked)
    )
