"""Train the prior of a recipe, on as many processes as the job has GPUs."""

import shutil
import subprocess
import sys
from pathlib import Path

import torch

from emgen.errors import EmgenError
from emgen.log import logged
from emgen.prior.recipe import read
from emgen.prior.training import train

params, output, folder = snakemake.params, snakemake.output, Path(snakemake.params.folder)
command = ["emgen.cli", "train", str(snakemake.input.recipe), "--output", str(folder)]
command += ["--data", str(params.data)] if params.data else []


def launched(processes: int) -> list[str]:
    """The same on several GPUs of this machine; a file left by `accelerate config` changes nothing."""
    found = torch.cuda.device_count()
    if 0 < found < processes:
        raise EmgenError(f"expected {processes} GPUs (--config processes), found {found}")
    words = "--num_machines 1 --mixed_precision no --dynamo_backend no --num_processes"
    start = ["-m", "accelerate.commands.launch", "--multi_gpu" if found else "--cpu"]
    return [*start, *words.split(), str(processes)]


with logged(snakemake.log[0]):
    if params.processes == 1:
        train(read(snakemake.input.recipe, data=params.data), folder)
    elif subprocess.run(
        [sys.executable, *launched(params.processes), "-m", *command], check=False
    ).returncode:
        raise EmgenError(f"a training process failed; the last lines of {snakemake.log[0]} say why")
    weights = folder / Path(output.weights).name
    shutil.copyfile(weights, output.weights)
    shutil.copyfile(weights.with_suffix(".json"), output.card)
    for name in ("curves", "samples"):
        shutil.copyfile(folder / f"{name}.png", output[name])
