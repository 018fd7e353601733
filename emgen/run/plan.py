"""The plan of a run: everything that is decided once, before the first block is restored.

`make` adds to a draft what needs voxels: intensity scaling, noise level and the resume key.
"""

from __future__ import annotations

import hashlib
import json
import math
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emgen.config.run import Config, parse
from emgen.errors import EmgenError
from emgen.geometry import Box, VoxelSize, Zyx, zyx
from emgen.networks.card import resolve
from emgen.physics import interpolation, missing
from emgen.physics.grey_scale import scaled
from emgen.physics.noise_model import NoiseModel
from emgen.physics.psf import Kernel
from emgen.run.resolve import RunSpec, cut, refuse_wide
from emgen.volumes.grid import Grid
from emgen.volumes.intensity import Intensity
from emgen.volumes.pyramid import factors
from emgen.volumes.samples import fingerprint, read_samples
from emgen.volumes.volume import Volume

# Part of the resume key: raised whenever the voxels of a block would come out differently.
METHOD = 4


@dataclass(frozen=True)
class Plan:
    """`plan.json`: what every job of a run reads.

    Among it what was decided by looking at voxels: the scaling of grey values, the noise in the middle of
    them, how it grows, what is left of it in the dark and how far neighbouring pixels share it (see `NoiseModel`), the measured sections that are lost, and the point spread function.
    """

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
    gain: float
    noise_floor: float
    correlation_ratio: float
    lost: tuple[int, ...]
    psf: Kernel | None
    prior: dict[str, Any]
    estimator: dict[str, Any] | None
    settings: dict[str, Any]
    fingerprint: str
    key: str

    @property
    def grid(self) -> Grid:
        return cut(self.config, self.shape)

    @property
    def bracketed_sections(self) -> tuple[int, int]:
        """The output sections (first, stop) that measured ones bound on both sides."""
        first = min(k for k in range(self.measured_shape[0]) if k not in self.lost)
        isotropic = self.config.restore.mode == "isotropic"
        stop = self.shape[0] if self.extrapolated is None else self.extrapolated.start[0]
        return first * self.scale[0] if isotropic else 0, stop

    @property
    def extrapolated(self) -> Box | None:
        """Output sections beyond the last measured one, which nothing on the far side supports."""
        last = max(k for k in range(self.measured_shape[0]) if k not in self.lost)
        wide = 1 if self.config.restore.section == "slice" else self.scale[0]
        first = last * self.scale[0] + wide
        # sections that are restored one by one do without their neighbours
        if first == self.shape[0] or self.config.restore.mode != "isotropic":
            return None
        return Box((first, 0, 0), self.shape)

    def job_key(self, number: int) -> str:
        """Resume key of a job's block store: the plan's and the blocks in it."""
        blocks = self.grid.job(number)
        return f"{self.key} blocks {blocks.start} to {blocks.stop}"

    def aligned(self, outer: Box) -> Box:
        """The outer box, its start rounded down to a multiple of the networks' stride.

        A network then sees every voxel at the same place in its stride, wherever blocks begin.
        """
        stride = math.lcm(*(int(card["stride"]) for card in (self.prior, self.estimator) if card))
        # where sections are restored one by one, no plane runs along z
        strides = (stride if self.config.restore.mode == "isotropic" else 1, stride, stride)
        return Box(zyx([a - a % n for a, n in zip(outer.start, strides, strict=True)]), outer.stop)

    @property
    def detector(self) -> NoiseModel:
        """The noise of the measurement."""
        return NoiseModel(
            self.noise, self.gain, self.intensity.middle, self.noise_floor, self.correlation_ratio
        )

    def context_box(self, box: Box) -> Box:
        """Output voxels that the estimate of `box` begins from: where sections are estimated, those beside it too."""
        if self.estimator is None or self.config.restore.mode == "isotropic":
            return box
        return box.grow((self.estimator["context"], 0, 0)).clip(self.shape)

    def interpolation_support(self, box: Box) -> Box:
        """Measured voxels between which every output voxel of `box` is interpolated."""
        near = interpolation.support(box, self.scale, self.centre, self.measured_shape)
        return missing.expand_past_missing(near, self.lost, self.measured_shape[0])

    def read_box(self, box: Box) -> Box:
        """Measured voxels that `box` is restored from."""
        return self.interpolation_support(self.context_box(box))

    def fill_missing(self, voxels: npt.NDArray[Any], support: Box) -> npt.NDArray[Any]:
        """Measured voxels of `support` with lost sections interpolated from their neighbours."""
        return missing.fill_missing(voxels, support.start[0], self.lost)

    def interpolated(self, measured: Volume, box: Box) -> npt.NDArray[np.float32]:
        """Linear interpolation of the measured voxels in grey values: the baseline of every figure."""
        support = self.interpolation_support(box)
        voxels = self.fill_missing(measured.read(support), support)
        return interpolation.linear(voxels, support, box, self.scale, self.centre)

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
                    "lost": tuple(facts["lost"]),
                    "psf": facts["psf"] and tuple(map(tuple, facts["psf"])),
                }
            )
        except (OSError, KeyError, TypeError, ValueError) as error:
            raise EmgenError(
                f"{path} is not a plan of this version of emgen ({error}); remove it and run again"
            ) from None


def refuse_other_settings(found: RunSpec, run: Path) -> None:
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


def refuse_full_disk(found: RunSpec, run: Path) -> None:
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


def make(found: RunSpec, adapted: str | Path | None = None, psf: str | Path | None = None) -> Plan:
    """Read samples of the input and settle the rest.

    Args:
        found: what the metadata says.
        adapted: weights of the prior adapted to this input, where the settings ask for one.
        psf: what was fitted to this input (`emgen.run.blind`), where they ask for that.

    Raises:
        EmgenError: sampled voxels are constant or not finite, or the prior was adapted to other voxels.
    """
    lost = missing.resolve_missing(found.measured, found.config.input.lost)
    samples = read_samples(found.measured)
    seen = missing.drop_missing(samples, found.measured.shape, lost)
    intensity, detector = scaled(found.measured, seen, found.config.restore.level)
    identified = fingerprint(found.measured, samples)
    weights = found.config.restore.prior if adapted is None else str(adapted)
    prior = found.prior if adapted is None else resolve(weights)
    if adapted is not None and prior.facts.get("adaptation", {}).get("input") != identified:
        raise EmgenError(
            f"{adapted} was adapted to other voxels than {found.measured.path} holds now; remove {Path(adapted).parent} "
            "and run again"
        )
    kernel = found.psf if psf is None else fitted(psf, found, identified)
    decided = [asdict(intensity), asdict(detector), lost, kernel]
    identity = [METHOD, found.settings, prior.sha256, identified, *decided]
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
        noise=detector.sigma,
        gain=detector.gain,
        noise_floor=detector.least,
        correlation_ratio=detector.own,
        lost=lost,
        psf=kernel,
        prior={"weights": weights, **prior.digest()},
        estimator=None
        if found.estimator is None
        else {"weights": found.config.restore.learned, **found.estimator.digest()},
        settings=found.settings,
        fingerprint=identified,
        key=hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest(),
    )


def create_output(
    plan: Plan, found: RunSpec, path: Path, dtype: npt.DTypeLike | None = None
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


def fitted(path: str | Path, found: RunSpec, identified: str) -> Kernel:
    """The point spread function in a `psf.json`.

    Raises:
        EmgenError: it was fitted to other voxels than those of `identified`, or is wider than the halo.
    """
    facts = json.loads(Path(path).read_text())
    if facts.get("input") != identified:
        raise EmgenError(
            f"{path} was fitted to other voxels than {found.measured.path} holds now; remove it and run again"
        )
    kernel: Kernel = tuple(map(tuple, facts["kernel"]))
    refuse_wide(kernel, found.grid)
    return kernel


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
