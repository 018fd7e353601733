"""Split and merge errors of a fixed segmenter on the result, on linear interpolation and on the reference."""

import numpy as np

from emgen.qc.measure import segmentation
from emgen.qc.sample import Sample
from emgen.run.log import logged
from emgen.run.plan import Plan

with logged(snakemake.log[0]):
    sample = Sample.of(Plan.read(snakemake.input.plan), snakemake.params.volume)
    figures, section = segmentation(sample, snakemake.threads)
    figures.write(snakemake.output.figures)
    np.savez_compressed(snakemake.output.section, **section)
