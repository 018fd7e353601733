"""Draw a figure of the published supplement with our prior."""

import sys
from pathlib import Path

from emgen.run.log import logged

with logged(snakemake.log[0]):
    sys.path.insert(0, str(snakemake.params.benchmarks))
    from figures import main

    main(snakemake.wildcards.number, Path(snakemake.output.picture))
