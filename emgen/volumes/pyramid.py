"""The coarser levels: near-isotropic means, rounded, built level by level.

Every step halves the axis with the smallest voxel and any other axis that this brings nearer to it.
Means are rounded to nearest: truncation darkens EM by almost half a grey value per level.
"""

from __future__ import annotations

import time
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emgen.errors import EmgenError
from emgen.geometry import Box, VoxelSize, Zyx, zyx
from emgen.volumes.intensity import store
from emgen.volumes.ledger import Entry, Ledger, Ledgers, digest
from emgen.volumes.volume import Volume
from emgen.volumes.write_units import WriteUnits

MAX_COARSEST = 128  # voxels of the coarsest level along its longest axis: a thumbnail


def factors(shape: Zyx, voxel: VoxelSize) -> list[Zyx]:
    """Averaged level-0 voxels of every level, finest (1, 1, 1) first.

    >>> factors((128, 1024, 1024), VoxelSize(40, 10, 10))
    [(1, 1, 1), (1, 2, 2), (1, 4, 4), (2, 8, 8)]
    """
    levels = [zyx((1, 1, 1))]
    while max(-(-n // f) for n, f in zip(shape, levels[-1], strict=True)) > MAX_COARSEST:
        sizes = voxel.scaled(levels[-1])
        target = 2 * min(size for size, n, f in zip(sizes, shape, levels[-1], strict=True) if n > f)
        step = [
            2 if n > f and abs(2 * size - target) < abs(size - target) else 1
            for size, n, f in zip(sizes, shape, levels[-1], strict=True)
        ]
        levels.append(zyx([f * s for f, s in zip(levels[-1], step, strict=True)]))
    return levels


def downsample(voxels: npt.NDArray[Any], step: Zyx) -> npt.NDArray[Any]:
    """Mean over `step` voxels (z, y, x), rounded; at the end of an axis over those that are there.

    >>> downsample(np.array([[[1, 2, 4]]], np.uint8), (1, 1, 2))
    array([[[2, 4]]], dtype=uint8)
    """
    total = voxels.astype(np.float64)
    count = np.ones((1, 1, 1))
    for axis, s in enumerate(step):
        starts = np.arange(0, voxels.shape[axis], s)
        total = np.add.reduceat(total, starts, axis=axis)
        lengths = np.diff(np.append(starts, voxels.shape[axis]))
        count = count * np.expand_dims(lengths, [a for a in range(3) if a != axis])
    return store(total / count, voxels.dtype)


def build(path: str | Path, level: int, ledgers: Ledgers, threads: int = 1) -> int:
    """Fill what is missing of a level of a run's volume, one write unit at a time, from the level before it.

    Every thread needs the memory of one write unit and of the voxels that it averages.

    Args:
        path: of the image.
        level: its number; 0 is the finest.
        ledgers: of the run.
        threads: that share the write units.

    Returns:
        How many write units were written.

    Raises:
        EmgenError: the level before it is not finished, or damaged.
    """
    finer, coarser = WriteUnits(Volume.open(path, level - 1)), _opened(path, level)
    below, book = (
        ledgers.level(path, level - 1),
        ledgers.level(path, level).open(range(len(coarser))),
    )
    sources, step = below.read(), _step(finer.volume, coarser.volume)

    def one(number: int) -> bool:
        box = coarser.box(number)
        read = _source(box, step, finer.volume.shape)
        found = {each: sources.get(each) for each in finer.touching(read)}
        made_of = digest([entry and entry.checksums for entry in found.values()])
        if coarser.is_made(number, book.entries.get(number), made_of):
            return False
        _refuse_damaged(finer, found, below)
        begun = time.monotonic()
        voxels = downsample(finer.volume.read(read), step)
        book.add(*coarser.write(box, voxels, made_of, round(time.monotonic() - begun, 3)))
        return True

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(one, coarser))


def build_in(pool: Executor, path: str, level: int) -> None:
    """Fill a level of an image that appears whole or not at all, so that nothing is written down of it."""
    finer, coarser = Volume.open(path, level - 1), _opened(path, level)
    step = _step(finer, coarser.volume)

    def fill(number: int) -> None:
        box = coarser.box(number)
        read = finer.read(_source(box, step, finer.shape))
        coarser.volume.write(box, downsample(read, step))

    for _ in pool.map(fill, coarser):
        pass


def _opened(path: str | Path, level: int) -> WriteUnits:
    return WriteUnits(Volume.open(path, level, mode="r+"))


def _step(finer: Volume, coarser: Volume) -> Zyx:
    """Voxels along each axis that become one."""
    return zyx([round(c / f) for c, f in zip(coarser.voxel, finer.voxel, strict=True)])


def _source(box: Box, step: Zyx, shape: Zyx) -> Box:
    """The voxels, in a volume of this shape, that a box of the coarser one averages."""
    start = zyx([a * s for a, s in zip(box.start, step, strict=True)])
    stop = zyx([b * s for b, s in zip(box.stop, step, strict=True)])
    return Box(start, stop).clip(shape)


def _refuse_damaged(units: WriteUnits, found: dict[int, Entry | None], ledger: Ledger) -> None:
    """`EmgenError` unless every write unit holds what was written, by its ledger; one that does not is marked."""
    for number, entry in found.items():
        if entry is None or not entry.finished:
            raise EmgenError(
                f"{units.file(number)} is not finished, or damaged; start again: it is made first"
            )
        if damage := units.damage(number, entry.files):
            ledger.mark({number: damage}, by="pyramid")
            raise EmgenError(f"{damage}; start again: it is made anew first")
