"""Inspection of the input before anything is restored: what is in it that its user should know.

A kind of finding is a file of this package with a function `find` of a `Look`, and a word in `NAMES`. It says which law it
rests on, and beside each number where that is from.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from importlib import import_module

from emgen.config.run import Config
from emgen.errors import EmgenError
from emgen.physics.shown import shown
from emgen.run.inspection.finding import Finding, Inspection, accepted
from emgen.run.inspection.look import Look
from emgen.volumes.measured import Measured

NAMES = (
    "tissue",
    "axes",
    "blanks",
    "copies",
    "order",
    "position",
    "brightness",
    "sharpness",
    "contrast",
    "noise",
    "grey_values",
    "hot_pixels",
    "familiarity",
)
"""Modules of this package; `find` of a module yields what it finds."""

EXPLAINED_BY = {
    "section-distance-unlike-texture": (
        "shuffled-sections",
        "jitter",
        "uneven-sections",
        "repeated-sections",
    ),
    "noise-along-z": ("repeated-sections",),
    "swapped-axes": ("shuffled-sections", "jitter"),
}
"""Findings that say nothing new where one of others was made."""


def findings(look: Look) -> list[Finding]:
    """Everything that is found in a volume."""
    every = [
        finding for name in NAMES for finding in import_module(f"{__name__}.{name}").find(look)
    ]
    codes = {finding.what for finding in every}
    if "no-tissue" in codes:
        return [finding for finding in every if finding.severity == "refuse"]
    return [finding for finding in every if not codes & {*EXPLAINED_BY.get(finding.what, ())}]


def inspect(measured: Measured, config: Config) -> Inspection:
    """Look at the input of a run."""
    lost = () if config.input.lost == "auto" else config.input.lost
    return inspected(
        Look.at(shown(measured, config.input), config.restore, tuple(lost)),
        config.input.accept,
        asked(config),
    )


def inspected(look: Look, accept: Sequence[str] = (), digest: str = "") -> Inspection:
    """What a look at a volume finds; refusals that `accept` names are warnings."""
    columns = look.traces.deviation.shape[1]
    return Inspection(
        volume=look.path,
        asked=digest,
        sections_looked_at=len(look.numbers),
        sections=look.shape[0],
        columns=columns,
        findings=accepted(findings(look), accept),
    )


def asked(config: Config) -> str:
    """Digest of the settings that an inspection depends on."""
    settings = config.model_dump(
        mode="json", include={"input": True, "restore": {"mode", "factor", "noise"}}
    )
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:16]


def refuse(inspection: Inspection) -> None:
    """`EmgenError` if the input is refused."""
    refusals = inspection.of("refuse")
    if refusals:
        lines = [f"{f.sentence} ({f.evidence}). {f.what_to_do}" for f in refusals]
        codes = ", ".join(f.what for f in refusals)
        raise EmgenError(
            f"{inspection.volume} is not restored: {' '.join(lines)} If it is right as it is: `input: {{accept: [{codes}]}}`"
        )
