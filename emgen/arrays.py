"""The same restoration on an array: what the workflow does, to the bit for the same blocks, without files.

    restored = isotropic(volume, factor=8, section="slice", samples=4)
    restored.mean, restored.std

A numpy array gives numpy arrays. A dask array gives lazy dask arrays: what is decided for the whole volume (grey
scale, noise, missing sections, and a point spread function that is to be fitted) is decided at once, from a few boxes
that are spread over it; every block is restored when one of its voxels is computed, once for all that are computed
together, and let go when the cores that it overlaps are blended.

    restored = isotropic(dask.array.from_zarr("stack.zarr"), factor=8)
    restored.mean.to_zarr("restored.zarr")

    input chunks --> block 1 --+--> core 1      a block is restored on its outer box; a core is blended from the
                 --> block 2 --+--> core 2      blocks that overlap it, and is a chunk of the result

Dask may run tasks in as many threads as it likes, in one process: blocks are restored one at a time, and each shares
its planes out to `workers` threads. For a cluster there is the workflow.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from emgen.config import parse
from emgen.errors import EmgenError
from emgen.geometry import Box, VoxelSize, Zyx, zyx
from emgen.networks.device import fixed_arithmetic, refuse_missing_device
from emgen.physics.psf import as_tuples, check_kernel
from emgen.physics.tissue import as_measured
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
    """A measured volume in memory or of dask, in place of an `emgen.volumes.volume.Volume`.

    Attributes:
        voxels: grey values (z, y, x), a numpy or a dask array.
        mask: of the same shape, 0 where there is no tissue; None where all is.
        voxel: size of a voxel in nm.
        path: what messages call it.
        translation: centre of the first voxel in nm (z, y, x).
    """

    voxels: Any
    mask: Any = None
    voxel: VoxelSize = ISOTROPIC
    path: str = NAME
    translation: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def shape(self) -> Zyx:
        """Measured voxels (z, y, x)."""
        return zyx(self.voxels.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the grey values."""
        dtype: np.dtype[Any] = np.dtype(self.voxels.dtype)
        return dtype

    def read(self, box: Box) -> Voxels:
        """The grey values of a box, shape `box.shape`; of a dask array they are computed here."""
        return _computed(self.voxels[box.slices])

    def absent(self, box: Box) -> npt.NDArray[np.bool_] | None:
        """Which voxels of a box the mask leaves out."""
        return None if self.mask is None else _computed(self.mask[box.slices]) == 0


def _computed(part: Any) -> Voxels:
    # by this thread: where it holds `fixed_arithmetic`, another one that restores for it would wait for ever
    voxels: Voxels = part.compute(scheduler="synchronous") if is_dask(part) else part
    return voxels


@dataclass(frozen=True)
class Restored:
    """A result of the input's kind (numpy or dask) and number of axes.

    Attributes:
        mean: restored grey values, of the posterior's mean where there are several samples; the input's type, or
            float32 for floats.
        std: standard deviation of the samples in grey values (float32), calibrated on the volume's own sections
            (`emgen.run.calibration`); None for one sample.
        plan: what was decided on the way: scaling, noise, missing sections, point spread function.
    """

    mean: Any
    std: Any
    plan: Plan


def isotropic(
    volume: Any,
    factor: int,
    *,
    section: str = "slice",
    lost: Any = "auto",
    mask: Any = None,
    **settings: Any,
) -> Restored:
    """`factor` times as many sections of a volume.

    Args:
        volume: measured sections (z, y, x), a numpy or a dask array of integers or floats.
        factor: output sections per measured one.
        section: how a measured section came about: "slice", "mean" or "gaussian".
        lost: numbers of sections that hold no image, counted from 0; "auto" looks for sections of one grey value.
        mask: of the volume's shape, 0 where there is no tissue: that is neither looked at nor restored.
        settings: of `restore` in the configuration (`samples`, `steps`, `noise`, `prior`, `seed` and so on; not
            `adapt`), and `no_data`, `holes`, `resin`, `block`, `halo`, `device` and `workers`.

    Returns:
        `factor` times as many sections (z, y, x).

    Raises:
        EmgenError: settings or voxels cannot be used.
    """
    if np.ndim(volume) != 3:
        raise EmgenError(f"expected a volume (z, y, x), found an array of shape {np.shape(volume)}")
    task = {"mode": "isotropic", "factor": factor, "section": section}
    return _restored(volume, {**settings, **task}, lost, mask, CUBE)


def denoise(
    image: Any, noise: Any = "auto", *, lost: Any = "auto", mask: Any = None, **settings: Any
) -> Restored:
    """An image, or sections, without their noise.

    Args:
        image: an image (y, x) or sections (z, y, x), a numpy or a dask array of integers or floats.
        noise: its standard deviation in grey values, or {"gain": .., "sigma": .., "black": ..}, "poisson",
            "correlated" or "auto".
        lost, mask: as of `isotropic`.
        settings: as of `isotropic`.

    Returns:
        An array of the input's shape.

    Raises:
        EmgenError: settings or voxels cannot be used.
    """
    return _restored(image, {**settings, "mode": "denoise", "noise": noise}, lost, mask)


def superres(
    image: Any, factor: int, *, lost: Any = "auto", mask: Any = None, **settings: Any
) -> Restored:
    """An image, or sections, with finer pixels.

    Args:
        image: an image (y, x) or sections (z, y, x), a numpy or a dask array of integers or floats.
        factor: output pixels per measured one along y and along x: 2, 3 or 4.
        lost, mask: as of `isotropic`.
        settings: as of `isotropic`.

    Returns:
        `factor` times as many pixels along y and x.

    Raises:
        EmgenError: settings or voxels cannot be used.
    """
    return _restored(image, {**settings, "mode": "superres", "factor": factor}, lost, mask)


def deblur(
    image: Any, psf: Any, *, lost: Any = "auto", mask: Any = None, **settings: Any
) -> Restored:
    """An image, or sections, without the blur of a point spread function.

    Args:
        image: an image (y, x) or sections (z, y, x), a numpy or a dask array of integers or floats.
        psf: standard deviation of a Gaussian in pixels, two of them (y, x), a numpy array (y, x) that holds the
            function itself, "blind", or a dictionary as in the configuration.
        lost, mask: as of `isotropic`.
        settings: as of `isotropic`.

    Returns:
        An array of the input's shape.

    Raises:
        EmgenError: settings, voxels or the function cannot be used.
    """
    if isinstance(psf, np.ndarray):
        return _restored(image, {**settings, "mode": "deblur"}, lost, mask, kernel=psf)
    shape = psf if isinstance(psf, dict | str) else {"sigma": psf}
    return _restored(image, {**settings, "mode": "deblur", "psf": shape}, lost, mask)


def is_dask(image: Any) -> bool:
    """Whether it is a dask array. Nobody has one who has not imported dask: so this does not."""
    dask_array = sys.modules.get("dask.array")
    return dask_array is not None and isinstance(image, dask_array.Array)


def _restored(
    image: Any,
    settings: dict[str, Any],
    lost: Any,
    mask: Any = None,
    block: Zyx = PLANE,
    kernel: Voxels | None = None,
) -> Restored:
    image = image if is_dask(image) else np.asarray(image)
    if image.ndim not in (2, 3):
        raise EmgenError(
            f"expected an image (y, x) or a volume (z, y, x), found an array of shape {image.shape}"
        )
    if not all(n == n for n in image.shape):  # dask's word for an unknown size is NaN
        raise EmgenError(
            f"expected a dask array of known shape, found {image.shape}; `compute_chunk_sizes()` tells it"
        )
    measured = Array(*(part[None] if image.ndim == 2 else part for part in _with_mask(image, mask)))
    device = settings.pop("device", "cpu")
    refuse_missing_device(device)
    workers = settings.pop("workers", os.cpu_count() or 1)
    plan = _planned(measured, settings, lost, block, kernel, device)
    whole = _lazily if is_dask(image) else _at_once
    mean, std = whole(plan, Restorer(plan, device, workers), measured)
    if image.ndim == 2:
        mean, std = mean[0], None if std is None else std[0]
    return Restored(mean, std, plan)


def _with_mask(image: Any, mask: Any) -> tuple[Any, ...]:
    """The image, and its mask where there is one."""
    if mask is None:
        return (image,)
    mask = mask if is_dask(mask) else np.asarray(mask)
    if mask.shape != image.shape or mask.dtype.kind not in "biu":
        raise EmgenError(
            f"mask: expected whole numbers or booleans of shape {image.shape}, 0 where there is no tissue; found "
            f"{mask.dtype} of shape {mask.shape}"
        )
    return image, mask


def _planned(
    measured: Array,
    settings: dict[str, Any],
    lost: Any,
    block: Zyx,
    kernel: Voxels | None,
    device: str,
) -> Plan:
    """What is decided before the first block, from samples of the volume."""
    block = settings.pop("block", block)
    grid = {"block": block, "halo": settings.pop("halo", [min(b // 2, 16) for b in block])}
    of_input = ("no_data", "holes", "resin")
    looked_at = {name: settings.pop(name) for name in of_input if name in settings}
    config = parse(
        {
            "run": NAME,
            "input": {"volume": NAME, "lost": lost, **looked_at},
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
    return plan


def _spread_factor(restorer: Restorer, measured: Array) -> float:
    """What the spread of samples is multiplied by; 1 where that cannot be tried."""
    plan = restorer.plan
    with fixed_arithmetic(plan.config.restore.precision):
        return calibrate(plan, measured, restorer.device, restorer.workers).factor or 1.0


def _at_once(plan: Plan, restorer: Restorer, measured: Array) -> tuple[Voxels, Voxels | None]:
    """Mean and spread of the whole output as numpy arrays."""
    grid = plan.grid
    factor = _spread_factor(restorer, measured) if plan.several_samples else 1.0
    with fixed_arithmetic(plan.config.restore.precision):
        outers = [grid[index].outer for index in range(len(grid))]
        blocks = [restorer.block(outer, restorer.fetch(outer, measured)) for outer in outers]

    def whole(name: str, dtype: Any, factor: float = 1.0) -> Voxels:
        result = np.empty(grid.shape, dtype)
        for index in range(len(grid)):
            look = _look(plan, measured, plan.nearest_box(grid[index].core))
            core = _core(plan, index, name, dtype, factor, dict(enumerate(blocks)), *look)
            result[grid[index].core.slices] = core
        return result

    std = whole("std", np.float32, factor) if plan.several_samples else None
    return whole("mean", plan.dtype), std


def _lazily(plan: Plan, restorer: Restorer, measured: Array) -> tuple[Any, Any]:
    """Mean and spread of the whole output as dask arrays, whose chunks are the cores of the blocks."""
    import dask
    import dask.array as da

    grid = plan.grid

    def restored(index: int, voxels: Voxels, mask: Voxels | None) -> Fields:
        box = read_box(index)
        absent = None if mask is None else mask == 0
        seen = plan.seen(voxels, absent, plan.surroundings(box), box)
        # dask's threads wait here for one another: see `fixed_arithmetic`
        with fixed_arithmetic(plan.config.restore.precision):
            return restorer.block(grid[index].outer, seen)

    def read_box(index: int) -> Box:
        return plan.read_box(plan.aligned(grid[index].outer))

    def block(index: int) -> Any:
        look = _look(plan, measured, read_box(index))
        return dask.delayed(restored, pure=False)(index, *look)

    blocks = [block(index) for index in range(len(grid))]

    def core(index: int, name: str, dtype: Any, factor: Any) -> Any:
        needed = {b.index: blocks[b.index] for b in grid.touching(grid[index].core)}
        look = _look(plan, measured, plan.nearest_box(grid[index].core))
        blended = dask.delayed(_core, pure=False)(plan, index, name, dtype, factor, needed, *look)
        return da.from_delayed(blended, grid[index].core.shape, dtype)

    def whole(name: str, dtype: Any, factor: Any = 1.0) -> Any:
        cores = np.empty(grid.counts, object)
        for index, place in enumerate(np.ndindex(*grid.counts)):
            cores[place] = core(index, name, np.dtype(dtype), factor)
        return da.block(cores.tolist())

    if not plan.several_samples:
        return whole("mean", plan.dtype), None
    factor = dask.delayed(lambda: _spread_factor(restorer, measured), pure=False)()
    return whole("mean", plan.dtype), whole("std", np.float32, factor)


def _look(plan: Plan, measured: Array, box: Box) -> tuple[Any, Any]:
    """What tells where there is tissue in a box of measured voxels: grey values around it, and the mask."""
    around = plan.surroundings(box).slices
    return measured.voxels[around], None if measured.mask is None else measured.mask[around]


def _core(
    plan: Plan,
    index: int,
    name: str,
    dtype: Any,
    factor: float,
    blocks: Mapping[int, Fields],
    voxels: Voxels,
    mask: Voxels | None,
) -> Voxels:
    """The core of a block as `emgen.run.stitch` writes it, from the blocks that overlap it; times `factor`."""
    core = plan.grid[index].core

    def read(block: Block, box: Box) -> Voxels:
        return blocks[block.index][name][box.relative_to(block.outer).slices]

    blended = store(factor * blend(plan.grid, core, read), dtype)
    if plan.tissue.all_measured:
        return blended
    absent = None if mask is None else mask == 0
    around = plan.surroundings(plan.nearest_box(core))
    return as_measured(blended, plan.states_of(voxels, absent, around, core), name)
