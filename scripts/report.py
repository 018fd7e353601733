"""Judge the figures into summary.json, and show them in report.html."""

import json
from pathlib import Path

import numpy as np

from emgen.config.qc import Qc
from emgen.qc.metrics import METRICS
from emgen.qc.report.page import Findings, render
from emgen.qc.report.rule_times import rule_times
from emgen.qc.sample import Sample
from emgen.qc.summary import summarise
from emgen.run.inspection.finding import Inspection
from emgen.run.log import logged
from emgen.run.plan import Plan

with logged(snakemake.log[0]):
    given = dict(snakemake.input.items())
    run = Path(given["plan"]).parent
    plan = Plan.of(run)
    measured = [metric for metric in METRICS if f"{metric.name}_figures" in given]
    figures = {m.name: m.figures.read(given[f"{m.name}_figures"]) for m in measured}
    arrays = {m.name: np.load(given[f"{m.name}_arrays"]) for m in measured if m.keeps_arrays}
    inspection = Inspection.read(given["inspected"])
    summary = summarise(plan, figures, inspection)
    summary.write(snakemake.output.summary)
    page = render(
        Findings(
            summary=summary,
            sample=Sample.of(plan, run, Qc.model_validate(snakemake.params.qc)),
            facts=json.loads(Path(given["facts"]).read_text()),
            times=rule_times(run / "benchmarks"),
            arrays=arrays,
            inspection=inspection,
        )
    )
    Path(snakemake.output.html).write_text(page, encoding="utf-8")
