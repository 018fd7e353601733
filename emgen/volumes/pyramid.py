"""The coarser levels: near-isotropic means, rounded, built level by level.

Every step halves the axis with the smallest voxel and any other axis that this brings nearer to it.
Means are rounded to nearest: truncation darkens EM by almost half a grey value per level.
"""

from __future__ import annotations

from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from emgen.geometry import Box, VoxelSize, Zyx, zyx
from emgen.volumes.intensity import store
from emgen.volumes.volume import Volume

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


def build(path: str, level: int, threads: int = 1) -> None:
    """Fill a level of an image from the level before it, one write unit at a time.

    Every thread needs the memory of one write unit and of the voxels that it averages.

    Args:
        path: of the image.
        level: its number; 0 is the finest.
        threads: that share the write units.
    """
    with ThreadPoolExecutor(threads) as pool:
        build_in(pool, path, level)


def build_in(pool: Executor, path: str, level: int) -> None:
    """As `build`, in threads that are there already."""
    finer, coarser = Volume.open(path, level - 1), Volume.open(path, level, mode="r+")
    step = zyx([round(c / f) for c, f in zip(coarser.voxel, finer.voxel, strict=True)])
    for _ in pool.map(lambda unit: _fill(finer, coarser, unit, step), units(coarser)):
        pass


def units(volume: Volume) -> list[Box]:
    """The write units of a volume, in (z, y, x) order."""
    starts = np.ndindex(*[-(-n // u) for n, u in zip(volume.shape, volume.write_unit, strict=True)])
    corners = [zyx([i * u for i, u in zip(at, volume.write_unit, strict=True)]) for at in starts]
    return [
        Box(c, zyx([a + u for a, u in zip(c, volume.write_unit, strict=True)])).clip(volume.shape)
        for c in corners
    ]


def _fill(finer: Volume, coarser: Volume, box: Box, step: Zyx) -> None:
    source = Box(
        zyx([a * s for a, s in zip(box.start, step, strict=True)]),
        zyx([b * s for b, s in zip(box.stop, step, strict=True)]),
    ).clip(finer.shape)
    coarser.write(box, downsample(finer.read(source), step))
