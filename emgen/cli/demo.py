"""`emgen demo`: restore the FIB-SEM crop that comes with emgen, in the folder where the user stands."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from emgen.cli import run as run_command
from emgen.cli import workflow

if TYPE_CHECKING:
    from emgen.cli import Commands


def add(commands: Commands) -> None:
    """Declare `emgen demo`."""
    parser = commands.add_parser(
        "demo",
        help="restore the FIB-SEM crop that comes with emgen",
        description=(
            "Restore a FIB-SEM crop of which every sixth section was kept, and compare it with the whole: some minutes on "
            "two cores. Everything lands under results/demo/ in the folder where you stand, the settings among it."
        ),
    )
    parser.add_argument(
        "options",
        nargs=argparse.REMAINDER,
        metavar="...",
        help="any option of Snakemake, such as --cores 8",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the workflow on the demo's settings."""
    return run_command.restore(settings(), args.options)


def settings() -> Path:
    """The file with the demo's settings: the shipped one at a checkout's root, elsewhere a copy with whole paths."""
    root = workflow.folder()
    shipped = root / "config" / "demo.yaml"
    if Path.cwd() == root:
        return shipped
    facts = yaml.safe_load(shipped.read_text())
    for section, key in (("input", "volume"), ("qc", "reference"), ("qc", "labels")):
        facts[section][key] = str(root / facts[section][key])
    path = Path("results", str(facts["run"]), "demo.yaml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(facts, sort_keys=False))
    return path
