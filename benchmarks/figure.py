"""Draw a figure of the published supplement with our prior."""

from pathlib import Path

from figures import draw

from emgen.run.log import logged

with logged(snakemake.log[0]):
    draw(int(snakemake.wildcards.number), Path(snakemake.output.picture))
