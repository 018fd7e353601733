"""`emgen run`: restore a volume by a file of settings, from any folder, and say whether to use the result.

Exit codes: 0 done, 1 stopped by a fault, 2 bad input or settings and nothing done, 3 done with the verdict `fail`, 130
stopped by Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path
from typing import TYPE_CHECKING

from emgen.cli import workflow
from emgen.errors import EmgenError, sayable
from emgen.run.head import leading, refuse_second_head

if TYPE_CHECKING:
    from emgen.cli import Commands
    from emgen.run.resolve import RunSpec

OK, FAULT, BAD_SETTINGS, FAILED_VERDICT = 0, 1, 2, 3
STOPPED = 128
"""And the number of the signal."""
# options of Snakemake that start no job: there is no result to judge after them
LOOKS = (
    *("--dry-run", "--dryrun", "-n", "--lint", "--unlock", "--dag", "--rulegraph", "--filegraph"),
    *("--d3dag", "--summary", "-S", "--detailed-summary", "-D", "--list-changes", "--report"),
    *("--list-rules", "--list", "-l", "--list-target-rules", "--help", "-h", "--version", "-v"),
)


def add(commands: Commands) -> None:
    """Declare `emgen run`."""
    parser = commands.add_parser(
        "run",
        help="restore a volume by a file of settings",
        description=(
            "Restore the volume that the settings name, measure the result and say whether to use it. Everything lands "
            "under results/<run>/ in the folder where you stand. Started again, it goes on where it stopped."
        ),
        epilog=(
            "exit codes: 0 done; 1 stopped by a fault; 2 bad input or settings, nothing done; 3 done, and the verdict is "
            "`fail`"
        ),
    )
    parser.add_argument("settings", type=Path, help="YAML file, such as my.yaml; it comes first")
    parser.add_argument(
        "options",
        nargs=argparse.REMAINDER,
        metavar="...",
        help="any option of Snakemake, such as --cores 8, --profile slurm or --dry-run",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run the workflow on the settings of a file."""
    return restore(args.settings, args.options)


def restore(settings: Path, options: Sequence[str]) -> int:
    """Check the settings and the input, start Snakemake, and print the verdict; the exit code.

    Args:
        settings: YAML file.
        options: of Snakemake.

    Raises:
        EmgenError: bad input or settings; nothing was done.
    """
    from emgen.run.standing import on_disk, stopped

    settings = settings.absolute()
    given, options = workflow.take(options, "--directory", "-d")
    place = Path(given or ".")
    words = workflow.command(settings, options)
    if not place.is_dir():
        raise EmgenError(f"--directory: expected a folder; there is none at {place}")
    with chdir(place):
        looks = workflow.is_given(options, *LOOKS)
        run = checked(settings, look=not looks)
    if looks:
        return fault(workflow.run(words, place))
    with leading(place / run) as told:
        code = workflow.run(words, place, told)
    if code > STOPPED:
        print(f"emgen: stopped: {stopped(place / run)}", file=sys.stderr)
        return code
    if code:
        if code != BAD_SETTINGS:
            print(f"emgen: ended by a fault: {stopped(place / run)}", file=sys.stderr)
            print(on_disk(place / run, finished=False), file=sys.stderr)
        return fault(code)
    print(on_disk(place / run, finished=True))
    return verdict(place / run)


def fault(code: int) -> int:
    """The exit code for one of Snakemake's."""
    return code if code in (OK, BAD_SETTINGS) or code > STOPPED else FAULT


def checked(path: Path, look: bool = True) -> Path:
    """The folder of the run whose settings are in this file, after everything that can be known before any work.

    The file is read as plain values (`emgen.config.plain`). Snakemake would go on to run the code that a file with the
    key `__use_yte__` may hold; such a file is refused.

    Args:
        path: YAML file.
        look: whether to look at the input's voxels as well.

    Raises:
        EmgenError: the file, the settings or the input cannot be used, or the run has a result made otherwise.
    """
    from emgen.config.run import load
    from emgen.run.output import refuse_other_settings
    from emgen.run.resolve import resolve
    from emgen.volumes.inputs import chunk_note, refuse_broken_reference

    config = load(path)
    folder = Path("results") / config.run
    if look:
        refuse_second_head(folder)
    spec = resolve(config)
    refuse_other_settings(spec, folder)
    refuse_broken_reference(config.qc.reference, config.input)
    note = chunk_note(spec.measured, config.input)
    if note:
        print(sayable(note), flush=True)
    if look:
        _inspect(spec)
    return folder


def _inspect(spec: RunSpec) -> None:
    """Refuse input that a look at its voxels speaks against, and print what is worth a warning."""
    from emgen.run.inspection import asked, inspect, refuse
    from emgen.run.inspection.finding import Inspection

    before = Path("results") / spec.config.run / "qc" / "inspect.json"
    try:
        if Inspection.read(before).asked == asked(spec.config):
            return  # of an earlier start of this run
    except EmgenError:
        pass  # there is none, or one of another version
    found = inspect(spec.measured, spec.config)
    refuse(found)
    for finding in found.of("warn"):
        print(sayable(f"Input: {finding.sentence} {finding.what_to_do}"), flush=True)


def verdict(folder: Path) -> int:
    """Print whether to use the result in a run's folder; the exit code. Nothing where there is no summary yet."""
    summary, report = folder / "qc" / "summary.json", folder / "report.html"
    if not summary.exists():
        return OK
    facts = json.loads(summary.read_text())
    sentence = facts.get("sentence") or "The report says what was measured."
    print(f"Verdict: {facts['verdict']}. {sentence} ({report})", flush=True)
    return FAILED_VERDICT if facts["verdict"] == "fail" else OK
