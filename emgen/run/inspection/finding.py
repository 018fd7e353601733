"""A finding: something about the input that its user should know before it is restored."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from pydantic import Field

from emgen.config.facts import Figures

Severity = Literal["note", "warn", "refuse"]
SEVERITIES: tuple[Severity, Severity, Severity] = ("note", "warn", "refuse")


class Finding(Figures):
    """One thing that was found in the input.

    `note` is worth knowing, `warn` may spoil the result, and with `refuse` nothing is restored unless the setting
    `input.accept` names it.
    """

    what: str = Field(description="A stable name, such as copied-sections.")
    sentence: str = Field(description="What it is, for people.")
    severity: Severity
    sections: list[int] = Field(
        default=[], description="Where, counted from 0; none for the whole volume."
    )
    evidence: str = Field(description="The figures that it rests on.")
    what_to_do: str


class Inspection(Figures):
    """What was found in an input, and how much of it was looked at; `qc/inspect.json`."""

    schema_version: int = 1
    volume: str
    asked: str = Field(description="Digest of the settings that the inspection depends on.")
    sections: int
    sections_looked_at: int
    columns: int = Field(description="Places in the plane at which the sections were looked at.")
    findings: list[Finding]

    def of(self, severity: Severity) -> list[Finding]:
        """The findings of a severity."""
        return [finding for finding in self.findings if finding.severity == severity]


def accepted(findings: Iterable[Finding], codes: Sequence[str]) -> list[Finding]:
    """The findings, worst first; a refusal whose name is among `codes` becomes a warning."""
    mild = [
        finding.model_copy(update={"severity": "warn"})
        if finding.severity == "refuse" and finding.what in codes
        else finding
        for finding in findings
    ]
    return sorted(mild, key=lambda finding: -SEVERITIES.index(finding.severity))


def listed(sections: Sequence[int], most: int = 12) -> str:
    """Section numbers in words: runs as "3 to 7", and no more than `most` parts.

    >>> listed([3]), listed([3, 4, 5, 9])
    ('section 3', 'sections 3 to 5, 9')
    """
    runs: list[list[int]] = []
    for k in sections:
        if runs and k == runs[-1][-1] + 1:
            runs[-1].append(k)
        else:
            runs.append([k])
    parts = [
        part
        for run in runs
        for part in ([f"{run[0]} to {run[-1]}"] if len(run) > 2 else map(str, run))
    ]
    shown = ", ".join(parts[:most]) + (
        f" and {len(parts) - most} more" if len(parts) > most else ""
    )
    return f"section{'s' if len(sections) > 1 else ''} {shown}"
