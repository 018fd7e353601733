# plan.json is `ancient` where only voxels count: other QC settings rewrite it, and nothing is restored
# again for them. Settings that change voxels never reach it (refuse_other_settings).
#
# Everything the other rules share. The volume's shape is known while the workflow is parsed, so the
# jobs are known too (no checkpoints), and bad input ends the run here, before any work.
from pathlib import Path

from snakemake.exceptions import WorkflowError

from emgen import __version__
from emgen.config.run import parse as parse_settings
from emgen.errors import EmgenError
from emgen.run.resolve import draft
from emgen.run.plan import refuse_other_settings
from emgen.volumes.pyramid import factors

try:
    CONFIG = parse_settings(config)
    RUN = f"results/{CONFIG.run}"
    DRAFT = draft(CONFIG)
    refuse_other_settings(DRAFT, Path(RUN))
except EmgenError as error:
    raise WorkflowError(str(error)) from None

JOBS = range(DRAFT.grid.jobs)
LAST_LEVEL = len(factors(DRAFT.grid.shape, DRAFT.voxel)) - 1
PYRAMID = f"{RUN}/pyramid/{LAST_LEVEL}.json" if LAST_LEVEL else f"{RUN}/restored.json"


wildcard_constraints:
    name=r"adapted-[0-9a-f]+",
    job=r"\d+",
    level=r"\d+",


def overlapping_jobs(wildcards):
    """Restore jobs whose blocks overlap the cores that a stitch job writes."""
    return [f"{RUN}/blocks/{job}.json" for job in DRAFT.grid.sources(int(wildcards.job))]


def finer_level(wildcards):
    """What must be written before a pyramid level can be."""
    before = int(wildcards.level) - 1
    return f"{RUN}/pyramid/{before}.json" if before else f"{RUN}/restored.json"
