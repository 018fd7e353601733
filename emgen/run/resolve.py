"""What the metadata of a run says: read while the workflow is parsed, so that bad input ends it before any work."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from emgen.config import Config
from emgen.config.restore import LINEAR
from emgen.errors import EmgenError
from emgen.geometry import VoxelSize, Zyx
from emgen.modes import Mode, mode
from emgen.networks.card import Card
from emgen.networks.card import resolve as resolve_card
from emgen.physics.psf import Kernel
from emgen.run.limits import refuse_absurd
from emgen.volumes.grid import Grid
from emgen.volumes.inputs import open_input
from emgen.volumes.measured import Measured
from emgen.volumes.samples import says_absent
from emgen.volumes.volume import Volume

# Memory of a restore job, estimated from what its code holds; `peak_memory_mb` in restored.json is what it held.
LIBRARIES_MB = 1500  # torch, zarr and the networks, before the first block
COPIES_PER_VOXEL = (
    30  # float32 copies of a block's outer box that are held at a time: a generous estimate
)
BYTES_PER_PIXEL = 400  # that a network holds for each pixel of the planes of a call
CALL_PIXELS = 8 * 160 * 160  # of a call, see `emgen.sampling.tiles`; one larger plane is a call too
LEAST_STITCH_MB = 4000  # what was always asked for
STITCH_BYTES = 48  # for each voxel of a block with its halo: three float64 of its core, and what neighbours computed
PYRAMID_SHARE = 1.34
"""Voxels of all levels over those of the finest: 4/3 where y and x are halved, less where z is too."""
MOST_COUNTED = 1000
"""Blocks whose sizes are added up to project the disk; more are taken to be like them."""


@dataclass(frozen=True)
class RunSpec:
    """The settings and the metadata of a run, checked against each other.

    Attributes:
        config: the run's settings.
        measured: the input.
        mode: everything that depends on what is restored, and how.
        grid: the blocks of the output.
        prior: the card of the prior.
        estimator: the card of the learned estimate, None where sampling begins from linear interpolation.
    """

    config: Config
    measured: Measured
    mode: Mode
    grid: Grid
    prior: Card
    estimator: Card | None = None

    @property
    def voxel(self) -> VoxelSize:
        """Size of the output's voxels in nm."""
        return self.mode.voxel

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
            "factor": max(self.mode.acquisition.scale),
            "steps": self.mode.steps,
            "start": self.mode.start_time,
            "estimator": self.mode.estimator_name or LINEAR,
        }
        if not self.config.restore.adapt.steps:
            # as if there were no such key, as in results made before there was
            del restore["adapt"]
        if self.config.restore.psf.kernel:
            kernel = json.dumps(self.mode.psf)
            restore["psf"] = hashlib.sha256(kernel.encode()).hexdigest()
        del config["input"]["accept"]
        return {
            "input": config["input"],
            "restore": restore,
            "grid": {"block": config["grid"]["block"], "halo": config["grid"]["halo"]},
            "output": config["output"],
            "prior": self.prior.sha256,
            "estimator": self.estimator and self.estimator.sha256,
        }

    @property
    def adaptation(self) -> str | None:
        """Name of the prior adapted to this input, None without `restore.adapt`.

        The same for every run that asks for the same adaptation of the same input, so that it is made once.
        """
        measured, restore = self.measured, self.config.restore
        if not restore.adapt.steps:
            return None
        identity = [
            self.config.input.model_dump(exclude={"accept"}),
            [*measured.shape, *measured.voxel, measured.dtype.str],
            restore.model_copy(update={"noise": self.mode.noise_setting}).model_dump(
                include={"adapt", "noise", "seed"}
            ),
            self.prior.sha256,
        ]
        return f"adapted-{hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:12]}"

    @property
    def disk_bytes(self) -> int:
        """Disk that the run may fill, uncompressed: block results, output and pyramid."""
        counted = min(len(self.grid), MOST_COUNTED)
        blocks = sum(self.grid[i].outer.size for i in range(counted)) * len(self.grid) // counted
        per_voxel = self.dtype.itemsize + (4 if self.config.restore.samples > 1 else 0)
        return int((blocks + PYRAMID_SHARE * math.prod(self.grid.shape)) * per_voxel)

    @property
    def _context_sections(self) -> int:
        """Sections on either side of a block that are read and held for the estimator."""
        if self.estimator is None or self.mode.through_z:
            return 0
        return self.estimator.context

    @property
    def stitch_memory_mb(self) -> int:
        """Memory that a stitch job may need, in MB: sum, weights and blocks of a core, and the unit that it writes."""
        outer = math.prod(self.grid.outer_shape())
        unit = math.prod(self.config.output.write_unit) * self.dtype.itemsize
        return max(LEAST_STITCH_MB, (STITCH_BYTES * outer + 4 * unit) // 1_000_000 + LIBRARIES_MB)

    def memory_mb(self, threads: int) -> int:
        """Memory that a restore job with so many threads may need, in MB: the one place where it is projected."""
        outer = self.grid.outer_shape()
        plane = max(CALL_PIXELS, math.prod(sorted(outer)[1:]))
        context = self._context_sections
        voxels = (outer[0] + 2 * context) * math.prod(outer[1:])
        copies = 4 * COPIES_PER_VOXEL * voxels * concurrent_blocks(self.mode, self.grid, threads)
        return LIBRARIES_MB + (copies + threads * BYTES_PER_PIXEL * plane) // 1_000_000


def resolve(config: Config, measured: Measured | None = None, psf: Kernel | None = None) -> RunSpec:
    """Everything that can be known, and refused, from metadata alone.

    Args:
        config: the settings.
        measured: the input, if it is not the volume that the settings name.
        psf: point spread function (y, x) to deblur, if it is not what the settings say.

    Raises:
        EmgenError: the input, prior, reference or labels cannot be used with these settings.
    """
    measured = measured or open_input(config.input)
    if measured.dtype.kind not in "iuf":
        raise EmgenError(
            f"{measured.path} has voxels of type {measured.dtype}; expected an integer or floating-point type"
        )
    if min(measured.shape) < 1:
        raise EmgenError(f"{measured.path} has no voxels: its shape is {measured.shape}")
    resolved = mode(config.restore, measured.shape, measured.voxel, psf)
    resolved = resolved if psf else replace(resolved, psf=resolved.given_psf())
    grid = cut(config, resolved)
    resolved.refuse_grid(grid)
    if config.restore.adapt.steps and says_absent(measured):
        raise EmgenError(
            "restore.adapt learns from all voxels of the input, and input.mask or input.missing_chunks: blank say that some "
            "were not measured; remove restore.adapt, or train a prior on a crop that shows tissue all over: emgen train"
        )
    refuse_absurd(config, grid, np.promote_types(measured.dtype, np.float32))
    _refuse_unfit_reference(config, resolved.shape, measured.shape, resolved.acquisition.scale)
    return RunSpec(config, measured, resolved, grid, *_networks(config, resolved))


def cut(config: Config, mode: Mode) -> Grid:
    """The blocks of the output."""
    grid = config.grid
    return Grid(mode.shape, grid.block, mode.halo(grid.halo), grid.blocks_per_job)


def concurrent_blocks(mode: Mode, grid: Grid, workers: int) -> int:
    """Blocks to restore at a time, so that every worker has a plane: more than one where blocks are thin."""
    z, y, _ = grid.outer_shape()
    return max(1, workers // (y if mode.through_z else z))


def _refuse_unfit_reference(config: Config, shape: Zyx, measured_shape: Zyx, scale: Zyx) -> None:
    for key, path in (("qc.reference", config.qc.reference), ("qc.labels", config.qc.labels)):
        if path is None:
            continue
        volume = Volume.open(path)
        if volume.shape != shape:
            raise EmgenError(
                f"{key}: {path} has shape {volume.shape}, but the output will have {shape} "
                f"({measured_shape} measured voxels times {scale}); crop it to the same field"
            )
        if key == "qc.labels" and volume.dtype.kind not in "iu":
            raise EmgenError(
                f"qc.labels: {path} has voxels of type {volume.dtype}; expected integers"
            )


def _networks(config: Config, mode: Mode) -> tuple[Card, Card | None]:
    prior = resolve_card(config.restore.prior)
    if prior.task != "prior":
        raise EmgenError(
            f"restore.prior: {prior.path} is no prior, but a learned estimate; give it as restore.estimator"
        )
    if mode.estimator_name is None:
        return prior, None
    estimator = resolve_card(mode.estimator_name)
    if estimator.task != mode.estimator_task:
        kinds = {
            "prior": "is a prior; give it as restore.prior",
            "axial": "interpolates between sections, for mode: isotropic",
            "sections": "estimates sections from themselves, for modes other than isotropic",
        }
        raise EmgenError(
            f"restore.estimator: {estimator.path} {kinds[estimator.task]}; mode: {config.restore.mode} needs one for "
            f"it, or begins from linear interpolation: `estimator: {LINEAR}`"
        )
    return prior, estimator
