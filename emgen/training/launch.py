"""The command that starts a training on several GPUs."""

from __future__ import annotations

import sys

import torch

from emgen.errors import EmgenError


def launcher(processes: int) -> list[str]:
    """The command that starts another on several GPUs, or CPU processes where there is none.

    A file left by `accelerate config` changes nothing.

    Raises:
        EmgenError: there are fewer GPUs.
    """
    gpus = torch.cuda.device_count()
    if 0 < gpus < processes:
        raise EmgenError(f"expected {processes} GPUs (--config processes), found {gpus}")
    words = "--num_machines 1 --mixed_precision no --dynamo_backend no --num_processes"
    start = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--multi_gpu" if gpus else "--cpu",
    ]
    return [*start, *words.split(), str(processes)]
