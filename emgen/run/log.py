"""Where the words of a script go: into its log, and its errors to the terminal as well."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from emgen.addresses import redacted
from emgen.errors import EmgenError


@contextmanager
def logged(path: str | Path) -> Iterator[None]:
    """Send everything that is printed inside, by Python or by libraries, to the file at `path`.

    An `EmgenError` ends the process with its message and without a traceback, any other exception
    with one, in the log and on the terminal; the exit status is 1.

    Raises:
        SystemExit: in place of the exception.
    """
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    terminal = os.dup(2)
    try:
        with (
            Path(path).open("w", buffering=1) as log,
            _descriptors_to(log.fileno()),
            redirect_stdout(log),
            redirect_stderr(log),
        ):
            yield
    except EmgenError as error:
        _say(f"error: {error}\n", path, terminal)
        raise SystemExit(1) from None
    except Exception:
        _say(redacted(traceback.format_exc()), path, terminal)
        raise SystemExit(1) from None
    finally:
        os.close(terminal)


@contextmanager
def _descriptors_to(target: int) -> Iterator[None]:
    """What C libraries and child processes print does not pass through `sys.stdout`."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = [(number, os.dup(number)) for number in (1, 2)]
    try:
        for number, _ in saved:
            os.dup2(target, number)
        yield
    finally:
        for number, before in saved:
            os.dup2(before, number)
            os.close(before)


def _say(text: str, path: str | Path, terminal: int) -> None:
    with Path(path).open("a") as log:
        log.write(text)
    os.write(terminal, text.encode())
