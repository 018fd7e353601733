"""Write down what made the result."""

import json
from pathlib import Path

from emgen.log import logged
from emgen.plan import Plan
from emgen.provenance import write

with logged(snakemake.log[0]):
    jobs = json.loads(Path(snakemake.input.restored).read_text())
    write(Plan.read(snakemake.input.plan), jobs, Path(snakemake.input.plan).parent)
