"""Try the restoration on the input's own sections: by how much does the spread of samples fall short of the error?"""

from pathlib import Path

from emgen.run.calibration import calibrate
from emgen.run.claim import claimed_device
from emgen.run.identity import unchanged
from emgen.run.log import logged
from emgen.run.plan import Plan
from emgen.volumes.corrected import corrected
from emgen.volumes.inputs import open_input

with logged(snakemake.log[0]), claimed_device() as device:
    plan = Plan.of(Path(snakemake.input.plan).parent)
    measured = unchanged(plan, open_input(plan.config.input))
    found = calibrate(plan, corrected(measured, plan.corrections), device, snakemake.threads)
    found.write(snakemake.output.facts)
    print(f"spread times {found.factor}, from {found.crops} parts of sections")
