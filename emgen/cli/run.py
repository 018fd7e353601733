"""`emgen run`: restore a volume by a file of settings, from any folder, and say whether to use the result.

Exit codes: 0 done, 1 stopped by a fault, 2 bad input or settings and nothing done, 3 done with the verdict `fail`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path
from typing import TYPE_CHECKING

from emgen.cli import workflow
from emgen.errors import EmgenError

if TYPE_CHECKING:
    from emgen.cli import Commands
    from emgen.run.resolve import RunSpec

OK, FAULT, BAD_SETTINGS, FAILED_VERDICT = 0, 1, 2, 3
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
    settings = settings.absolute()
    given, options = workflow.take(options, "--directory", "-d")
    place = Path(given or ".")
    words = workflow.command(settings, options)
    if not place.is_dir():
        raise EmgenError(f"--directory: expected a folder; there is none at {place}")
    with chdir(place):
        name = checked(settings, look=not workflow.is_given(options, *LOOKS))
    code = workflow.run(words, place)
    if code:
        return BAD_SETTINGS if code == BAD_SETTINGS else FAULT
    return OK if workflow.is_given(options, *LOOKS) else verdict(place / "results" / name)


def checked(path: Path, look: bool = True) -> str:
    """The name of the run whose settings are in this file, after everything that can be known before any work.

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
    from emgen.volumes.inputs import chunk_note

    config = load(path)
    spec = resolve(config)
    refuse_other_settings(spec, Path("results") / config.run)
    note = chunk_note(spec.measured, config.input)
    if note:
        print(note, flush=True)
    if look:
        _inspect(spec)
    return config.run


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
        print(f"Input: {finding.sentence} {finding.what_to_do}", flush=True)


def verdict(folder: Path) -> int:
    """Print whether to use the result in a run's folder; the exit code. Nothing where there is no summary yet."""
    summary, report = folder / "qc" / "summary.json", folder / "report.html"
    if not summary.exists():
        return OK
    facts = json.loads(summary.read_text())
    sentence = facts.get("sentence") or "The report says what was measured."
    print(f"Verdict: {facts['verdict']}. {sentence} ({report})", flush=True)
    return FAILED_VERDICT if facts["verdict"] == "fail" else OK
