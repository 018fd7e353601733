"""The page: `report.html` filled with a run's facts, its sections and the panels of its metrics.

Everything is inline, so the page can be sent by mail, archived and printed; it fetches nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import yaml

from emgen.qc.metrics import METRICS
from emgen.qc.metrics.metric import Arrays
from emgen.qc.report import sections, views
from emgen.qc.report.blocks import Page, Panel
from emgen.qc.report.rule_times import RuleTimes
from emgen.qc.sample import Sample, baseline
from emgen.qc.summary import Verdicts
from emgen.qc.verdict import by_urgency
from emgen.qc.words import duration, number, plural
from emgen.run.inspection.finding import Inspection

LABELS = {check: label for metric in METRICS for check, label in metric.labels.items()}
"""Words for names of checks."""


@dataclass(frozen=True)
class Findings:
    """What a report is made of.

    Attributes:
        summary: figures and verdicts.
        sample: the run's volumes.
        facts: what stands in `provenance/run.json`.
        times: of the run's rules.
        arrays: what metrics kept beside their figures, by the metrics' names.
        inspection: what was found in the input; None where it was not looked at.
    """

    summary: Verdicts
    sample: Sample
    facts: Mapping[str, Any]
    times: list[RuleTimes]
    arrays: Mapping[str, Arrays] = field(default_factory=dict)
    inspection: Inspection | None = None


def render(findings: Findings) -> str:
    """The page as HTML."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": duration, "number": number, "plural": plural}
    plan = findings.sample.plan
    view = sections.view(plan)
    shown = sections.read(findings.sample, view)
    return environment.get_template("report.html").render(
        plan=plan,
        qc=findings.sample.qc,
        summary=findings.summary,
        checks=by_urgency(findings.summary.checks),
        facts=findings.facts,
        input_name=Path(plan.config.input.volume.rstrip("/")).name,
        inspection=findings.inspection,
        times=findings.times,
        labels=LABELS,
        **_overview(findings, view, shown),
        panels=_panels(findings, view, shown),
        config=yaml.safe_dump(plan.config.model_dump(mode="json"), sort_keys=False),
    )


def _overview(findings: Findings, view: sections.View, shown: sections.Panels) -> dict[str, object]:
    """What the page shows of the volumes before any metric."""
    plan = findings.sample.plan
    plane = sections.main_plane(plan)
    return {
        "view": view,
        "sections_away": sections.from_measured(plan, view.at[0]),
        "overview": views.overview(plan, shown, view),
        "plane": plane,
        "baseline": baseline(plan),
        "zoom": views.zoom(plan, shown[plane]),
        "zoom_shape": [min(views.ZOOM_SIDE, n) for n in shown[plane]["restored"].shape],
    }


def _panels(findings: Findings, view: sections.View, shown: sections.Panels) -> list[Panel]:
    panels = []
    for metric in METRICS:
        figures = findings.summary.of(metric)
        if figures is not None:
            arrays = findings.arrays.get(metric.name, {})
            panels.append(metric.panel(figures, Page(findings.sample, arrays, view, shown)))
    return [panel for panel in panels if panel is not None]
