"""Plan a run: scaling, noise and key into plan.json, and the empty output volumes."""

from pathlib import Path

import numpy as np

from emgen.config.run import parse
from emgen.run.log import logged
from emgen.run.output import create_output
from emgen.run.plan import make
from emgen.run.resolve import resolve

with logged(snakemake.log[0]):
    spec = resolve(parse(snakemake.params.settings))
    plan = make(spec, snakemake.input.get("adapted"), snakemake.input.get("psf"))
    run = Path(snakemake.output.plan).parent
    create_output(plan, spec, run / "restored.ome.zarr")
    if plan.several_samples:
        create_output(plan, spec, run / "uncertainty.ome.zarr", np.float32)
    plan.write(snakemake.output.plan)
    print(
        f"{len(plan.grid)} blocks in {plan.grid.jobs} jobs; grey values {plan.intensity.low:g} to {plan.intensity.high:g}"
    )
