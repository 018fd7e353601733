"""Write the cores of one job's blocks, blended with their neighbours."""

import json
from pathlib import Path

from emgen.run.calibration_facts import Calibration
from emgen.run.lease import working_alone
from emgen.run.plan import Plan
from emgen.run.stitch import write_cores

with working_alone(snakemake.log[0], snakemake.output.facts):
    run = Path(snakemake.input.plan).parent
    plan, number = Plan.of(run), int(snakemake.wildcards.job)
    voxels = write_cores(plan, number, run / "blocks", "mean", run / "restored.ome.zarr")
    if plan.several_samples:
        tried = snakemake.input.get("calibration")
        factor = Calibration.read(tried).factor if tried else None
        target = run / "uncertainty.ome.zarr"
        write_cores(plan, number, run / "blocks", "std", target, factor or 1.0)
    Path(snakemake.output.facts).write_text(
        json.dumps({"key": plan.key, "voxels": voxels}, indent=2) + "\n"
    )
