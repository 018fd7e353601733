"""Traces of the block grid in the result."""

from emgen.qc.measure import seams
from emgen.qc.sample import Sample
from emgen.run.log import logged
from emgen.run.plan import Plan

with logged(snakemake.log[0]):
    sample = Sample.of(Plan.read(snakemake.input.plan), snakemake.params.volume)
    seams(sample).write(snakemake.output.figures)
