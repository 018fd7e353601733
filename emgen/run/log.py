"""Where the words of a script go: into its log, and its errors to the terminal as well."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NoReturn

from emgen.addresses import redacted
from emgen.errors import EmgenError
from emgen.run.signals import before_the_end


@contextmanager
def logged(path: str | Path) -> Iterator[Callable[[str], None]]:
    """Send everything that is printed inside, by Python or by libraries, to the file at `path`.

    Yields a function that says a line there and on the terminal. SIGINT and SIGTERM end the process at once: whatever a
    job has finished lies on the disk, and what it was at would only keep the user waiting.

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
            before_the_end(_ended(log.fileno())),
        ):
            yield lambda text: _say(f"{text}\n", path, terminal)
    except EmgenError as error:
        _say(f"error: {error}\n", path, terminal)
        raise SystemExit(1) from None
    except Exception:
        _say(redacted(traceback.format_exc()), path, terminal)
        raise SystemExit(1) from None
    finally:
        os.close(terminal)


def _ended(log: int) -> Callable[[signal.Signals], NoReturn]:
    """What ends the process at a signal, without a wait for the threads that compute."""

    def end(number: signal.Signals) -> NoReturn:
        os.write(log, f"stopped by {number.name}\n".encode())
        os._exit(128 + number)

    return end


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
