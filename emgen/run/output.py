"""What a run writes to: the empty output volumes, and when it must not write at all."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emgen.errors import EmgenError
from emgen.run.plan import Plan
from emgen.run.resolve import RunSpec
from emgen.volumes.pyramid import factors
from emgen.volumes.volume import Volume


def create_output(
    plan: Plan, spec: RunSpec, path: Path, dtype: npt.DTypeLike | None = None
) -> Volume:
    """The empty output with all its levels, or the one that an earlier start of the same plan made.

    Args:
        plan: of the run.
        spec: what its metadata says.
        path: of the volume.
        dtype: of its voxels; that of the plan by default.

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
    z, y, x = (
        t - c * v
        for t, c, v in zip(spec.measured.translation, plan.centre, plan.voxel, strict=True)
    )
    return Volume.create(
        path,
        plan.shape,
        dtype or plan.dtype,
        plan.voxel,
        ngff=output.ngff,
        chunk=output.chunk,
        shard=output.shard,
        factors=factors(plan.shape, plan.voxel),
        origin=(z, y, x),
        window=_window(plan, spec.dtype),
        attributes={"emgen": {"key": plan.key, "settings": plan.settings, "prior": plan.prior}},
    )


def _window(plan: Plan, dtype: np.dtype[Any]) -> tuple[float, float, float, float]:
    """Grey values for viewers: the least, the first and the last shown, the greatest."""
    low, high = plan.intensity.low, plan.intensity.high
    if dtype.kind not in "iu":
        return low, low, high, high
    limits = np.iinfo(dtype)
    return float(limits.min), low, high, float(limits.max)


def refuse_other_settings(spec: RunSpec, run: Path) -> None:
    """Never mix two results under one name, and never start what the disk cannot hold.

    Args:
        spec: what the metadata of the run says.
        run: its folder.

    Raises:
        EmgenError: the run has a result made with other settings or by another version of emgen, a volume that no
            plan belongs to, or too little disk is free.
    """
    stored = run / "plan.json"
    if not stored.exists():
        if (run / "restored.ome.zarr").exists():
            raise EmgenError(
                f"{run / 'restored.ome.zarr'} exists, but {stored} does not: it was not made by this run. "
                "Choose another `run` name, or move it away"
            )
        refuse_full_disk(spec, run)
        return
    before = Plan.read(stored).settings
    changes = [
        f"{name} was {_value(before, name)}, now {_value(spec.settings, name)}"
        for name in sorted(_names(before) | _names(spec.settings))
        if _value(before, name) != _value(spec.settings, name)
    ]
    if changes:
        raise EmgenError(
            f"{run} holds a result made with other settings: {'; '.join(changes)}. "
            f"Nothing was overwritten. Choose another `run` name, or remove {run}"
        )


def refuse_full_disk(spec: RunSpec, run: Path) -> None:
    """`EmgenError` if the run may need more disk than is free where its results go."""
    existing = next(
        folder for folder in [run.absolute(), *run.absolute().parents] if folder.exists()
    )
    free = shutil.disk_usage(existing).free
    if spec.disk_bytes > free:
        raise EmgenError(
            f"the run may need {spec.disk_bytes / 1e9:.3g} GB, but only {free / 1e9:.3g} GB are free at {existing}; "
            "free some, or run from a folder on a larger disk"
        )


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
