"""What made a result: versions, settings, input and prior, as plain JSON and as an RO-Crate.

RO-Crate 1.1 with the Process Run Crate terms (https://w3id.org/ro/wfrun/process): one action, its
instrument (the workflow), objects (input, prior) and results.
"""

from __future__ import annotations

import importlib.metadata
import json
import platform
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from emgen import __version__
from emgen.config.qc import Qc
from emgen.run.output import TISSUE
from emgen.run.plan import Plan
from emgen.run.results import Results
from emgen.volumes.ledger import digest

PACKAGES = (
    "snakemake",
    "torch",
    "diffusers",
    "zarr",
    "numpy",
    "scipy",
    "scikit-image",
    "bioimage-cpp",
)


def run_facts(plan: Plan, jobs: dict[str, Any], qc: Qc) -> dict[str, Any]:
    """`run.json`: enough to make the same voxels again.

    Args:
        plan: of the run.
        jobs: what the restore jobs added up to (`restored.json`).
        qc: settings of quality control.
    """
    return {
        "schema_version": 1,
        "emgen": __version__,
        "commit": _commit(),
        "finished": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {
            name: importlib.metadata.version(name) for name in PACKAGES if _installed(name)
        },
        "config": plan.config.model_copy(update={"qc": qc}).model_dump(mode="json"),
        "key": plan.key,
        "input": {"volume": plan.config.input.volume, "fingerprint": plan.fingerprint},
        "intensity": {"low": plan.intensity.low, "high": plan.intensity.high},
        "noise": asdict(plan.noise_model),
        "lost": plan.missing,
        "no_data": plan.no_data,
        "psf": plan.psf,
        "prior": plan.prior,
        "estimator": plan.estimator,
        "output": {"shape": plan.shape, "voxel_nm": list(plan.voxel), "dtype": plan.dtype},
        "restore": jobs,
    }


def crate(facts: dict[str, Any], results: dict[str, str]) -> dict[str, Any]:
    """`ro-crate-metadata.json`.

    Args:
        facts: of `run_facts`.
        results: path (from the run's folder) and description of every result.
    """
    volume = facts["input"]["volume"]
    prior = f"#prior-{facts['prior']['name']}"
    files = [
        {
            "@id": path,
            "@type": "Dataset" if path.endswith("/") else "File",
            "name": path.rstrip("/"),
            "description": text,
        }
        for path, text in results.items()
    ]
    return {
        "@context": [
            "https://w3id.org/ro/crate/1.1/context",
            "https://w3id.org/ro/terms/workflow-run/context",
        ],
        "@graph": [
            {
                "@id": "ro-crate-metadata.json",
                "@type": "CreativeWork",
                "about": {"@id": "./"},
                "conformsTo": {"@id": "https://w3id.org/ro/crate/1.1"},
            },
            {
                "@id": "./",
                "@type": "Dataset",
                "name": f"emgen run {facts['config']['run']}",
                "description": f"{facts['config']['restore']['mode']} restoration of {volume}",
                "datePublished": facts["finished"],
                "conformsTo": {"@id": "https://w3id.org/ro/wfrun/process/0.5"},
                "hasPart": [{"@id": path} for path in results],
                "mentions": {"@id": "#restoration"},
            },
            {
                "@id": "https://w3id.org/ro/wfrun/process/0.5",
                "@type": "CreativeWork",
                "name": "Process Run Crate",
                "version": "0.5",
            },
            {
                "@id": "#emgen",
                "@type": "SoftwareApplication",
                "name": "emgen",
                "softwareVersion": facts["emgen"],
            },
            {
                "@id": volume,
                "@type": "Dataset",
                "name": "measured volume",
                "identifier": facts["input"]["fingerprint"],
            },
            {
                "@id": prior,
                "@type": "CreativeWork",
                "name": facts["prior"]["name"],
                "identifier": f"sha256:{facts['prior']['sha256']}",
            },
            {
                "@id": "#restoration",
                "@type": "CreateAction",
                "name": f"restore {facts['config']['run']}",
                "endTime": facts["finished"],
                "instrument": {"@id": "#emgen"},
                "object": [{"@id": volume}, {"@id": prior}],
                "result": [{"@id": path} for path in results],
            },
            *files,
        ],
    }


def write(plan: Plan, jobs: dict[str, Any], run: Path, qc: Qc) -> None:
    """Write `provenance/run.json` and `ro-crate-metadata.json` of a run's folder, which is the crate's root.

    A copy of the crate lies beside run.json, where versions before 0.2 wrote it.
    """
    results = {
        "restored.ome.zarr/": "restored volume, OME-Zarr",
        "qc/summary.json": "quality figures",
        "report.html": "report",
        "provenance/run.json": "settings, versions and keys",
    }
    if plan.several_samples:
        results["uncertainty.ome.zarr/"] = (
            "standard deviation over samples in grey values, OME-Zarr"
        )
    if plan.marks_tissue:
        results[f"{TISSUE}/"] = (
            "0 no tissue, 1 measured, 2 inferred in a hole of the tissue, OME-Zarr"
        )
    facts = run_facts(plan, jobs, qc)
    facts["output"]["checksums"] = checksums(Results(plan, run))
    text = json.dumps(crate(facts, results), indent=2) + "\n"
    (run / "provenance" / "run.json").write_text(json.dumps(facts, indent=2) + "\n")
    for folder in (run, run / "provenance"):
        (folder / "ro-crate-metadata.json").write_text(text)


def checksums(results: Results) -> dict[str, str]:
    """Of each output, a digest of the CRC-32C of all files of its finest level, by number of their write unit."""
    return {
        path.name: digest([e.checksums for e in results.ledgers.level(path, 0).read().values()])
        for path in results.volumes
    }


def _installed(name: str) -> bool:
    try:
        importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def _commit() -> str | None:
    """The checkout's commit, with -dirty where it was changed; None outside a checkout."""
    here = Path(__file__).parent
    try:
        done = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40"],
            cwd=here,
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
