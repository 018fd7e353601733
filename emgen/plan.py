"""The plan of a run: everything that is decided once, before the first block is restored.

`draft` reads metadata only (the workflow calls it while it is parsed, so that bad input ends a run
before any work); `make` adds what needs voxels: intensity scaling, noise level and the resume key.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import shutil
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emgen import interpolate
from emgen.config import Config, parse
from emgen.errors import EmgenError
from emgen.geometry import Box, VoxelSize, Zyx, zyx
from emgen.grid import Grid
from emgen.intensity import Intensity, estimate_noise
from emgen.prior.card import Card, resolve
from emgen.pyramid import factors
from emgen.volume import Volume

# Part of the resume key: raised whenever the voxels of a block would come out differently.
METHOD = 1

SAMPLES, SAMPLE = 27, (32, 128, 128)  # boxes read for intensity and noise, spread evenly
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
        return {
            "input": config["input"],
            "restore": restore,
            "grid": {"block": config["grid"]["block"], "halo": config["grid"]["halo"]},
            "output": config["output"],
            "prior": self.prior.sha256,
        }

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


@dataclass(frozen=True)
class Plan:
    """`plan.json`: what every job of a run reads."""

    config: Config
    measured_shape: Zyx
    measured_voxel: VoxelSize
    shape: Zyx
    voxel: VoxelSize
    dtype: str
    scale: Zyx
    centre: tuple[float, float, float]
    intensity: Intensity
    noise: float
    prior: dict[str, Any]
    settings: dict[str, Any]
    fingerprint: str
    key: str

    @property
    def grid(self) -> Grid:
        grid = self.config.grid
        return Grid(self.shape, grid.block, grid.halo, grid.blocks_per_job)

    @property
    def extrapolated(self) -> Box | None:
        """Output sections beyond the last measured one, which nothing on the far side supports."""
        last = (self.measured_shape[0] - 1) * self.scale[0]
        if self.config.restore.section != "slice" or last + 1 == self.shape[0]:
            return None
        return Box((last + 1, 0, 0), self.shape)

    def job_key(self, number: int) -> str:
        """Resume key of a job's block store: the plan's and the blocks in it."""
        blocks = self.grid.job(number)
        return f"{self.key} blocks {blocks.start} to {blocks.stop}"

    def computed(self, outer: Box) -> Box:
        """What is computed for an outer box: from the network's whole cells on.

        The network then sees every voxel at the same place in its cell, wherever blocks begin.
        """
        cell = int(self.prior["cell"])
        return Box(zyx([a - a % cell for a in outer.start]), outer.stop)

    def support(self, box: Box) -> Box:
        """Measured voxels between which every output voxel of `box` is interpolated."""
        return interpolate.support(box, self.scale, self.centre, self.measured_shape)

    def interpolated(self, measured: Volume, box: Box) -> npt.NDArray[np.float32]:
        """Linear interpolation of the measured voxels in grey values: the baseline of every figure."""
        support = self.support(box)
        return interpolate.linear(measured.read(support), support, box, self.scale, self.centre)

    def write(self, path: str | Path) -> None:
        facts = {**asdict(self), "config": self.config.model_dump(mode="json")}
        Path(path).write_text(json.dumps(facts, indent=2) + "\n")

    @classmethod
    def read(cls, path: str | Path) -> Plan:
        """Read `plan.json`.

        Raises:
            EmgenError: it is not one.
        """
        try:
            facts = json.loads(Path(path).read_text())
            return cls(
                **{
                    **facts,
                    "config": parse(facts["config"]),
                    "measured_shape": zyx(facts["measured_shape"]),
                    "measured_voxel": VoxelSize(**facts["measured_voxel"]),
                    "shape": zyx(facts["shape"]),
                    "voxel": VoxelSize(**facts["voxel"]),
                    "scale": zyx(facts["scale"]),
                    "centre": tuple(facts["centre"]),
                    "intensity": Intensity(**facts["intensity"]),
                }
            )
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise EmgenError(
                f"{path} is not a plan of this version of emgen ({error}); remove it and run again"
            ) from None


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


def refuse_other_settings(found: Draft, run: Path) -> None:
    """Never mix two results under one name, and never start what the disk cannot hold.

    Raises:
        EmgenError: the run has a result made with other settings, a volume that no plan belongs to, or too
            little disk is free.
    """
    stored = run / "plan.json"
    if not stored.exists():
        if (run / "restored.ome.zarr").exists():
            raise EmgenError(
                f"{run / 'restored.ome.zarr'} exists, but {stored} does not: it was not made by this run. "
                "Choose another `run` name, or move it away"
            )
        refuse_full_disk(found, run)
        return
    before = Plan.read(stored).settings
    changes = [
        f"{name} was {_value(before, name)}, now {_value(found.settings, name)}"
        for name in sorted(_names(before) | _names(found.settings))
        if _value(before, name) != _value(found.settings, name)
    ]
    if changes:
        raise EmgenError(
            f"{run} holds a result made with other settings: {'; '.join(changes)}. "
            f"Nothing was overwritten. Choose another `run` name, or remove {run}"
        )


def refuse_full_disk(found: Draft, run: Path) -> None:
    """`EmgenError` if the run may need more disk than is free where its results go."""
    existing = next(
        folder for folder in [run.absolute(), *run.absolute().parents] if folder.exists()
    )
    free = shutil.disk_usage(existing).free
    if found.bytes > free:
        raise EmgenError(
            f"the run may need {found.bytes / 1e9:.3g} GB, but only {free / 1e9:.3g} GB are free at {existing}; "
            "free some, or run from a folder on a larger disk"
        )


def make(found: Draft) -> Plan:
    """Read samples of the input and settle the rest.

    Raises:
        EmgenError: sampled voxels are constant or not finite.
    """
    samples = [found.measured.read(box) for box in _sample_boxes(found.measured.shape)]
    try:
        intensity = Intensity.of(samples)
    except ValueError as error:
        raise EmgenError(f"{found.measured.path} cannot be restored: {error}") from None
    noise = _noise(found.config, samples)
    crc = 0
    for sample in samples:
        crc = zlib.crc32(sample.tobytes(), crc)
    fingerprint = (
        f"{found.measured.shape} {found.measured.voxel} {found.measured.dtype.str} {crc:08x}"
    )
    identity = [METHOD, found.settings, fingerprint, asdict(intensity), noise]
    return Plan(
        config=found.config,
        measured_shape=found.measured.shape,
        measured_voxel=found.measured.voxel,
        shape=found.grid.shape,
        voxel=found.voxel,
        dtype=found.dtype.name,
        scale=found.scale,
        centre=found.centre,
        intensity=intensity,
        noise=noise,
        prior=found.prior.digest(),
        settings=found.settings,
        fingerprint=fingerprint,
        key=hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest(),
    )


def create_output(
    plan: Plan, found: Draft, path: Path, dtype: npt.DTypeLike | None = None
) -> Volume:
    """The empty output with all its levels, or the one that an earlier start of the same plan made.

    Raises:
        EmgenError: something else is at `path`.
    """
    if path.exists():
        volume = Volume.open(path)
        if volume.attributes.get("emgen", {}).get("key") != plan.key:
            raise EmgenError(
                f"{path} was made with other settings or from other input; nothing was overwritten: move it away"
            )
        return volume
    output = plan.config.output
    origin = [
        t - c * v
        for t, c, v in zip(found.measured.translation, plan.centre, plan.voxel, strict=True)
    ]
    whole = np.iinfo(found.dtype) if found.dtype.kind in "iu" else None
    low, high = plan.intensity.low, plan.intensity.high
    return Volume.create(
        path,
        plan.shape,
        dtype or plan.dtype,
        plan.voxel,
        ngff=output.ngff,
        chunk=output.chunk,
        shard=output.shard,
        factors=factors(plan.shape, plan.voxel),
        origin=(origin[0], origin[1], origin[2]),
        window=(float(whole.min) if whole else low, low, high, float(whole.max) if whole else high),
        attributes={"emgen": {"key": plan.key, "settings": plan.settings, "prior": plan.prior}},
    )


def _sample_boxes(shape: Zyx) -> list[Box]:
    size = [min(n, s) for n, s in zip(shape, SAMPLE, strict=True)]
    per_axis = round(SAMPLES ** (1 / 3))
    starts = [
        sorted({round(i * (n - s) / (per_axis - 1)) for i in range(per_axis)})
        for n, s in zip(shape, size, strict=True)
    ]
    return [
        Box(zyx(at), zyx([a + s for a, s in zip(at, size, strict=True)]))
        for at in itertools.product(*starts)
    ]


def _noise(config: Config, samples: list[npt.NDArray[Any]]) -> float:
    restore = config.restore
    if restore.noise != "auto":
        return float(restore.noise)
    if restore.mode in ("isotropic", "superres"):
        return 0.0
    return float(np.median([estimate_noise(section) for sample in samples for section in sample]))


def _names(tree: Any, prefix: str = "") -> set[str]:
    if not isinstance(tree, dict):
        return {prefix}
    return set().union(
        *(_names(value, f"{prefix}.{key}" if prefix else key) for key, value in tree.items())
    )


def _value(tree: Any, name: str) -> Any:
    for part in name.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree
