"""The blocks of one job: what is missing is restored, what is there stays."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Semaphore
from typing import Any

import torch

from emgen.errors import EmgenError
from emgen.networks.device import fixed_arithmetic
from emgen.run.failures import Failures, reason
from emgen.run.identity import unchanged
from emgen.run.plan import Plan
from emgen.run.resolve import concurrent_blocks
from emgen.run.restore import Restorer
from emgen.run.results import Results
from emgen.volumes.corrected import corrected
from emgen.volumes.inputs import open_input
from emgen.volumes.ledger import Book, Entry
from emgen.volumes.write_units import brightness

COMPILED_FROM = 512
"""Blocks of a job on a GPU from which compiling the networks takes less time than it saves: on an H200 two minutes, against
0.17 s a block of 128 voxels on a side."""


def restore_job(
    plan: Plan, number: int, run: Path, device: str, workers: int, log: Callable[[str], None]
) -> dict[str, Any]:
    """Restore the blocks of a job that have no result yet; the others stay as they are.

    A block that cannot be restored is noted, and the others go on, unless too many fail.

    Args:
        plan: of the run.
        number: of the job.
        run: the run's folder.
        device: "cpu" or a CUDA device.
        workers: threads on a CPU.
        log: is told of every block.

    Returns:
        The job's "first" block and the one after its last, "stop"; how many "blocks" it has, how many were "found" from
        an earlier start, how many are "empty", and how many "voxels" were computed.

    Raises:
        EmgenError: the input or the weights changed, or blocks failed: which, where and why.
        OSError: results cannot be written.
    """
    with fixed_arithmetic(plan.config.restore.precision):
        return _restore_job(plan, number, run, device, workers, log)


def _restore_job(
    plan: Plan, number: int, run: Path, device: str, workers: int, log: Callable[[str], None]
) -> dict[str, Any]:
    results = Results(plan, run)
    measured = corrected(unchanged(plan, open_input(plan.config.input)), plan.corrections)
    blocks = plan.grid.job(number)
    restorer = Restorer(plan, device, workers, device != "cpu" and len(blocks) >= COMPILED_FROM)
    book = results.ledgers.blocks.open(blocks)
    missing = [index for index in blocks if not _is_found(results, book, index, log)]
    facts = {
        "first": blocks.start,
        "stop": blocks.stop,
        "blocks": len(blocks),
        "found": len(blocks) - len(missing),
        "empty": sum(book.entries[i].state == "empty" for i in set(blocks) - set(missing)),
        "voxels": 0,
    }
    if not missing:
        return facts
    for one_of_each in {results.blocks.store(index): index for index in blocks}.values():
        results.blocks.prepare(one_of_each)
    restorer.networks.load()
    lanes = concurrent_blocks(plan.mode, plan.grid, workers) if device == "cpu" else 1
    computing, failures = Semaphore(lanes), Failures(plan, blocks)

    def one(index: int) -> Entry:
        outer = plan.grid[index].outer
        try:
            voxels = restorer.fetch(outer, measured)
            with computing:
                begun = time.monotonic()
                fields = restorer.block(outer, voxels)
                seconds = round(time.monotonic() - begun, 3)
            empty = restorer.is_empty(plan.aligned(outer), voxels)
        except OSError:
            raise  # of the disk, and not of the block
        except Exception as error:
            if not isinstance(error, EmgenError):
                log(traceback.format_exc())
            entry = Entry(index, "failed", reason=reason(error))
        else:
            entry = Entry(
                index,
                "empty" if empty else "done",
                results.blocks.write(index, fields),
                None,
                seconds,
                *brightness(fields["mean"]),
            )
        book.add(entry)
        return entry

    # two more than are computed: while a GPU works, the next block is read and the last one written
    with ThreadPoolExecutor(lanes + 2, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for place, entry in enumerate(pool.map(one, missing)):
            facts["empty"] += entry.state == "empty"
            facts["voxels"] += plan.grid[entry.unit].outer.size if entry.finished else 0
            log(f"block {entry.unit} ({place + 1} of {len(missing)} to do): {_said(entry)}")
            failures.add(entry)
            if failures.too_many:
                pool.shutdown(cancel_futures=True)
                break
    failures.refuse()
    return facts


def _is_found(results: Results, book: Book, index: int, log: Callable[[str], None]) -> bool:
    """Whether a block has its result from an earlier start."""
    entry = book.entries.get(index)
    if entry is None or not entry.finished:
        return False
    damage = results.blocks.damage(index, entry.files)
    log(f"block {index}: {damage or 'found from an earlier start'}")
    return damage is None


def _said(entry: Entry) -> str:
    words = {"done": "restored", "empty": "empty, passed through"}
    return words.get(entry.state) or f"failed: {entry.reason}"
