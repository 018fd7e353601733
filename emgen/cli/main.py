"""The `emgen` command: arguments in, one command called, one clear message where it fails.

Exit codes of every command: 0 done, 1 a fault of emgen's own, 2 an error that the user can mend, 130 interrupted, 143
terminated.
`emgen run` and `emgen demo` have two more: 1 stopped by a fault, 3 done with the verdict `fail`; `emgen verify` ends
with 1 where it found damage.
"""

from __future__ import annotations

import argparse
import signal
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

from emgen import __version__
from emgen.addresses import redacted
from emgen.cli import convert, demo, import_, inspect, run, train, verify
from emgen.errors import EmgenError

COMMANDS = (run, demo, inspect, verify, import_, train, convert)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    parser = build_parser()
    args, unknown = parser.parse_known_args(words)
    # what argparse does not know before the first word that is no option belongs to Snakemake
    if unknown and "options" not in args:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    if unknown:
        args.options = [*unknown, *args.options]
    # a job that the scheduler ends cleans up behind itself too
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        return args.run(args) or 0
    except EmgenError as error:
        print(f"emgen: error: {error}", file=sys.stderr)
        return 2
    except Exception:
        # an address that was given may stand in it
        print(redacted(traceback.format_exc()), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("emgen: interrupted", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="emgen", description="Restoration of volume electron microscopy."
    )
    parser.add_argument("--version", action="version", version=f"emgen {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(commands)
    return parser


def _terminate(number: int, frame: Any) -> NoReturn:
    raise SystemExit(128 + number)
