"""Time and memory of a run's rules, from Snakemake's benchmark files."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class RuleTimes:
    """What the jobs of one rule took.

    Attributes:
        rule: its name.
        jobs: how many there were.
        seconds: of all jobs together.
        longest: seconds of the longest job.
        memory_mb: peak of the largest job; None where it was not measured.
    """

    rule: str
    jobs: int
    seconds: float
    longest: float
    memory_mb: float | None


def rule_times(folder: Path) -> list[RuleTimes]:
    """Add up the benchmark files of a run, in the order in which they were written.

    Args:
        folder: holds `<rule>.tsv` of a rule with one job, a folder `<rule>` of one with several.
    """
    rules: dict[str, list[dict[str, str]]] = {}
    for path in sorted(folder.rglob("*.tsv"), key=lambda path: path.stat().st_mtime):
        name = path.relative_to(folder).parts[0].removesuffix(".tsv")
        with path.open() as lines:
            rules.setdefault(name, []).extend(csv.DictReader(lines, delimiter="\t"))
    return [_added(name, jobs) for name, jobs in rules.items()]


def _added(name: str, jobs: list[dict[str, str]]) -> RuleTimes:
    seconds = [float(job["s"]) for job in jobs]
    memory = [float(job["max_rss"]) for job in jobs if job["max_rss"] not in ("-", "NA")]
    return RuleTimes(name, len(jobs), sum(seconds), max(seconds), max(memory, default=None))
