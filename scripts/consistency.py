"""The result degraded again, against the input."""

import torch

from emgen.geometry import Box
from emgen.qc.measure import Grey, consistency
from emgen.qc.sample import Sample
from emgen.run.log import logged
from emgen.run.plan import Plan

with logged(snakemake.log[0]):
    torch.set_num_threads(1)  # tiles are shared out to threads
    plan = Plan.read(snakemake.input.plan)

    def degrade(box: Box, voxels: Grey) -> tuple[Box, Grey]:
        physics = plan.mode.operator(box)
        return physics.footprint, physics(torch.from_numpy(voxels)).numpy()

    sample = Sample.of(plan, snakemake.params.volume)
    consistency(sample, degrade, snakemake.threads).write(snakemake.output.figures)
