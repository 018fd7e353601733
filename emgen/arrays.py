"""The same restoration on an array in memory: what the workflow does, to the bit for the same blocks, without files.

restored = isotropic(volume, factor=8, section="slice", samples=4)
restored.mean, restored.std
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from emgen.config import parse
from emgen.errors import EmgenError
from emgen.geometry import Box, VoxelSize, Zyx, zyx
from emgen.networks.device import fixed_arithmetic, refuse_missing_device
from emgen.physics.psf import as_tuples, check_kernel
from emgen.run.calibration import calibrate
from emgen.run.fit_psf import fit_psf
from emgen.run.plan import Plan, make
from emgen.run.resolve import resolve
from emgen.run.restore import Fields, Restorer
from emgen.run.stitch import blend
from emgen.volumes.grid import Block
from emgen.volumes.intensity import store

Voxels = npt.NDArray[Any]
NAME = "array"
ISOTROPIC = VoxelSize(1, 1, 1)  # of no matter: the factor is given
CUBE, PLANE = (128, 128, 128), (1, 512, 512)  # voxels of a block, of volumes and of single planes


@dataclass(frozen=True)
class Array:
    """A measured volume (z, y, x) in memory, in place of an `emgen.volumes.volume.Volume`."""

    voxels: Voxels
    voxel: VoxelSize = ISOTROPIC
    path: str = NAME
    translation: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def shape(self) -> Zyx:
        return zyx(self.voxels.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.voxels.dtype

    def read(self, box: Box) -> Voxels:
        """Voxels of a box."""
        return self.voxels[box.slices]


@dataclass(frozen=True)
class Restored:
    """A result of the input's kind and number of axes.

    Attributes:
        mean: restored grey values, of the posterior's mean where there are several samples; the input's type, or
            float32 for floats.
        std: standard deviation of the samples in grey values (float32), calibrated on the volume's own sections
            (`emgen.run.calibration`); None for one sample.
        plan: what was decided on the way: scaling, noise, lost sections, point spread function.
    """

    mean: Voxels
    std: npt.NDArray[np.float32] | None
    plan: Plan


def isotropic(
    volume: Voxels, factor: int, *, section: str = "slice", lost: Any = "auto", **settings: Any
) -> Restored:
    """`factor` times as many sections of a volume (z, y, x).

    Args:
        volume: measured sections.
        factor: output sections per measured one.
        section: "slice", "mean" or "gaussian", how a measured section came about.
        lost: numbers of sections that hold no image.
        settings: of `restore` in the configuration (`samples`, `steps`, `noise`, `prior`, `seed` and so on; not `adapt`), and
            `block`, `halo`, `device` and `workers`.

    Raises:
        EmgenError: settings or voxels cannot be used.
    """
    if np.ndim(volume) != 3:
        raise EmgenError(f"expected a volume (z, y, x), found an array of shape {np.shape(volume)}")
    wanted = {"mode": "isotropic", "factor": factor, "section": section}
    return _restored(volume, {**settings, **wanted}, lost, CUBE)


def denoise(image: Voxels, noise: Any = "auto", *, lost: Any = "auto", **settings: Any) -> Restored:
    """An image (y, x), or sections (z, y, x) one by one, without its noise.

    `noise` is its standard deviation in grey values, or {"gain": .., "sigma": .., "black": ..}, "poisson",
    "correlated" or "auto"; else as `isotropic`.
    """
    return _restored(image, {**settings, "mode": "denoise", "noise": noise}, lost)


def superres(image: Voxels, factor: int, *, lost: Any = "auto", **settings: Any) -> Restored:
    """An image (y, x), or sections (z, y, x) one by one, with 2, 3 or 4 times as many pixels each way; else as `isotropic`."""
    return _restored(image, {**settings, "mode": "superres", "factor": factor}, lost)


def deblur(image: Voxels, psf: Any, *, lost: Any = "auto", **settings: Any) -> Restored:
    """An image (y, x), or sections (z, y, x) one by one, without the blur of `psf`; else as `isotropic`.

    `psf` is the standard deviation of a Gaussian in pixels, two of them (y, x), an array (y, x) that holds the
    function itself, "blind", or a dictionary as in the configuration.
    """
    if isinstance(psf, np.ndarray):
        return _restored(image, {**settings, "mode": "deblur"}, lost, kernel=psf)
    shape = psf if isinstance(psf, dict | str) else {"sigma": psf}
    return _restored(image, {**settings, "mode": "deblur", "psf": shape}, lost)


def _restored(
    image: Voxels,
    settings: dict[str, Any],
    lost: Any,
    block: Zyx = PLANE,
    kernel: Voxels | None = None,
) -> Restored:
    image = np.asarray(image)
    if image.ndim not in (2, 3):
        raise EmgenError(
            f"expected an image (y, x) or a volume (z, y, x), found an array of shape {image.shape}"
        )
    measured = Array(image[None] if image.ndim == 2 else image)
    device = settings.pop("device", "cpu")
    refuse_missing_device(device)
    workers = settings.pop("workers", os.cpu_count() or 1)
    block = settings.pop("block", block)
    grid = {"block": block, "halo": settings.pop("halo", [min(b // 2, 16) for b in block])}
    config = parse(
        {
            "run": NAME,
            "input": {"volume": NAME, "lost": lost},
            "restore": settings,
            "grid": grid,
            "output": {"chunk": block, "shard": block},
        }
    )
    if config.restore.adapt.steps:
        raise EmgenError(
            "adapt: an array is restored with a prior that is there, and none was adapted to it; adapt one with "
            "emgen.training.adapt.adapt, or through the workflow, and give the path of its weights as `prior`"
        )
    psf = None if kernel is None else as_tuples(check_kernel(kernel, "psf"))
    spec = resolve(config, measured, psf)
    plan = make(spec)
    if psf is None and spec.mode.fits_psf:
        plan = replace(plan, psf=fit_psf(plan, measured, device).kernel)
        plan.mode.refuse_grid(plan.grid)
    with fixed_arithmetic(config.restore.precision):
        factor = calibrate(plan, measured, device, workers).factor if plan.several_samples else None
        fields = _fields(plan, Restorer(plan, device, workers), measured)
    mean, std = _stitched(plan, fields, factor or 1.0)
    if image.ndim == 2:
        mean, std = mean[0], None if std is None else std[0]
    return Restored(mean, std, plan)


def _fields(plan: Plan, restorer: Restorer, measured: Array) -> list[Fields]:
    """The result of every block, by its number."""
    outers = [plan.grid[index].outer for index in range(len(plan.grid))]
    return [restorer.block(outer, restorer.fetch(outer, measured)) for outer in outers]


def _stitched(
    plan: Plan, fields: Sequence[Fields], factor: float
) -> tuple[Voxels, npt.NDArray[np.float32] | None]:
    """All blocks blended as `emgen.run.stitch` does; the spread times `factor`."""
    grid = plan.grid

    def whole(name: str, dtype: Any, factor: float = 1.0) -> Voxels:
        def read(block: Block, box: Box) -> Voxels:
            return fields[block.index][name][box.relative_to(block.outer).slices]

        result = np.empty(grid.shape, dtype)
        for index in range(len(grid)):
            core = grid[index].core
            result[core.slices] = store(factor * blend(grid, core, read), dtype)
        return result

    std = whole("std", np.float32, factor) if "std" in fields[0] else None
    return whole("mean", plan.dtype), std
