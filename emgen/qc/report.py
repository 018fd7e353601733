"""`report.html`: what was done, what it looks like, how far it can be trusted, in one file.

Everything is inline, so the page can be sent by mail, archived and printed; it fetches nothing.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy.typing as npt
import yaml
from markupsafe import Markup

from emgen.qc import figures, table, views
from emgen.qc.measure import VOLUMES
from emgen.qc.sample import Sample, baseline
from emgen.qc.summary import Curve, Pair, Sector, Summary
from emgen.volumes.volume import Volume


@dataclass(frozen=True)
class Findings:
    """What a report is made of.

    Attributes:
        summary: figures and verdicts.
        sample: the run's volumes.
        facts: `provenance/run.json`.
        times: of `rule_times`.
        spread: standard deviation over the samples, if there are several.
        segments: sections of the segmenter's objects, as `scripts/segmentation.py` leaves them.
    """

    summary: Summary
    sample: Sample
    facts: Mapping[str, Any]
    times: list[dict[str, Any]]
    spread: Volume | None = None
    segments: Mapping[str, npt.NDArray[Any]] | None = None


def render(found: Findings) -> str:
    """The page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": duration, "plural": plural}
    plan, summary = found.sample.plan, found.summary
    beside = baseline(plan)
    seen, main = views.view(plan), views.main_plane(plan)
    shown = views.panels(found.sample, seen)
    return environment.get_template("report.html").render(
        plan=plan,
        summary=summary,
        facts=found.facts,
        restore=plan.config.restore,
        times=found.times,
        titles={name: views.title(plan, name) for name in VOLUMES},
        beside=beside,
        zoomed=[min(views.ZOOM, n) for n in shown[main]["restored"].shape],
        view=seen,
        away=views.from_measured(plan, seen.at[0]),
        main=main,
        sections=views.sections(plan, shown, seen),
        zoom=views.zoom(plan, shown[main]),
        differences=views.differences(plan, shown[main]) if summary.image else None,
        image_rows=table.image_rows(summary),
        fsc=figures.fsc(_curves(summary.fsc.figures), beside, power=True) if summary.fsc else None,
        fsc_rows=table.fsc_rows(summary),
        segmentation_rows=table.segmentation_rows(summary),
        objects=views.objects(found.sample, found.segments) if found.segments else None,
        seams=figures.seams(summary.seams.figures, beside, summary.seams.halo)
        if _has_faces(summary)
        else None,
        consistency_rows=table.consistency_rows(summary),
        consistency=_consistency_figure(summary, beside),
        spread=views.spread(plan, found.spread, seen) if found.spread else None,
        config=yaml.safe_dump(plan.config.model_dump(mode="json"), sort_keys=False),
    )


def _curves(pair: Pair[Any]) -> Pair[dict[Sector, Curve]]:
    return Pair(restored=pair.restored.curves, interpolated=pair.interpolated.curves)


def _consistency_figure(summary: Summary, beside: str) -> Markup | None:
    """Only where there is something to see: a result that keeps its input correlates by 1."""
    found = summary.consistency.figures
    return (
        figures.fsc(_curves(found), beside, power=False)
        if found.restored.rmse_grey and found.restored.curves["spherical"].frequency_per_nm
        else None
    )


def _has_faces(summary: Summary) -> bool:
    return any(seam.score is not None for seam in summary.seams.figures.restored.values())


def rule_times(folder: Path) -> list[dict[str, Any]]:
    """Per rule: jobs, seconds in all and of the longest, peak memory in MB.

    From Snakemake's benchmark files: <rule>.tsv, or a folder <rule> with one per job.
    """
    rules: dict[str, list[dict[str, str]]] = {}
    for path in sorted(folder.rglob("*.tsv"), key=lambda each: each.stat().st_mtime):
        name = path.relative_to(folder).parts[0].removesuffix(".tsv")
        with path.open() as lines:
            rules.setdefault(name, []).extend(csv.DictReader(lines, delimiter="\t"))
    return [
        {
            "rule": name,
            "jobs": len(jobs),
            "seconds": sum(float(job["s"]) for job in jobs),
            "longest": max(float(job["s"]) for job in jobs),
            "memory_mb": max(
                (float(job["max_rss"]) for job in jobs if job["max_rss"] not in ("-", "NA")),
                default=None,
            ),
        }
        for name, jobs in rules.items()
    ]


def duration(seconds: float) -> str:
    """For people.

    >>> duration(4.21), duration(93), duration(7260)
    ('4.2 s', '1 min 33 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def plural(count: int, thing: str) -> str:
    """A number and what it counts.

    >>> plural(1, "tile"), plural(2000, "tile")
    ('1 tile', '2 000 tiles')
    """
    return f"{count:,} {thing}{'' if count == 1 else 's'}".replace(",", " ")


def read_facts(path: str | Path) -> dict[str, Any]:
    """`provenance/run.json`."""
    facts: dict[str, Any] = json.loads(Path(path).read_text())
    return facts
