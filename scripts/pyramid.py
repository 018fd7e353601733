"""Fill one level of the output's pyramid from the level before it, as far as an earlier start did not."""

import json
from pathlib import Path

from emgen.run.lease import working_alone
from emgen.run.plan import Plan
from emgen.run.results import Results
from emgen.volumes.pyramid import build

with working_alone(snakemake.log[0], snakemake.output.facts):
    run, level = Path(snakemake.input.plan).parent, int(snakemake.wildcards.level)
    plan = Plan.of(run)
    results = Results(plan, run)
    for path in results.volumes:
        written = build(path, level, results.ledgers, snakemake.threads)
        print(f"{path}, level {level}: {written} write units written")
    facts = {"key": plan.key, "level": level, "volumes": len(results.volumes)}
    Path(snakemake.output.facts).write_text(json.dumps(facts) + "\n")
