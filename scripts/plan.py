"""Plan a run: scaling, noise and key into plan.json, and the empty output volumes."""

from pathlib import Path

from emgen.config.run import parse
from emgen.run.log import logged
from emgen.run.mend import begin
from emgen.run.plan import make
from emgen.run.resolve import resolve
from emgen.volumes.inputs import chunk_note

with logged(snakemake.log[0]):
    spec = resolve(parse(snakemake.params.settings))
    print(
        chunk_note(spec.measured, spec.config.input)
        or "no chunk of the input is known to be missing"
    )
    plan = make(spec, snakemake.input.get("adapted"), snakemake.input.get("psf"))
    # plan.json is no output of the rule: Snakemake would delete it before the rule runs again, and where it was killed
    begin(plan, spec, Path(snakemake.output.planned).parent)
    print(
        f"{len(plan.grid)} blocks in {plan.grid.jobs} jobs; grey values {plan.intensity.low:g} to {plan.intensity.high:g}"
    )
