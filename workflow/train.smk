# Trains a network from a recipe: a prior, or an estimator; apart from any volume that is restored.
#
#   snakemake -s workflow/train.smk --config recipe=config/prior/emgen-small.yaml data=FOLDER --cores all
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.utils import min_version

from emgen.errors import EmgenError
from emgen.training.recipe import read

min_version("9.27")

if "recipe" not in config:
    raise WorkflowError("no recipe to train from: give one with --config recipe=FILE data=FOLDER")
RECIPE = Path(config["recipe"])
try:
    PRIOR = read(RECIPE).name
except EmgenError as error:
    raise WorkflowError(str(error)) from None


rule train_prior:
    input:
        recipe=RECIPE,
    output:
        weights=f"priors/{PRIOR}.safetensors",
        card=f"priors/{PRIOR}.json",
        curves=f"priors/{PRIOR}-curves.png",
        samples=f"priors/{PRIOR}-samples.png",
    log:
        f"training/{PRIOR}/train.log",
    benchmark:
        f"training/{PRIOR}/benchmark.tsv"
    conda:
        "../envs/torch.yaml"
    threads: 16
    resources:
        mem_mb=16000,
        runtime=1440,
        gpu_slot=config.get("processes", 1),
    params:
        data=config.get("data"),
        # checkpoints stay where no rule owns them: a job that is killed or runs out of time goes on from there
        folder=f"training/{PRIOR}",
        processes=config.get("processes", 1),
    message:
        "Training the prior of {input.recipe}; see {log}"
    script:
        "../scripts/train_prior.py"
