"""Write the cores of one job's blocks, blended with their neighbours."""

import json
from pathlib import Path

from emgen.log import logged
from emgen.plan import Plan
from emgen.stitch import write_cores

with logged(snakemake.log[0]):
    plan, number = Plan.read(snakemake.input.plan), int(snakemake.wildcards.job)
    run = Path(snakemake.input.plan).parent
    voxels = write_cores(plan, number, run / "blocks", "mean", run / "restored.ome.zarr")
    if plan.config.restore.samples > 1:
        write_cores(plan, number, run / "blocks", "std", run / "uncertainty.ome.zarr")
    Path(snakemake.output.facts).write_text(
        json.dumps({"key": plan.key, "voxels": voxels}, indent=2) + "\n"
    )
