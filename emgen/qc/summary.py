"""`qc/summary.json`: every figure of a run, its verdicts and what they rest on.

What is measured of the restored volume is measured of linear interpolation as well: a figure says
something only beside what could be had for nothing. `config/summary.schema.json` is written from
here (`python -m emgen.qc.summary`), and a test keeps it in step.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, create_model

from emgen import __version__
from emgen.config.facts import Figures
from emgen.qc.metrics import METRICS
from emgen.qc.metrics.metric import Metric
from emgen.qc.verdict import Check, Verdict, advice, not_tested, overall
from emgen.run.inspection.finding import Inspection
from emgen.run.plan import Plan

NO_REFERENCE = (
    "No reference was given (qc.reference): how near the result is to the truth is not known."
)


class Verdicts(Figures):
    """What stands in `summary.json` before the figures of the metrics."""

    schema_version: Literal[2] = 2
    emgen: str
    run: str
    key: str
    verdict: Verdict = Field(
        description=(
            "fail if any check fails, not tested if no decisive check was made, warn if any check warns, else pass."
        )
    )
    sentence: str = Field(description="Whether to use the result, and why.")
    checks: list[Check]

    def of(self, metric: Metric[Any]) -> Figures | None:
        """The figures of a metric; None where it does not apply to the run."""
        figures: Figures | None = getattr(self, metric.name)
        return figures


def summary_type(metrics: Iterable[Metric[Any]]) -> type[Verdicts]:
    """The type of `summary.json`: verdicts, and one key for the figures of every metric."""
    fields: dict[str, Any] = {}
    for metric in metrics:
        when = metric.null_when
        nullable = (metric.figures | None, Field(description=when))
        fields[metric.name] = nullable if when else (metric.figures, ...)
    return create_model(
        "Summary", __base__=Verdicts, __doc__="All figures and verdicts of a run.", **fields
    )


Summary = summary_type(METRICS)


def inspected(inspection: Inspection) -> list[Check]:
    """What was found in the input, as checks: a warning each, or one that passes."""
    warned = [finding for finding in inspection.findings if finding.severity != "note"]
    if not warned:
        reason = (
            f"Nothing was found in the input that speaks against restoring it ({inspection.sections_looked_at} of "
            f"{inspection.sections} sections were looked at)."
        )
        return [Check(name="input", verdict="pass", measure="", value=None, reason=reason)]
    return [
        Check(
            name=f"input: {finding.what.replace('-', ' ')}",
            verdict="warn",
            measure=finding.evidence,
            value=None,
            reason=f"{finding.sentence.rstrip('.')}. {finding.what_to_do}",
        )
        for finding in warned
    ]


def summarise(
    plan: Plan, figures: Mapping[str, Figures], inspection: Inspection | None = None
) -> Verdicts:
    """Judge everything that was measured of a run.

    Args:
        plan: of the run.
        figures: by the names of the metrics; those that do not apply to the run are left out.
        inspection: what was found in its input; None where it was not looked at.
    """
    checks = [] if inspection is None else inspected(inspection)
    checks += [
        check
        for metric in METRICS
        if metric.name in figures
        for check in metric.checks(figures[metric.name], plan)
    ]
    if not any(metric.needs.reference for metric in METRICS if metric.name in figures):
        checks.append(not_tested("reference", NO_REFERENCE))
    return Summary.model_validate(
        {
            "emgen": __version__,
            "run": plan.config.run,
            "key": plan.key,
            "verdict": overall(checks),
            "sentence": advice(checks),
            "checks": checks,
            **{metric.name: figures.get(metric.name) for metric in METRICS},
        }
    )


def schema() -> str:
    """JSON schema of `summary.json`, for other programs."""
    described: dict[str, Any] = Summary.model_json_schema(mode="serialization")
    return json.dumps(described, indent=2) + "\n"


if __name__ == "__main__":
    Path("config/summary.schema.json").write_text(schema())
