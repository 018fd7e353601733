"""What the metadata of a run says: read while the workflow is parsed, so that bad input ends it before any work."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from emgen.config.restore import LINEAR
from emgen.config.run import Config
from emgen.errors import EmgenError
from emgen.geometry import VoxelSize, Zyx, zyx
from emgen.networks.card import Card, Task, resolve
from emgen.physics.psf import Kernel, gaussian, nested
from emgen.physics.psf import read as read_kernel
from emgen.volumes.grid import Grid
from emgen.volumes.measured import Measured
from emgen.volumes.volume import Volume

ANISOTROPY_TOLERANCE = 0.05
THREADS = 8  # of a restore job
BATCH, PER_PIXEL = (
    8 * 160 * 160,
    400,
)  # pixels of a batch of planes, and bytes that a network holds for each


@dataclass(frozen=True)
class RunSpec:
    """What the metadata of a run says.

    Attributes:
        config: the run's settings.
        measured: the input.
        scale: output voxels per measured voxel (z, y, x).
        centre: where measured voxel 0 lies in output voxels (z, y, x); see `emgen.physics.operators`.
        grid: the blocks of the output.
        voxel: size of the output's voxels.
        prior: the card of the prior.
        psf: point spread function (y, x) to deblur, None where it is to be fitted.
        estimator: the card of the learned estimate, None where sampling begins from linear interpolation.
    """

    config: Config
    measured: Measured
    scale: Zyx
    centre: tuple[float, float, float]
    grid: Grid
    voxel: VoxelSize
    prior: Card
    psf: Kernel | None = None
    estimator: Card | None = None

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the output: the input's, in the machine's byte order; wide floats become float32."""
        kind = self.measured.dtype.newbyteorder("=")
        return np.dtype(np.float32) if kind.kind == "f" else kind

    @property
    def settings(self) -> dict[str, Any]:
        """What the voxels of the output depend on, resolved: no path of the run, no division into jobs, no QC."""
        config = self.config.model_dump(mode="json")
        restore = {
            **config["restore"],
            "factor": max(self.scale),
            "steps": self.config.restore.steps_or_default,
            "start": self.config.restore.start_time,
            "estimator": self.config.restore.learned or LINEAR,
        }
        if not self.config.restore.adapt.steps:
            del restore[
                "adapt"
            ]  # as if there were no such key, as in results made before there was
        if self.config.restore.psf.kernel:
            restore["psf"] = hashlib.sha256(json.dumps(self.psf).encode()).hexdigest()
        return {
            "input": config["input"],
            "restore": restore,
            "grid": {"block": config["grid"]["block"], "halo": config["grid"]["halo"]},
            "output": config["output"],
            "prior": self.prior.sha256,
            "estimator": self.estimator and self.estimator.sha256,
        }

    @property
    def blind(self) -> bool:
        """Whether the point spread function is to be fitted to the input."""
        return self.config.restore.mode == "deblur" and self.config.restore.psf.blind

    @property
    def adaptation(self) -> str | None:
        """Name of the prior adapted to this input, None without `restore.adapt`.

        The same for every run that asks for the same adaptation of the same input, so that it is made once.
        """
        measured, restore = self.measured, self.config.restore
        if not restore.adapt.steps:
            return None
        identity = [
            self.config.input.model_dump(),
            [*measured.shape, *measured.voxel, measured.dtype.str],
            restore.model_copy(update={"noise": restore.level}).model_dump(
                include={"adapt", "noise", "seed"}
            ),
            self.prior.sha256,
        ]
        return f"adapted-{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]}"

    @property
    def bytes(self) -> int:
        """Disk that the run may fill, uncompressed: block results, output and pyramid."""
        results = sum(self.grid[i].outer.size for i in range(min(len(self.grid), 1000)))
        results = results * len(self.grid) // min(len(self.grid), 1000)
        per_voxel = self.dtype.itemsize + (4 if self.config.restore.samples > 1 else 0)
        return int((results + 1.34 * math.prod(self.grid.shape)) * per_voxel)

    @property
    def memory_mb(self) -> int:
        """Memory of a restore job: some thirty float32 copies of the outer boxes that eight threads share, and of sections
        that are seen beside them, what their networks hold of a batch or of one large plane, and libraries."""
        outer = self.grid.outer_shape()
        plane = max(BATCH, math.prod(sorted(outer)[1:]))
        sections = self.estimator is not None and self.estimator.task == "sections"
        beside = self.estimator.context if self.estimator and sections else 0
        seen = (outer[0] + 2 * beside) * math.prod(outer[1:])
        copies = 30 * 4 * seen * concurrent_blocks(self.config, self.grid, THREADS)
        return 1500 + (copies + THREADS * PER_PIXEL * plane) // 1_000_000


def draft(config: Config, measured: Measured | None = None, psf: Kernel | None = None) -> RunSpec:
    """Everything that can be known, and refused, from metadata alone.

    Args:
        config: the settings.
        measured: the input, if it is not the volume that the settings name.
        psf: to deblur, if it is not what the settings say.

    Raises:
        EmgenError: the input, prior, reference or labels cannot be used with these settings.
    """
    measured = measured or Volume.open(config.input.volume)
    if measured.dtype.kind not in "iuf":
        raise EmgenError(
            f"{measured.path} has voxels of type {measured.dtype}; expected an integer or floating-point type"
        )
    if min(measured.shape) < 1:
        raise EmgenError(f"{measured.path} has no voxels: its shape is {measured.shape}")
    scale, centre = sampling(config, measured.voxel)
    shape = zyx([n * f for n, f in zip(measured.shape, scale, strict=True)])
    grid = cut(config, shape)
    voxel = measured.voxel.scaled([1 / f for f in scale])
    prior, estimator = _networks(config)
    psf = psf or _psf(config)
    if psf is not None:
        refuse_wide(psf, grid)
    found = RunSpec(config, measured, scale, centre, grid, voxel, prior, psf, estimator)
    for key, path in (("qc.reference", config.qc.reference), ("qc.labels", config.qc.labels)):
        if path is not None and Volume.open(path).shape != shape:
            raise EmgenError(
                f"{key}: {path} has shape {Volume.open(path).shape}, but the output will have {shape} "
                f"({measured.shape} measured voxels times {scale}); crop it to the same field"
            )
    if config.qc.labels is not None and Volume.open(config.qc.labels).dtype.kind not in "iu":
        raise EmgenError(
            f"qc.labels: {config.qc.labels} has voxels of type {Volume.open(config.qc.labels).dtype}; expected integers"
        )
    return found


def _networks(config: Config) -> tuple[Card, Card | None]:
    restore = config.restore
    prior = resolve(restore.prior)
    if prior.task != "prior":
        raise EmgenError(
            f"restore.prior: {prior.path} is no prior, but a learned estimate; give it as restore.estimator"
        )
    if restore.learned is None:
        return prior, None
    estimator = resolve(restore.learned)
    task: Task = "axial" if restore.mode == "isotropic" else "sections"
    if estimator.task != task:
        kinds = {
            "prior": "is a prior; give it as restore.prior",
            "axial": "interpolates between sections, for mode: isotropic",
            "sections": "estimates sections from themselves, for modes other than isotropic",
        }
        raise EmgenError(
            f"restore.estimator: {estimator.path} {kinds[estimator.task]}; mode: {restore.mode} needs one for it, or "
            f"begins from linear interpolation: `estimator: {LINEAR}`"
        )
    return prior, estimator


def cut(config: Config, shape: Zyx) -> Grid:
    """The blocks of an output of this shape; no halo along z where sections are restored one by one."""
    z, y, x = config.grid.halo
    halo = (z if config.restore.mode == "isotropic" else 0, y, x)
    return Grid(shape, config.grid.block, halo, config.grid.blocks_per_job)


def concurrent_blocks(config: Config, grid: Grid, workers: int) -> int:
    """Blocks to restore at a time, so that every worker has a plane: more than one where blocks are thin."""
    z, y, _ = grid.outer_shape()
    return max(1, workers // (y if config.restore.mode == "isotropic" else z))


def refuse_wide(psf: Kernel, grid: Grid) -> None:
    """`EmgenError` if a point spread function reaches beyond the halo: voxels at the edge of a block's core, all of
    whose neighbours count, would then have been measured by voxels that are not computed with them."""
    for axis, size in ((1, len(psf)), (2, len(psf[0]))):
        if size // 2 > grid.halo[axis] and grid.shape[axis] > grid.block[axis]:
            raise EmgenError(
                f"the point spread function reaches {size // 2} pixels along {'zyx'[axis]}, the halo {grid.halo[axis]}: set "
                f"grid.halo to at least {size // 2} there"
            )


def _psf(config: Config) -> Kernel | None:
    psf = config.restore.psf
    if config.restore.mode != "deblur" or psf.blind:
        return None
    if psf.kernel:
        return nested(read_kernel(psf.kernel))
    y, x = np.broadcast_to(psf.sigma, 2).tolist()
    return nested(gaussian(y, x, math.radians(psf.angle)))


def sampling(config: Config, voxel: VoxelSize) -> tuple[Zyx, tuple[float, float, float]]:
    """Output voxels per measured voxel, and where measured voxel 0 lies among them (z, y, x).

    Raises:
        EmgenError: isotropic without a factor, and the anisotropy is not near a whole number.
    """
    restore = config.restore
    if restore.mode == "superres":
        factor = restore.factor or 1
        middle = (factor - 1) / 2
        return (1, factor, factor), (0.0, middle, middle)
    if restore.mode != "isotropic":
        return (1, 1, 1), (0.0, 0.0, 0.0)
    factor = restore.factor or round(voxel.anisotropy)
    if restore.factor is None and abs(voxel.anisotropy - factor) > ANISOTROPY_TOLERANCE * factor:
        raise EmgenError(
            f"{config.input.volume} has voxels of {voxel}: z is {voxel.anisotropy:.3g} times coarser, which is not within "
            f"5 % of a whole number. Set restore.factor to the output sections you want per measured section"
        )
    if factor < 1:
        raise EmgenError(
            f"{config.input.volume} has voxels of {voxel}: z is finer than y and x, so there is nothing to restore along z"
        )
    middle = 0.0 if restore.section == "slice" else (factor - 1) / 2
    return (factor, 1, 1), (middle, 0.0, 0.0)
