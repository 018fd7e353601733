"""Whether the input is still the one that a run was planned from: looked at in every start and in every job.

Voxels of two inputs in one result would be wrong without a word. What is compared is the fingerprint: shape, voxel
size, type, and a checksum of voxels that are sampled all over the volume, which takes seconds for any size.
"""

from __future__ import annotations

import re
from pathlib import Path

from emgen.errors import EmgenError
from emgen.run.plan import Plan
from emgen.volumes.measured import Measured
from emgen.volumes.samples import fingerprint, read_samples

PARTS = re.compile(r"(\(.*?\)) (.*) (\S+) ([0-9a-f]{8})")
NAMES = ("shape", "voxel size", "type", "checksum of sampled voxels")


def unchanged(plan: Plan, measured: Measured) -> Measured:
    """The input, if it is what the plan was made from.

    Args:
        plan: of the run.
        measured: the input as it is now.

    Raises:
        EmgenError: it is not; the message says what differs.
    """
    refuse_changed(plan.fingerprint, measured, f"results of run `{plan.config.run}`")
    return measured


def refuse_changed(planned: str, measured: Measured, results: str | Path) -> None:
    """`EmgenError` if the input does not have the fingerprint that a run was planned from.

    Args:
        planned: that fingerprint.
        measured: the input as it is now.
        results: what was made of it: a folder or some words.
    """
    # a volume that grew is told from its metadata, before any voxel is read
    known = PARTS.fullmatch(planned)
    if known and known[1] != str(tuple(measured.shape)):
        found = [f"its shape was {known[1]}, now {tuple(measured.shape)}"]
    else:
        found = differences(planned, fingerprint(measured, read_samples(measured)))
    if found:
        raise EmgenError(
            f"the input {measured.path} is not the one that this run began with: {'; '.join(found)}. Nothing was "
            f"overwritten, and nothing of the two is mixed ({results}). Put the former input back, or choose another "
            "`run` name for this one"
        )


def differences(before: str, now: str) -> list[str]:
    """What differs between two fingerprints, in words; nothing where they are the same."""
    if before == now:
        return []
    pair = [PARTS.fullmatch(text) for text in (before, now)]
    if not all(pair):
        return [f"its fingerprint was {before!r}, now {now!r}"]
    first, second = (match.groups() for match in pair if match)
    return [
        f"its {name} was {a}, now {b}"
        for name, a, b in zip(NAMES, first, second, strict=True)
        if a != b
    ]
