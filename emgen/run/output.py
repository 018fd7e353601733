"""What a run writes to: the empty output volumes, and when it must not write at all."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emgen.errors import EmgenError
from emgen.run.identity import differences, refuse_changed
from emgen.run.plan import PLAN_FILE, DamagedPlan, Plan
from emgen.run.resolve import RunSpec
from emgen.volumes.pyramid import factors
from emgen.volumes.volume import Volume

TISSUE = "tissue.ome.zarr"
"""What each voxel of the output is, as `emgen.physics.tissue` has it; only where not all were measured."""


def create_output(
    plan: Plan, spec: RunSpec, path: Path, dtype: npt.DTypeLike | None = None, label: bool = False
) -> Volume:
    """The empty output with all its levels, or the one that an earlier start of the same plan made.

    Args:
        plan: of the run.
        spec: what its metadata says.
        path: of the volume.
        dtype: of its voxels; that of the plan by default.
        label: whether its voxels are classes: then it has no coarser levels.

    Raises:
        EmgenError: something else is at `path`.
    """
    if path.exists():
        made = made_from(path)
        if made.get("key") != plan.key:
            raise EmgenError(
                f"{path} was not made from these settings and this input: {'; '.join(_reasons(made, plan))}. "
                "Nothing was overwritten: choose another `run` name, or move it away"
            )
        return Volume.open(path)
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
        factors=[(1, 1, 1)] if label else factors(plan.shape, plan.voxel),
        origin=(z, y, x),
        window=None if label else _window(plan, spec.dtype),
        label=label,
        attributes={
            "emgen": {
                "key": plan.key,
                "settings": plan.settings,
                "input": plan.fingerprint,
                "prior": plan.prior,
            }
        },
    )


def made_from(path: Path) -> dict[str, Any]:
    """What an output says of the plan that it was made for: its key, settings and input.

    Raises:
        EmgenError: it is no output of emgen.
    """
    try:
        made = Volume.open(path).attributes.get("emgen")
        fault = "it says nothing of one" if made is None else "what it says of one is damaged"
    except EmgenError as error:
        made, fault = None, str(error)
    if not isinstance(made, dict) or not isinstance(made.get("settings"), dict):
        raise EmgenError(
            f"{path} exists, but it was not made by this run of emgen ({fault}). Nothing was overwritten: choose another "
            "`run` name, or move it away; then it is stitched again"
        )
    return made


def _reasons(made: dict[str, Any], plan: Plan) -> list[str]:
    """Why an output and a plan have different keys."""
    found = _changes(made["settings"], plan.settings)
    if isinstance(made.get("input"), str):
        found += differences(made["input"], plan.fingerprint)
    return found or [
        "the sampled grey values or noise, the fitted blur or emgen's own method differ"
    ]


def _window(plan: Plan, dtype: np.dtype[Any]) -> tuple[float, float, float, float]:
    """Grey values for viewers: the least, the first and the last shown, the greatest."""
    low, high = plan.intensity.low, plan.intensity.high
    if dtype.kind not in "iu":
        return low, low, high, high
    limits = np.iinfo(dtype)
    return float(limits.min), low, high, float(limits.max)


def refuse_other_settings(spec: RunSpec, run: Path) -> None:
    """Never mix two results under one name, and never start what the disk cannot hold.

    What is there says what it was made from: plan.json, or the output's own metadata where plan.json is missing or
    damaged; the plan is then made again.

    Args:
        spec: what the metadata of the run says.
        run: its folder.

    Raises:
        EmgenError: the run has a result made with other settings, from other input or by another version of emgen, a
            volume that no run made, or too little disk is free.
    """
    # here, because it makes an output to compare with
    from emgen.run.metadata import damaged_metadata

    plan, output = stored_plan(run), run / "restored.ome.zarr"
    mendable = plan is not None and damaged_metadata(plan, spec, run)
    made = made_from(output) if output.exists() and not mendable else None
    if plan is None and made is None:
        refuse_full_disk(spec, run)
        return
    if plan and made and plan.key != made.get("key"):
        raise EmgenError(
            f"{output} was not made from {run / PLAN_FILE}: {'; '.join(_reasons(made, plan))}. Nothing was overwritten. "
            f"Put the former volume back, or move {run} away"
        )
    before = plan.settings if plan else made["settings"] if made else {}
    if changes := _changes(before, spec.settings):
        raise EmgenError(
            f"{run} holds a result made with other settings: {'; '.join(changes)}. "
            f"Nothing was overwritten. Choose another `run` name, or remove {run}"
        )
    planned = plan.fingerprint if plan else made and made.get("input")
    if isinstance(planned, str):
        refuse_changed(planned, spec.measured, run)


def stored_plan(run: Path) -> Plan | None:
    """The plan in a run's folder; None where it is missing or damaged, so that it has to be made again.

    Raises:
        EmgenError: it is of another version of emgen.
    """
    try:
        return Plan.of(run)
    except DamagedPlan:
        return None


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


def _changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Settings that differ, in words."""
    return [
        f"{name} was {_value(before, name)}, now {_value(now, name)}"
        for name in sorted(_names(before) | _names(now))
        if _value(before, name) != _value(now, name)
    ]


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
