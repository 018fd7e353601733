"""Judge the figures into summary.json, and show them in report.html."""

from pathlib import Path

import numpy as np

from emgen.qc import report
from emgen.qc.measure import uncertainty
from emgen.qc.sample import Sample
from emgen.qc.summary import PARTS
from emgen.qc.verdict import summarise
from emgen.run.log import logged
from emgen.run.plan import Plan
from emgen.run.trial_facts import Calibration
from emgen.volumes.volume import Volume

with logged(snakemake.log[0]):
    given = dict(snakemake.input.items())
    run = Path(given["plan"]).parent
    plan = Plan.read(given["plan"])
    sample = Sample.of(plan, run / "restored.ome.zarr")
    spread = Volume.open(run / "uncertainty.ome.zarr") if plan.several_samples else None
    figures = {name: kind.read(given[name]) for name, kind in PARTS.items() if name in given}
    if spread:
        tried = given.get("calibration")
        figures["uncertainty"] = uncertainty(
            sample, spread, Calibration.read(tried) if tried else None
        )
    found = summarise(plan, **figures)
    found.write(snakemake.output.summary)
    page = report.render(
        report.Findings(
            summary=found,
            sample=sample,
            facts=report.read_facts(given["facts"]),
            times=report.rule_times(run / "benchmarks"),
            spread=spread,
            segments=np.load(given["section"]) if "section" in given else None,
        )
    )
    Path(snakemake.output.html).write_text(page, encoding="utf-8")
