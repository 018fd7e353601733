"""Look at the input before anything is restored."""

from emgen.config.run import parse
from emgen.run.inspection import inspect, refuse
from emgen.run.inspection.words import lines
from emgen.run.log import logged
from emgen.run.resolve import resolve

with logged(snakemake.log[0]):
    config = parse(snakemake.params.settings)
    found = inspect(resolve(config).measured, config)
    print("\n".join(lines(found)))
    refuse(found)
    found.write(snakemake.output.findings)
