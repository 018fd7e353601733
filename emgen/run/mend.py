"""How a run begins, and what a later start puts right before any rule runs.

A plan or an empty output that was lost after it had been made would make Snakemake run every job again. So it is made
here, from the settings and the input, and compared with what the output says of itself; jobs that are done stay done.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from emgen.run.facts import read_facts
from emgen.run.metadata import damaged_metadata, mend_metadata
from emgen.run.output import TISSUE, create_output, stored_plan
from emgen.run.plan import PLAN_FILE, PLANNED_FILE, Plan, make, without_qc
from emgen.run.resolve import RunSpec
from emgen.run.results import Results
from emgen.run.verify import Examination, put_right
from emgen.run.whole_file import write_whole


def begin(plan: Plan, spec: RunSpec, run: Path) -> None:
    """Write what all jobs of a run need: the empty outputs, then plan.json, then planned.json, which says so.

    Stopped at any moment, it is begun again by the next start. What is there already stays.

    Raises:
        EmgenError: an output is there that was made from something else.
    """
    create_output(plan, spec, run / "restored.ome.zarr")
    if plan.several_samples:
        create_output(plan, spec, run / "uncertainty.ome.zarr", np.float32)
    if plan.marks_tissue:
        create_output(plan, spec, run / TISSUE, np.uint8, label=True)
    plan.write(run / PLAN_FILE)
    facts = {"key": plan.key, "blocks": len(plan.grid), "jobs": plan.grid.jobs}
    write_whole(run / PLANNED_FILE, json.dumps(facts, indent=2) + "\n")


def mend(spec: RunSpec, run: Path) -> list[str]:
    """Put right what a start finds lost of a run that was planned before.

    - plan.json is missing or damaged: it is made again.
    - The blocks are divided into other jobs now: plan.json says so. Jobs and plan must agree before any job starts.
    - An output is gone: it is made again, empty, and the marks of what had been written to it are taken away, so that
      it is stitched again.
    - Metadata of an output are damaged: they are written anew.
    - Results are damaged: they are marked, and their jobs run again.

    A run that was never planned, or cannot be without what other rules make, is left to the rule `plan`.

    Args:
        spec: what the metadata says.
        run: the run's folder; no job of it is at work.

    Returns:
        What was damaged, each in words.

    Raises:
        EmgenError: an output is there that was made from something else.
    """
    former, marked = stored_plan(run), run / PLANNED_FILE
    said = mend_metadata(damaged_metadata(former, spec, run)) if former else []
    outputs = [run / "restored.ome.zarr"]
    if spec.config.restore.samples > 1:
        outputs.append(run / "uncertainty.ome.zarr")
    there = [path.exists() for path in outputs]
    plan = former or (_planned_again(spec, run) if any(there) else None)
    if plan is None:
        # the plan was lost together with all that it was made for
        marked.unlink(missing_ok=True)
        return said
    if plan.marks_tissue:
        there.append((run / TISSUE).exists())
    if not all(there):
        for mark in (
            run / "restored.json",
            *run.glob("stitch/*.json"),
            *run.glob("pyramid/*.json"),
        ):
            mark.unlink(missing_ok=True)
    now = replace(plan, config=without_qc(spec.config))
    if now != former or not all(there) or not marked.exists():
        begin(now, spec, run)
    return said + put_right(Results(now, run))


def damage(spec: RunSpec, run: Path) -> list[str]:
    """What `mend` would find damaged, each in words; nothing is changed."""
    plan = stored_plan(run)
    if plan is None:
        return []
    metadata = [f"{path} is damaged" for path in damaged_metadata(plan, spec, run)]
    return metadata + Examination.of(Results(plan, run)).damage


def _planned_again(spec: RunSpec, run: Path) -> Plan | None:
    """The plan, made from the settings and the input; None where other rules have to run before."""
    adapted, psf = spec.adaptation, run / "psf.json" if spec.mode.fits_psf else None
    if psf and read_facts(psf) is None:
        psf.unlink(missing_ok=True)  # torn: fitted again
    weights = run.parent / "adapted" / adapted / f"{adapted}.safetensors" if adapted else None
    if any(path and not path.exists() for path in (weights, psf)):
        return None
    return make(spec, weights, psf)
