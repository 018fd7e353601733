"""Cutting the output into blocks and sharing them out to jobs.

  outer of block 1                 core: what a block owns; cores tile the volume
|-----------------|                outer: the core grown by the halo and clipped to the volume;
  | core 1 | core 2 |              neighbouring outers overlap, and the overlap is averaged
      |-----------------|
        outer of block 2
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from emgen.geometry import Box, Zyx, zyx


@dataclass(frozen=True)
class Block:
    """One block: its number in the grid, the voxels it owns and the voxels it computes."""

    index: int
    core: Box
    outer: Box


@dataclass(frozen=True)
class Grid:
    """Blocks of one volume, counted in (z, y, x) order with x running fastest.

    Attributes:
        shape: voxels of the volume.
        block: voxels of a core; the last ones are cut by the volume's end.
        halo: voxels computed beyond the core on every side.
        per_job: blocks of one job.
    """

    shape: Zyx
    block: Zyx
    halo: Zyx
    per_job: int = 64

    def __post_init__(self) -> None:
        if min(self.shape) < 1 or min(self.block) < 1 or min(self.halo) < 0 or self.per_job < 1:
            raise ValueError(
                f"a grid needs positive shape, block and per_job, and no negative halo: {self}"
            )
        if any(h > b for h, b in zip(self.halo, self.block, strict=True)):
            raise ValueError(f"the halo {self.halo} must not be larger than the block {self.block}")

    @property
    def counts(self) -> Zyx:
        """Blocks along each axis."""
        return zyx([-(-n // b) for n, b in zip(self.shape, self.block, strict=True)])

    def __len__(self) -> int:
        return math.prod(self.counts)

    def __getitem__(self, index: int) -> Block:
        _, ny, nx = self.counts
        if not 0 <= index < len(self):
            raise IndexError(f"block {index} of {len(self)}")
        place = (index // (ny * nx), index // nx % ny, index % nx)
        start = zyx([p * b for p, b in zip(place, self.block, strict=True)])
        core = Box(start, zyx([a + b for a, b in zip(start, self.block, strict=True)])).clip(
            self.shape
        )
        return Block(index, core, core.grow(self.halo).clip(self.shape))

    @property
    def jobs(self) -> int:
        """How many jobs it takes."""
        return -(-len(self) // self.per_job)

    def job(self, number: int) -> range:
        """Blocks of a job: a run of consecutive numbers."""
        if not 0 <= number < self.jobs:
            raise IndexError(f"job {number} of {self.jobs}")
        return range(number * self.per_job, min((number + 1) * self.per_job, len(self)))

    def job_of(self, index: int) -> int:
        """The job that does a block."""
        return index // self.per_job

    def owner(self, voxel: Zyx) -> int:
        """The block that owns a voxel."""
        k, j, i = (v // b for v, b in zip(voxel, self.block, strict=True))
        return (k * self.counts[1] + j) * self.counts[2] + i

    def touching(self, box: Box) -> list[Block]:
        """Blocks whose outer box shares voxels with `box`, by rising number."""
        _, ny, nx = self.counts
        ranges = [
            range(max(0, (a - h) // b), min(count, -(-(z + h) // b)))
            for a, z, h, b, count in zip(
                box.start, box.stop, self.halo, self.block, self.counts, strict=True
            )
        ]
        blocks = [self[(k * ny + j) * nx + i] for k, j, i in itertools.product(*ranges)]
        return [block for block in blocks if block.outer.intersect(box).size]

    def sources(self, number: int) -> list[int]:
        """Jobs whose blocks overlap the cores of job `number`, itself among them."""
        jobs = {
            self.job_of(b.index)
            for index in self.job(number)
            for b in self.touching(self[index].core)
        }
        return sorted(jobs)

    def outer_shape(self) -> Zyx:
        """The largest outer box."""
        grown = [
            min(b + 2 * h, n) for b, h, n in zip(self.block, self.halo, self.shape, strict=True)
        ]
        return zyx(grown)
