"""How large the parts of a run may be: refused while it is planned, and not by a computer that runs out of memory."""

from __future__ import annotations

import math

import numpy as np

from emgen.config import Config
from emgen.errors import EmgenError
from emgen.geometry import Zyx
from emgen.volumes.grid import Grid
from emgen.volumes.opening import MOST_CHUNK_BYTES

MOST_JOBS = 50_000  # of a run: Snakemake needs minutes and gigabytes for these
MOST_VOXELS = 2**30  # of a block with its halo: 130 GB of memory
MOST_FILES = 2**32  # that the output is stored in
MOST_CHUNKS = 2**16  # of a shard: its index stands in memory for every read
MOST_TILE = 2**28  # voxels of a tile that is measured


def refuse_absurd(config: Config, grid: Grid, dtype: np.dtype[np.generic]) -> None:
    """`EmgenError` if a run has too many jobs, or too large blocks, chunks or tiles.

    Args:
        config: of the run.
        grid: the blocks of its output.
        dtype: of its output.
    """
    _refuse_blocks(config, grid)
    _refuse_storage(config, grid.shape, dtype)
    tile = [min(t, n) for t, n in zip(config.qc.tile, grid.shape, strict=True)]
    if math.prod(tile) > MOST_TILE:
        raise EmgenError(
            f"qc.tile {list(config.qc.tile)} has {math.prod(tile):.3g} voxels; expected at most {MOST_TILE:.3g}, which is "
            "measured at a time. Set a smaller tile and more of them (qc.tiles)"
        )


def _refuse_blocks(config: Config, grid: Grid) -> None:
    outer = grid.outer_shape()
    if math.prod(outer) > MOST_VOXELS:
        raise EmgenError(
            f"a block of {list(config.grid.block)} with its halo {list(grid.halo)} has {math.prod(outer):.3g} voxels, which takes "
            f"more than 100 GB of memory; expected at most {MOST_VOXELS:.3g}. Set a smaller grid.block"
        )
    if grid.jobs > MOST_JOBS:
        least = -(-len(grid) // MOST_JOBS)
        size = " x ".join(map(str, grid.shape))
        raise EmgenError(
            f"the output of {size} voxels has {len(grid)} blocks, which are {grid.jobs} jobs of {grid.per_job}; expected at most "
            f"{MOST_JOBS} jobs. Set grid.blocks_per_job to at least {least}, or a larger grid.block; if the volume is not that "
            "large, its metadata is damaged, or restore.factor is wrong"
        )


def _refuse_storage(config: Config, shape: Zyx, dtype: np.dtype[np.generic]) -> None:
    output = config.output
    if math.prod(output.chunk) * dtype.itemsize >= MOST_CHUNK_BYTES:
        raise EmgenError(
            f"output.chunk {list(output.chunk)} has {math.prod(output.chunk) * dtype.itemsize / 1e9:.3g} GB; expected at most "
            f"{MOST_CHUNK_BYTES / 1e9:.3g} GB, better less than a hundredth of it: a viewer reads whole chunks"
        )
    chunks = math.prod(output.shard) // math.prod(output.chunk)
    if output.ngff == "0.5" and chunks > MOST_CHUNKS:
        raise EmgenError(
            f"output.shard {list(output.shard)} has {chunks} chunks of {list(output.chunk)}; expected at most {MOST_CHUNKS}. "
            "Set larger chunks or smaller shards"
        )
    files = math.prod(-(-n // u) for n, u in zip(shape, output.write_unit, strict=True))
    if files > MOST_FILES:
        raise EmgenError(
            f"the output would be {files:.3g} files of {list(output.write_unit)} voxels; expected at most {MOST_FILES:.3g}. Set a "
            "larger output.shard (output.chunk with ngff 0.4)"
        )
