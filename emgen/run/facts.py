"""What rules write beside voxels: JSON, arrays of figures and the report. Whether it is whole, and what follows from it.

Snakemake makes a file that is missing again only where something that it was asked for needs it. So where a file is
damaged, one that was asked for and is made of it has to go too.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

PATTERNS = (
    *("blocks/*.json", "stitch/*.json", "pyramid/*.json", "restored.json", "calibration.json"),
    *("psf.json", "qc/*.json", "qc/*.npz", "provenance/*.json", "ro-crate-metadata.json"),
    "report.html",
)
MADE_OF = {"qc": "qc/summary.json", "provenance": "provenance/run.json"}
"""The file that was asked for, by the folder of those that it is made of, or made with."""


def torn(run: Path) -> list[Path]:
    """Files of a run that are there and damaged."""
    files = [path for pattern in PATTERNS for path in sorted(run.glob(pattern))]
    return [path for path in files if not _is_whole(path)]


def with_what_follows(files: list[Path], run: Path) -> list[Path]:
    """Damaged files of a run, and those that have to be made again with them."""
    names = [MADE_OF.get(path.parent.name) for path in files]
    return [*files, *(path for name in names if name and (path := run / name).exists())]


def read_facts(path: Path) -> dict[str, Any] | None:
    """What a JSON file says; None where there is none, or it is damaged."""
    try:
        facts = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError):
        return None
    return facts if isinstance(facts, dict) else None


def _is_whole(path: Path) -> bool:
    if path.suffix == ".json":
        return read_facts(path) is not None
    if path.suffix == ".npz":
        return zipfile.is_zipfile(path)
    try:
        return b"</html>" in path.read_bytes()[-64:]
    except OSError:
        return False
