# What the other rules share. The volume's shape is known while the workflow is parsed, so the jobs are known too
# (no checkpoints), and bad input ends the run here, before any work.
#
# plan.json is no output of a rule: Snakemake deletes outputs before a rule runs and after it failed, and without the
# plan nobody knows what the blocks were made from. Rules wait for a mark beside it, planned.json, which is `ancient`:
# the plan is written again for another division into jobs, and nothing is restored again for that. Settings that
# change voxels never reach it (refuse_other_settings).
import sys
from pathlib import Path

from snakemake.exceptions import WorkflowError

from emgen import __version__
from emgen.config.plain import read as read_plain
from emgen.config.run import parse as parse_settings
from emgen.errors import EmgenError
from emgen.run.head import lead, second_head
from emgen.run.mend import damage, mend
from emgen.run.output import refuse_other_settings
from emgen.run.resolve import resolve
from emgen.volumes.pyramid import factors


def say_damaged(found):
    """What a start found damaged, on the terminal."""
    shown = found[:10] + ([f"... and {len(found) - 10} more"] if found[10:] else [])
    for line in shown:
        print(f"emgen: {line}", file=sys.stderr)
    if found:
        print("emgen: what is damaged is made anew, and nothing else", file=sys.stderr)


if "recipe" in config:
    raise WorkflowError(
        "a recipe trains a network, which is a workflow of its own: "
        "snakemake -s workflow/train.smk --config recipe=FILE --cores all"
    )
if not config:
    raise WorkflowError(
        "there is no configuration; give one: snakemake --configfile my.yaml --cores all "
        "(config/config.yaml describes every key)"
    )

try:
    if workflow.modifier.base_snakefile is None:
        # Snakemake has run a file that is a program already (`emgen run` does not): at least it makes no result.
        # In a module of another workflow the settings are that workflow's.
        for settings_file in workflow.configfiles:
            read_plain(settings_file, str(settings_file))
    CONFIG = parse_settings(config)
    RUN = f"results/{CONFIG.run}"
    SPEC = resolve(CONFIG)
    # jobs read the settings too, and look at what is there by themselves
    if workflow.is_main_process:
        # in a module of another workflow, Snakemake puts the `prefix:` before every path of a rule, and of no other
        FOLDER = Path(workflow.modifier.path_modifier.replace_prefix(RUN))
        refuse_other_settings(SPEC, FOLDER)
        # beside another head's run a start only looks (--summary, --report); more is refused before the first job
        only_looks = workflow.dryrun or second_head(FOLDER) is not None
        say_damaged(damage(SPEC, FOLDER) if only_looks else mend(SPEC, FOLDER))
except EmgenError as error:
    raise WorkflowError(str(error)) from None

PLANNED = ancient(f"{RUN}/planned.json")
JOBS = range(SPEC.grid.jobs)
LAST_LEVEL = len(factors(SPEC.grid.shape, SPEC.voxel)) - 1
PYRAMID = f"{RUN}/pyramid/{LAST_LEVEL}.json" if LAST_LEVEL else f"{RUN}/restored.json"


onstart:
    if workflow.is_main_process:
        try:
            lead(FOLDER)
        except EmgenError as error:
            raise WorkflowError(str(error)) from None


wildcard_constraints:
    name=r"adapted-[0-9a-f]+",
    job=r"\d+",
    level=r"\d+",


def overlapping_jobs(wildcards):
    """Restore jobs whose blocks overlap the cores that a stitch job writes."""
    return [f"{RUN}/blocks/{job}.json" for job in SPEC.grid.sources(int(wildcards.job))]


def finer_level(wildcards):
    """What must be written before a pyramid level can be."""
    before = int(wildcards.level) - 1
    return f"{RUN}/pyramid/{before}.json" if before else f"{RUN}/restored.json"


def projected_memory(wildcards, attempt, threads):
    """Memory of a restore job with the threads that it really has, and more of it at every further attempt."""
    return attempt * SPEC.memory_mb(threads)
