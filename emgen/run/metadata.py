"""The metadata of a run's outputs: what they must say follows from the plan, so what is damaged of them is written anew.

Only files that cannot be what emgen wrote are taken for damaged: those that are missing, that hold no JSON or not all of
its keys, or that differ in a single byte. What others changed on purpose, a window for viewers for example, stays; and
what another version of Zarr writes differently is no damage.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from emgen.run.output import create_output
from emgen.run.plan import Plan
from emgen.run.resolve import RunSpec
from emgen.run.results import Results
from emgen.volumes.stamp import replace_with


def damaged_metadata(plan: Plan, spec: RunSpec, run: Path) -> dict[Path, bytes]:
    """Damaged metadata files of the outputs that are there, and what they must hold.

    Args:
        plan: of the run.
        spec: what the metadata of the input says.
        run: the run's folder.
    """
    results, found = Results(plan, run), {}
    for field in results.fields:
        volume = results.volume(field)
        if volume.is_dir():
            for name, text in _expected(plan, spec, field).items():
                if _is_damaged(volume / name, text):
                    found[volume / name] = text
    return found


def mend_metadata(damaged: dict[Path, bytes]) -> list[str]:
    """Write damaged metadata files anew, and say so."""
    for path, text in damaged.items():
        replace_with(path, text)
    return [f"{path} was damaged and is written anew" for path in damaged]


def _expected(plan: Plan, spec: RunSpec, field: str) -> dict[str, bytes]:
    """Every metadata file of an output without voxels, by its path in it."""
    with tempfile.TemporaryDirectory() as folder:
        dtype = np.float32 if field == "std" else None
        name = Results(plan, Path(folder)).volume(field)
        create_output(plan, spec, name, dtype)
        files = [path for path in name.rglob("*") if path.is_file()]
        return {str(path.relative_to(name)): path.read_bytes() for path in files}


def _is_damaged(path: Path, expected: bytes) -> bool:
    try:
        text = path.read_bytes()
        facts = json.loads(text)
    except (OSError, ValueError, RecursionError):
        return True
    wanted = json.loads(expected)
    if not isinstance(facts, dict) or not set(wanted) <= set(facts):
        return True
    return _differ_in_one_byte(text, expected) and _said(facts) != _said(wanted)


def _differ_in_one_byte(one: bytes, other: bytes) -> bool:
    return len(one) == len(other) and sum(a != b for a, b in zip(one, other, strict=True)) == 1


def _said(facts: dict[str, Any]) -> Any:
    """What metadata say of voxels and of the plan; what viewers make of it is left out."""
    attributes = facts.get("attributes", facts)
    if not isinstance(attributes, dict):
        return facts
    ome = attributes.get("ome", attributes)
    shown = {"omero"} & set(ome) if isinstance(ome, dict) else set()
    if not shown:
        return facts
    return [
        ome.get("multiscales"),
        ome.get("version"),
        attributes.get("emgen"),
        facts.get("node_type"),
    ]
