"""Measure one metric of the result."""

from pathlib import Path

import numpy as np

from emgen.qc.metrics import named
from emgen.qc.sample import Sample
from emgen.run.log import logged
from emgen.run.plan import Plan

with logged(snakemake.log[0]):
    plan = Path(snakemake.input.plan)
    sample = Sample.of(Plan.read(plan), plan.parent)
    measured = named(snakemake.params.metric).measure(sample, snakemake.threads)
    measured.figures.write(snakemake.output.figures)
    if "arrays" in snakemake.output.keys():  # noqa: SIM118
        np.savez_compressed(snakemake.output.arrays, **measured.arrays)
