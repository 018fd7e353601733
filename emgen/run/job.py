"""The blocks of one job: what is missing is restored, what is there stays."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Semaphore
from typing import Any

import numpy as np
import torch

from emgen.geometry import Box
from emgen.networks.device import fixed_arithmetic
from emgen.run.identity import unchanged
from emgen.run.plan import Plan
from emgen.run.resolve import concurrent_blocks
from emgen.run.restore import Restorer
from emgen.volumes.blocks import BlockStore
from emgen.volumes.inputs import open_input

COMPILED_FROM = 512
"""Blocks of a job on a GPU from which compiling the networks takes less time than it saves: on an H200 two minutes, against
0.17 s a block of 128 voxels on a side."""


def open_results(plan: Plan, number: int, path: Path) -> BlockStore:
    """The block store of a job, empty if it was made for other settings or other blocks."""
    blocks = plan.grid.job(number)
    fields: dict[str, Any] = {"std": np.float32} if plan.several_samples else {}
    return BlockStore.open(
        path,
        plan.job_key(number),
        len(blocks),
        plan.grid.outer_shape(),
        {**fields, "mean": plan.dtype},
    )


def restore_job(
    plan: Plan, number: int, path: Path, device: str, workers: int, log: Callable[[str], None]
) -> dict[str, Any]:
    """Restore the blocks of a job that have no result yet; the others stay as they are.

    Args:
        plan: of the run.
        number: of the job.
        path: its block store.
        device: "cpu" or a CUDA device.
        workers: threads on a CPU.
        log: is told of every block.

    Returns:
        How many "blocks" the job has, how many were "found" from an earlier start, how many were "empty", and how many
        "voxels" were computed.

    Raises:
        EmgenError: the input or the weights changed, or hold what cannot be restored.
    """
    with fixed_arithmetic(plan.config.restore.precision):
        return _restore_job(plan, number, path, device, workers, log)


def _restore_job(
    plan: Plan, number: int, path: Path, device: str, workers: int, log: Callable[[str], None]
) -> dict[str, Any]:
    results, measured = open_results(plan, number, path), open_input(plan.config.input)
    unchanged(plan, measured)
    blocks = len(plan.grid.job(number))
    restorer = Restorer(plan, device, workers, device != "cpu" and blocks >= COMPILED_FROM)
    facts = {"blocks": blocks, "found": 0, "empty": 0, "voxels": 0}
    missing = []
    for place, index in enumerate(plan.grid.job(number)):
        if results.done(place):
            facts["found"] += 1
            log(f"block {index}: found from an earlier start")
        else:
            missing.append((place, index, plan.grid[index].outer))
    if not missing:
        return facts
    restorer.networks.load()
    lanes = concurrent_blocks(plan.mode, plan.grid, workers) if device == "cpu" else 1
    computing = Semaphore(lanes)

    def one(place: int, index: int, outer: Box) -> bool:
        voxels = restorer.fetch(outer, measured)
        with computing:
            fields = restorer.block(outer, voxels)
        results.write(place, fields)
        return restorer.is_empty(plan.aligned(outer), voxels)

    # two more than are computed: while a GPU works, the next block is read and the last one written
    with ThreadPoolExecutor(lanes + 2, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        done = pool.map(one, *zip(*missing, strict=True))
        for (place, index, outer), empty in zip(missing, done, strict=True):
            facts["empty"] += empty
            facts["voxels"] += outer.size
            how = "empty, passed through" if empty else "restored"
            log(f"block {index} ({place + 1} of {facts['blocks']}): {how}")
    return facts
