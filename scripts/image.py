"""Grey values of the result and of linear interpolation against the reference."""

from emgen.qc.measure import image
from emgen.qc.sample import Sample
from emgen.run.log import logged
from emgen.run.plan import Plan

with logged(snakemake.log[0]):
    sample = Sample.of(Plan.read(snakemake.input.plan), snakemake.params.volume)
    image(sample, snakemake.threads).write(snakemake.output.figures)
