"""Write the cores of one job's blocks, blended with their neighbours."""

import json
from pathlib import Path

from emgen.run.calibration_facts import Calibration
from emgen.run.lease import working_alone
from emgen.run.plan import Plan
from emgen.run.stitch import write_cores
from emgen.run.tissue_map import write_tissue

with working_alone(snakemake.log[0], snakemake.output.facts):
    run = Path(snakemake.input.plan).parent
    plan, number = Plan.of(run), int(snakemake.wildcards.job)
    blocks = plan.grid.job(number)
    facts = {"key": plan.key, "first": blocks.start, "stop": blocks.stop}
    facts["voxels"] = write_cores(plan, number, run, "mean")
    if plan.several_samples:
        tried = snakemake.input.get("calibration")
        factor = Calibration.read(tried).factor if tried else None
        write_cores(plan, number, run, "std", factor or 1.0)
    facts |= write_tissue(plan, number, run)
    Path(snakemake.output.facts).write_text(json.dumps(facts, indent=2) + "\n")
