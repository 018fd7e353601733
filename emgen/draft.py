"""What the metadata of a run says: read while the workflow is parsed, so that bad input ends it before any work."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from emgen.config import Config
from emgen.errors import EmgenError
from emgen.geometry import VoxelSize, Zyx, zyx
from emgen.grid import Grid
from emgen.prior.card import Card, resolve
from emgen.volume import Volume

ANISOTROPY_TOLERANCE = 0.05


@dataclass(frozen=True)
class Draft:
    """What the metadata of a run says.

    Attributes:
        config: the run's settings.
        measured: the input.
        scale: output voxels per measured voxel (z, y, x).
        centre: where measured voxel 0 lies in output voxels (z, y, x); see `emgen.operators`.
        grid: the blocks of the output.
        voxel: size of the output's voxels.
        prior: the card of the prior.
    """

    config: Config
    measured: Volume
    scale: Zyx
    centre: tuple[float, float, float]
    grid: Grid
    voxel: VoxelSize
    prior: Card

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
            "steps": self.config.restore.calls,
        }
        if not self.config.restore.adapt.steps:
            del restore[
                "adapt"
            ]  # as if there were no such key, as in results made before there was
        return {
            "input": config["input"],
            "restore": restore,
            "grid": {"block": config["grid"]["block"], "halo": config["grid"]["halo"]},
            "output": config["output"],
            "prior": self.prior.sha256,
        }

    @property
    def adaptation(self) -> str | None:
        """Name of the prior adapted to this input, None without `restore.adapt`.

        The same for every run that asks for the same adaptation of the same input, so that it is made once.
        """
        if not self.config.restore.adapt.steps:
            return None
        measured = self.measured
        identity = [
            self.config.input.volume,
            [*measured.shape, *measured.voxel, measured.dtype.str],
            self.config.restore.adapt.model_dump(),
            self.config.restore.seed,
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
        """Memory of a restore job: some thirty float32 copies of an outer box, plus libraries and weights."""
        return 2000 + 30 * 4 * math.prod(self.grid.outer_shape()) // 1_000_000


def draft(config: Config) -> Draft:
    """Everything that can be known, and refused, from metadata alone.

    Raises:
        EmgenError: the input, prior, reference or labels cannot be used with these settings.
    """
    measured = Volume.open(config.input.volume)
    if measured.dtype.kind not in "iuf":
        raise EmgenError(
            f"{measured.path} has voxels of type {measured.dtype}; expected an integer or floating-point type"
        )
    if min(measured.shape) < 1:
        raise EmgenError(f"{measured.path} has no voxels: its shape is {measured.shape}")
    scale, centre = sampling(config, measured.voxel)
    shape = zyx([n * f for n, f in zip(measured.shape, scale, strict=True)])
    grid = Grid(shape, config.grid.block, config.grid.halo, config.grid.blocks_per_job)
    voxel = measured.voxel.scaled([1 / f for f in scale])
    found = Draft(config, measured, scale, centre, grid, voxel, resolve(config.restore.prior))
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
