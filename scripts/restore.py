"""Restore the blocks of one job, as far as an earlier start did not."""

import json
import os
import resource
import socket
import time
from pathlib import Path

from emgen.run.claim import claimed_device
from emgen.run.job import restore_job
from emgen.run.lease import working_alone
from emgen.run.plan import Plan

with working_alone(snakemake.log[0], snakemake.output.facts), claimed_device() as device:
    begun = time.monotonic()
    plan = Plan.of(Path(snakemake.input.plan).parent)
    print(f"on {socket.gethostname()}, device {device}, {snakemake.threads} threads", flush=True)

    def log(text: str) -> None:
        print(f"{time.monotonic() - begun:8.1f} s  {text}", flush=True)

    facts = restore_job(
        plan,
        int(snakemake.wildcards.job),
        Path(snakemake.input.plan).parent,
        device,
        snakemake.threads,
        log,
    )
    facts |= {
        "key": plan.key,
        "seconds": round(time.monotonic() - begun, 2),
        "device": device,
        "host": socket.gethostname(),
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
        "peak_memory_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    Path(snakemake.output.facts).write_text(json.dumps(facts, indent=2) + "\n")
