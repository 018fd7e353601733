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

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emgen.errors import EmgenError
from emgen.geometry import Box
from emgen.physics.tissue import as_measured
from emgen.run.plan import Plan
from emgen.run.results import Results
from emgen.volumes.corrected import corrected
from emgen.volumes.grid import Block, Grid
from emgen.volumes.inputs import open_input
from emgen.volumes.intensity import store
from emgen.volumes.ledger import Entry, digest
from emgen.volumes.volume import Volume
from emgen.volumes.write_units import WriteUnits

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


def write_cores(plan: Plan, number: int, run: Path, field: str, factor: float = 1.0) -> int:
    """Write the cores of a job's blocks into the output, and say how many voxels that was.

    A core that was written from the same results stays as it is.

    Args:
        plan: of the run.
        number: of the job.
        run: the run's folder.
        field: "mean" or "std".
        factor: that every voxel is multiplied by.

    Raises:
        EmgenError: a block has no result or a damaged one, or what it adds up to is no number.
    """
    results, grid = Results(plan, run), plan.grid
    target = results.volume(field)
    measured = corrected(open_input(plan.config.input), plan.corrections)
    units = WriteUnits(Volume.open(target, mode="r+"))
    cores = [grid[index].core for index in grid.job(number)]
    owned = {core: units.touching(core) for core in cores}
    book = results.ledgers.level(target, 0).open([n for each in owned.values() for n in each])
    sources = _Sources.of(results, field, cores)
    for core, numbers in owned.items():
        made_of = digest(factor, sources.checksums(core))
        if all(units.is_made(n, book.entries.get(n), made_of) for n in numbers):
            continue
        begun = time.monotonic()
        grey = factor * blend(grid, core, sources.read)
        if not np.isfinite(grey).all():
            raise EmgenError(
                f"{target.name}: blended voxels from {core.start} to {core.stop} are NaN or infinite; "
                f"their blocks were multiplied by {factor:g}"
            )
        voxels = as_measured(store(grey, units.volume.dtype), plan.states(measured, core), field)
        book.add(*units.write(core, voxels, made_of, round(time.monotonic() - begun, 3)))
    return sum(core.size for core in cores)


@dataclass(frozen=True)
class _Sources:
    """The blocks that a stitch job reads, each looked at once before it is used.

    Attributes:
        results: of the run.
        field: that is read.
        entries: what the ledger says of each block.
        sound: numbers of the blocks whose checksums were found right.
    """

    results: Results
    field: str
    entries: dict[int, Entry]
    sound: set[int]

    @classmethod
    def of(cls, results: Results, field: str, cores: list[Box]) -> _Sources:
        grid = results.plan.grid
        wanted = {block.index for core in cores for block in grid.touching(core)}
        entries = results.ledgers.blocks.read(wanted)
        for index in sorted(wanted):
            if index not in entries or not entries[index].finished:
                outer = grid[index].outer
                raise EmgenError(
                    f"block {index} (voxels {outer.start} to {outer.stop}) has no result in "
                    f"{results.blocks.store(index)}, or a damaged one; start again: it is restored first"
                )
        return cls(results, field, entries, set())

    def checksums(self, core: Box) -> list[tuple[int, int | None]]:
        """Number and checksum of every block that a core is blended from."""
        at = self.results.fields.index(self.field)
        touching = self.results.plan.grid.touching(core)
        return [(block.index, self.entries[block.index].checksums[at]) for block in touching]

    def read(self, block: Block, box: Box) -> npt.NDArray[Any]:
        """As `Read`."""
        stores, index = self.results.blocks, block.index
        if index not in self.sound:
            stores.prepare(index)
            if damage := stores.damage(index, self.entries[index].files, thorough=True):
                self.results.ledgers.blocks.mark({index: damage}, by="stitch")
                raise EmgenError(f"{damage}; start again: block {index} is restored anew first")
            self.sound.add(index)
        return stores.read(self.field, index, box.relative_to(block.outer))
