"""Try the restoration on the input's own sections: by how much does the spread of samples fall short of the error?"""

from emgen.calibration import calibrate
from emgen.job import claimed_device
from emgen.log import logged
from emgen.plan import Plan
from emgen.volume import Volume

with logged(snakemake.log[0]), claimed_device() as device:
    plan = Plan.read(snakemake.input.plan)
    measured = Volume.open(plan.config.input.volume)
    found = calibrate(plan, measured, device, snakemake.threads)
    found.write(snakemake.output.facts)
    print(f"spread times {found.factor}, from {found.crops} parts of sections")
