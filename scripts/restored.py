"""Add up what the jobs did: blocks, empty blocks, time, memory."""

import json
from pathlib import Path

from emgen.run.log import logged
from emgen.run.plan import Plan

with logged(snakemake.log[0]):
    plan = Plan.of(Path(snakemake.input.plan).parent)
    jobs, stitched = (
        [json.loads(Path(path).read_text()) for path in paths]
        for paths in (snakemake.input.blocks, snakemake.input.stitched)
    )
    facts = {
        "key": plan.key,
        "blocks": sum(job["blocks"] for job in jobs),
        "empty": sum(job["empty"] for job in jobs),
        "jobs": len(jobs),
        "seconds": round(sum(job["seconds"] for job in jobs), 2),
        "voxels_computed": sum(job["voxels"] for job in jobs),
        "peak_memory_mb": max(job["peak_memory_mb"] for job in jobs),
        "voxels_blank": sum(job["blank"] for job in stitched),
        "voxels_inferred": sum(job["inferred"] for job in stitched),
        "devices": sorted({job["device"] for job in jobs}),
    }
    Path(snakemake.output.facts).write_text(json.dumps(facts, indent=2) + "\n")
