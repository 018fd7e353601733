"""Write down what made the result."""

import json
from pathlib import Path

from emgen.config.qc import Qc
from emgen.run.log import logged
from emgen.run.plan import Plan
from emgen.run.provenance import write

with logged(snakemake.log[0]):
    jobs = json.loads(Path(snakemake.input.restored).read_text())
    run = Path(snakemake.input.plan).parent
    write(Plan.of(run), jobs, run, Qc.model_validate(snakemake.params.qc))
