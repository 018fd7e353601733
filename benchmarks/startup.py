"""CPU seconds from the start of a process to its first block restored: what every restore job pays before it is of use.

    python benchmarks/startup.py [--runs 5] [--against CHECKOUT]

Each run is a process of its own that restores one block of 16 x 16 x 16 voxels with the shipped networks, one worker.
With another checkout of emgen, runs of both are interleaved, so that what else the machine does falls on both alike.
Writes startup.md beside this file.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parent
FIRST_BLOCK = """
import numpy as np
from emgen.arrays import isotropic
isotropic(np.random.default_rng(0).integers(0, 255, (4, 16, 16)).astype(np.uint8), 4, workers=1)
"""
LOADED = (
    "import sys; print(*(n for n in ('diffusers', 'accelerate', 'matplotlib') if n in sys.modules))"
)


def seconds(checkout: Path) -> tuple[float, str]:
    """CPU seconds of one process, user and system, and which heavy libraries it had imported."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", FIRST_BLOCK + LOADED],
        env={**os.environ, "PYTHONPATH": str(checkout), "OMP_NUM_THREADS": "1"},
        cwd=checkout,
        capture_output=True,
        text=True,
        check=True,
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return spent, done.stdout.strip() or "none"


def commit(checkout: Path) -> str:
    command = ["git", "describe", "--always", "--dirty"]
    done = subprocess.run(command, cwd=checkout, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5, help="of each checkout")
    parser.add_argument("--against", type=Path, help="another checkout of emgen")
    args = parser.parse_args()
    checkouts = [*([args.against.resolve()] if args.against else []), ROOT]
    for checkout in checkouts:  # the first run reads files that the next find in memory
        seconds(checkout)
    runs = [(checkout, *seconds(checkout)) for _ in range(args.runs) for checkout in checkouts]
    lines = [
        "# From the start of a process to its first block",
        "",
        f"CPU seconds of {args.runs} runs each, interleaved, one thread, other programs beside it; made by",
        "`python benchmarks/startup.py`.",
        "",
        "| commit | least | median | most | of diffusers, accelerate, matplotlib it imports |",
        "|---|---|---|---|---|",
    ]
    for checkout in checkouts:
        spent = [value for where, value, _ in runs if where == checkout]
        (loaded,) = {names for where, _, names in runs if where == checkout}
        figures = " | ".join(f"{f(spent):.1f}" for f in (min, statistics.median, max))
        lines.append(f"| {commit(checkout)} | {figures} | {loaded} |")
    (HERE / "startup.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
