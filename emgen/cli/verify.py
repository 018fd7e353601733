"""`emgen verify`: read everything that a run wrote, and say whether it is still what was written.

Exit codes: 0 sound, 1 damage was found, 2 there is no run, or it is at work.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from emgen.errors import EmgenError

if TYPE_CHECKING:
    from emgen.cli import Commands

SOUND, DAMAGED = 0, 1


def add(commands: Commands) -> None:
    """Declare `emgen verify`."""
    parser = commands.add_parser(
        "verify",
        help="read everything that a run wrote, and find what is damaged",
        description=(
            "Read all block results, the restored volume with its pyramid and the facts of a run, and compare their checksums "
            "with those that were noted when they were written. What is damaged is marked: start the run again, and it is "
            "made anew, and nothing else. A start looks at size and time of files by itself; this finds also what rotted "
            "on the disk."
        ),
        epilog="exit codes: 0 sound; 1 damage was found; 2 there is no run, or it is at work",
    )
    parser.add_argument(
        "folder", type=Path, metavar="RUN", help="the run's folder, such as results/my-volume"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Verify a run."""
    return verify(args.folder)


def verify(folder: Path) -> int:
    """Print what of a run is sound and what is damaged, and mark it; the exit code.

    Args:
        folder: of the run.

    Raises:
        EmgenError: there is no run, or it is at work.
    """
    from emgen.run.head import refuse_second_head
    from emgen.run.metadata import damaged_metadata
    from emgen.run.plan import Plan
    from emgen.run.resolve import resolve
    from emgen.run.results import Results
    from emgen.run.verify import Examination

    plan = Plan.of(folder)
    refuse_second_head(folder)
    examination = Examination.of(Results(plan, folder), thorough=True)
    examination.note(by="verify")
    for each in examination:
        failed = f", {len(each.damage)} damaged" if each.damage else ""
        print(f"{each.name}: {len(each.sound)} of {each.count} done and sound{failed}")
    if examination.blocks is None:
        print("blocks: removed; nothing needs them")
    found = examination.damage
    try:
        spec = resolve(plan.config)
    except EmgenError as error:
        print(f"metadata: read, but not compared with what they must be ({error})")
    else:
        found += [f"{path} is damaged" for path in damaged_metadata(plan, spec, folder)]
    for words in found:
        print(f"damaged: {words}")
    if not found:
        print(f"{folder} is sound")
        return SOUND
    print("Start the run again: what is damaged is made anew, and nothing else.")
    return DAMAGED
