"""Fit the point spread function of the input, where nobody knows it."""

import json
from dataclasses import asdict
from pathlib import Path

from emgen.blind import measure
from emgen.config import parse
from emgen.draft import draft
from emgen.job import claimed_device
from emgen.log import logged
from emgen.plan import make

with logged(snakemake.log[0]), claimed_device() as device:
    found = draft(parse({"run": "psf", **snakemake.params.settings}))
    plan = make(found)
    ellipse = measure(plan, found.measured, device)
    facts = {"input": plan.fingerprint, **asdict(ellipse), "kernel": ellipse.kernel}
    Path(snakemake.output.psf).write_text(json.dumps(facts) + "\n")
    print(
        f"sigma {ellipse.sigma[0]:.2f} and {ellipse.sigma[1]:.2f} pixels, turned by {ellipse.angle:.0f} degrees"
    )
