"""Blending overlapping blocks: every output voxel is the weighted mean of the blocks that computed it.

Stitching gathers: whoever owns a core pulls what its neighbours computed of it and writes the core
once. Nothing is ever added into shared voxels.

    weight of a block along one axis (halo h): a linear ramp over the 2h voxels that two blocks share
      1 |      ______________
        |    /                \\
      0 |__/____________________\\__
         outer   core          outer
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emgen.geometry import Box
from emgen.physics.tissue import MEASURED, as_measured
from emgen.run.output import TISSUE
from emgen.run.plan import Plan
from emgen.volumes.blocks import BlockStore
from emgen.volumes.grid import Block, Grid
from emgen.volumes.inputs import open_input
from emgen.volumes.intensity import store
from emgen.volumes.volume import Volume

Read = Callable[[Block, Box], npt.NDArray[Any]]
"""Result of a block inside a box (both in voxels of the output), shape `box.shape`."""


def ramp(start: int, stop: int, length: int, halo: int) -> npt.NDArray[np.float64]:
    """Weights of one block along one axis, shape (stop - start,).

    Neighbours' ramps add up to one. At the ends of the volume (0 and `length`) there is no neighbour
    and no ramp.

    >>> ramp(0, 6, 10, 1)
    array([1.  , 1.  , 1.  , 1.  , 0.75, 0.25])
    """
    position = np.arange(start, stop) + 0.5
    weight = np.ones(stop - start)
    if halo and start > 0:
        weight = np.minimum(weight, (position - start) / (2 * halo))
    if halo and stop < length:
        weight = np.minimum(weight, (stop - position) / (2 * halo))
    return weight


def window(grid: Grid, block: Block, box: Box) -> npt.NDArray[np.float64]:
    """Weights of a block inside a box that lies in its outer box, shape `box.shape`."""
    inside = box.relative_to(block.outer)
    z, y, x = (
        ramp(start, stop, length, halo)[cut]
        for start, stop, length, halo, cut in zip(
            block.outer.start, block.outer.stop, grid.shape, grid.halo, inside.slices, strict=True
        )
    )
    weights: npt.NDArray[np.float64] = z[:, None, None] * y[:, None] * x
    return weights


def blend(grid: Grid, box: Box, read: Read) -> npt.NDArray[np.float64]:
    """The weighted mean of all blocks that computed the voxels of `box`, shape `box.shape`.

    Blocks are summed by rising number, so that the same voxels come out whoever asks.
    """
    total, weights = np.zeros(box.shape), np.zeros(box.shape)
    for block in grid.touching(box):
        shared = block.outer.intersect(box)
        weight = window(grid, block, shared)
        at = shared.relative_to(box).slices
        total[at] += weight * read(block, shared)
        weights[at] += weight
    return total / weights


def write_cores(
    plan: Plan, number: int, blocks: Path, field: str, target: Path, factor: float = 1.0
) -> int:
    """Write the cores of a job's blocks into the output, and say how many voxels that was.

    With the mean, what each voxel is goes into the volume `TISSUE` beside it, where a run has one.

    Args:
        plan: of the run.
        number: of the job.
        blocks: folder of the block stores.
        field: "mean" or "std".
        target: the output volume; cores are whole write units of it.
        factor: that every voxel is multiplied by.

    Raises:
        EmgenError: a block has no result, or its store was made for another plan.
    """
    grid, volume = plan.grid, Volume.open(target, mode="r+")
    measured = open_input(plan.config.input)
    kinds = (
        Volume.open(target.with_name(TISSUE), mode="r+")
        if plan.marks_tissue and field == "mean"
        else None
    )
    stores = {
        job: BlockStore.existing(blocks / f"{job}.zarr", plan.job_key(job))
        for job in grid.sources(number)
    }

    def read(block: Block, box: Box) -> npt.NDArray[Any]:
        job = grid.job_of(block.index)
        return stores[job].read(
            field, block.index - grid.job(job).start, box.relative_to(block.outer)
        )

    for index in grid.job(number):
        core = grid[index].core
        voxels = store(factor * blend(grid, core, read), volume.dtype)
        states = plan.states(measured, core)
        volume.write(core, as_measured(voxels, states, field))
        if kinds is not None:
            kinds.write(
                core, np.full(core.shape, MEASURED, np.uint8) if states is None else states[0]
            )
    return sum(grid[index].core.size for index in grid.job(number))
