"""Train the prior of a recipe, on as many processes as the job has GPUs."""

import shutil
import subprocess
import sys
from pathlib import Path

from emgen.errors import EmgenError
from emgen.log import logged

params, output = snakemake.params, snakemake.output
launcher = ["accelerate.commands.launch", "--num_processes", str(params.processes), "-m"]
command = ["emgen.cli", "train", str(snakemake.input.recipe), "--output", params.folder]
command += ["--data", str(params.data)] if params.data else []

with logged(snakemake.log[0]):
    parts = launcher * (params.processes > 1) + command
    done = subprocess.run([sys.executable, "-m", *parts], check=False)
    if done.returncode:
        raise EmgenError(f"training ended with exit code {done.returncode}; see {snakemake.log[0]}")
    made = Path(params.folder)
    weights = made / f"{Path(output.weights).stem}.safetensors"
    shutil.copyfile(weights, output.weights)
    shutil.copyfile(weights.with_suffix(".json"), output.card)
    for name in ("curves", "samples"):
        shutil.copyfile(made / f"{name}.png", output[name])
