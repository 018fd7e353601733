"""Measure one metric of the result."""

from pathlib import Path

import numpy as np

from emgen.config.qc import Qc
from emgen.qc.metrics import named
from emgen.qc.sample import Sample
from emgen.run.identity import unchanged
from emgen.run.log import logged
from emgen.run.plan import Plan

with logged(snakemake.log[0]):
    run = Path(snakemake.input.plan).parent
    plan = Plan.of(run)
    sample = Sample.of(plan, run, Qc.model_validate(snakemake.params.qc))
    unchanged(plan, sample.measured)
    measured = named(snakemake.params.metric).measure(sample, snakemake.threads)
    measured.figures.write(snakemake.output.figures)
    if "arrays" in snakemake.output.keys():  # noqa: SIM118
        np.savez_compressed(snakemake.output.arrays, **measured.arrays)
