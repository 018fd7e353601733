"""Fill one level of the output's pyramid from the level before it."""

import json
from pathlib import Path

from emgen.run.lease import working_alone
from emgen.volumes.pyramid import build

with working_alone(snakemake.log[0], snakemake.output.facts):
    run, level = Path(snakemake.input.plan).parent, int(snakemake.wildcards.level)
    volumes = [
        path for name in ("restored", "uncertainty") if (path := run / f"{name}.ome.zarr").exists()
    ]
    for path in volumes:
        build(str(path), level, snakemake.threads)
    Path(snakemake.output.facts).write_text(
        json.dumps({"level": level, "volumes": len(volumes)}) + "\n"
    )
