"""Fit the point spread function of the input, where nobody knows it."""

import json
from dataclasses import asdict
from pathlib import Path

from emgen.config.run import parse
from emgen.run.claim import claimed_device
from emgen.run.fit_psf import fit_psf
from emgen.run.log import logged
from emgen.run.plan import make
from emgen.run.resolve import resolve
from emgen.volumes.corrected import corrected

with logged(snakemake.log[0]), claimed_device() as device:
    spec = resolve(parse({"run": "psf", **snakemake.params.settings}))
    plan = make(spec)
    ellipse = fit_psf(plan, corrected(spec.measured, plan.corrections), device)
    facts = {"input": plan.fingerprint, **asdict(ellipse), "kernel": ellipse.kernel}
    Path(snakemake.output.psf).write_text(json.dumps(facts) + "\n")
    print(
        f"sigma {ellipse.sigma[0]:.2f} and {ellipse.sigma[1]:.2f} pixels, turned by {ellipse.angle:.0f} degrees"
    )
