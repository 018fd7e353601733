"""Train the prior of a recipe, on as many processes as the job has GPUs."""

import shutil
import subprocess
from pathlib import Path

from emgen.errors import EmgenError
from emgen.run.log import logged
from emgen.training.launch import launcher
from emgen.training.loop import train
from emgen.training.recipe import read

params, output, folder = snakemake.params, snakemake.output, Path(snakemake.params.folder)
command = ["-m", "emgen.cli", "train", str(snakemake.input.recipe), "--output", str(folder)]
command += ["--data", str(params.data)] if params.data else []

with logged(snakemake.log[0]):
    if params.processes == 1:
        train(read(snakemake.input.recipe, data=params.data), folder)
    elif subprocess.run([*launcher(params.processes), *command], check=False).returncode:
        raise EmgenError(f"a training process failed; the last lines of {snakemake.log[0]} say why")
    weights = folder / Path(output.weights).name
    shutil.copyfile(weights, output.weights)
    shutil.copyfile(weights.with_suffix(".json"), output.card)
    for name in ("curves", "samples"):
        shutil.copyfile(folder / f"{name}.png", output[name])
