"""Snakemake as a process of its own: where the workflow lies, the words that start it, and how it ends."""

from __future__ import annotations

import codecs
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Thread
from types import FrameType
from typing import IO, TextIO

import emgen
from emgen.errors import EmgenError

# the settings were checked in one file: nothing else may give them
SETTINGS = ("--config", "-C", "--configfile", "--configfiles")
# without any of these, and without a profile that may hold them, all cores of this machine are used
LIMITS = ("--cores", "-c", "--jobs", "-j", "--profile", "--executor", "-e")
STOPS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LOOKS_EVERY_S = 0.1
KILLED_AFTER_S = 60
"""Without an end after the first signal: cancelling many jobs of a cluster takes its time."""
LAST_WORDS_S = 2
"""For what was printed before the end; a process that outlives Snakemake may hold the pipe open for longer."""


def folder() -> Path:
    """Where the Snakefile lies: in the installed package, or at the root of a checkout.

    Raises:
        EmgenError: in neither.
    """
    package = Path(emgen.__file__).parent
    for place in (package / "workflow", package.parent):
        if (place / "Snakefile").is_file():
            return place
    raise EmgenError(
        f"expected the workflow's Snakefile in {package / 'workflow'} or {package.parent} and found it in neither; "
        "install emgen anew"
    )


def command(settings: Path, options: Sequence[str]) -> list[str]:
    """What starts Snakemake.

    Args:
        settings: the file with the run's settings.
        options: the user's, as Snakemake knows them; they come last.

    Raises:
        EmgenError: an option would change the settings.
    """
    for option in SETTINGS:
        if is_given(options, option):
            raise EmgenError(
                f"`emgen run` takes its settings from {settings} alone, so {option} cannot be given; change the file"
            )
    limited = "SNAKEMAKE_PROFILE" in os.environ or any(is_given(options, name) for name in LIMITS)
    return [
        *(sys.executable, "-m", "snakemake"),
        *(() if is_given(options, "--quiet", "-q") else ("--quiet", "host", "reason")),
        *("--configfile", str(settings)),
        # the run has a lock of its own (emgen.run.head), which a killed head does not leave behind
        *("--nolock", "--rerun-incomplete"),
        *(() if limited else ("--cores", "all")),
        # an option with exactly one value parts those before it from targets among the user's words
        *("--snakefile", str(folder() / "Snakefile")),
        *_with_shipped_profiles(options),
    ]


def is_given(options: Sequence[str], *names: str) -> bool:
    """Whether one of these options is among the words, as `--name`, `--name=value` or `-nvalue`."""
    return any(
        word == name
        or word.startswith(f"{name}=")
        or (len(name) == 2 and word.startswith(name) and not word.startswith("--"))
        for word in options
        for name in names
    )


def take(options: Sequence[str], *names: str) -> tuple[str | None, list[str]]:
    """The value of an option (the last one given, None without any), and the words without it."""
    value, rest, words = None, [], iter(options)
    for word in words:
        name, separator, after = word.partition("=")
        if name not in names:
            rest.append(word)
        elif (value := after if separator else next(words, None)) is None:
            raise EmgenError(f"{name} needs a value")
    return value, rest


def run(words: Sequence[str], place: Path, told: Mapping[str, str] | None = None) -> int:
    """Start Snakemake in a folder and wait for it; its exit code, or 128 and the number of the signal that stopped it.

    It has a group of processes of its own: Ctrl-C and SIGTERM reach this process alone, which interrupts Snakemake and
    its jobs, and lets nothing through that they print from then on. A second signal, or half a minute, kills them.

    Args:
        words: the command.
        place: the folder.
        told: variables for its environment.
    """
    signals: list[int] = []
    with (
        _heard(signals),
        subprocess.Popen(
            words,
            cwd=place,
            env={**os.environ, **(told or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            process_group=0,
        ) as process,
    ):
        pairs = ((process.stdout, sys.stdout), (process.stderr, sys.stderr))
        shown = [_shown(source, target, signals) for source, target in pairs if source]
        _wait(process, signals)
        for thread in shown:
            thread.join(LAST_WORDS_S)
    return 128 + signals[0] if signals else process.returncode


@contextmanager
def _heard(signals: list[int]) -> Iterator[None]:
    """Note the signals that ask for an end. One that is ignored, as under nohup, stays so, but not for Snakemake."""

    def hear(number: int, frame: FrameType | None) -> None:
        signals.append(number)

    def ignore(number: int, frame: FrameType | None) -> None:
        # unlike SIG_IGN this is not handed on to the processes that are started
        return

    former = {number: signal.getsignal(number) for number in STOPS}
    try:
        for number, before in former.items():
            signal.signal(number, ignore if before is signal.SIG_IGN else hear)
        yield
    finally:
        for number, before in former.items():
            signal.signal(number, before)


def _shown(source: IO[bytes], target: TextIO, signals: Sequence[int]) -> Thread:
    """Print what Snakemake prints, until a signal asked for an end."""

    def show() -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while piece := os.read(source.fileno(), 1 << 16):
            if not signals:
                with suppress(OSError, ValueError):  # nobody may be reading any more
                    target.write(decoder.decode(piece))
                    target.flush()

    thread = Thread(target=show, daemon=True)
    thread.start()
    return thread


def _wait(process: subprocess.Popen[bytes], signals: Sequence[int]) -> None:
    """Wait for Snakemake; interrupt it and its jobs at the first signal, and kill them where that does not help."""
    interrupted = 0.0
    while True:
        try:
            process.wait(LOOKS_EVERY_S)
            break
        except subprocess.TimeoutExpired:
            pass
        if signals and not interrupted:
            interrupted, heard = time.monotonic(), len(signals)
            _send(process, signal.SIGINT)
        elif signals:
            since = time.monotonic() - interrupted
            # a terminal and a wrapper may both send the first one
            if since > KILLED_AFTER_S or (since > 1 and len(signals) > heard):
                _send(process, signal.SIGKILL)
    if signals or process.returncode < 0:
        # jobs of a head that was killed: they would go on without one
        _send(process, signal.SIGKILL if signals else signal.SIGINT)


def _send(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _with_shipped_profiles(options: Sequence[str]) -> Iterator[str]:
    """The words, with the folder in place of the name of a profile that emgen ships."""
    before = ""
    for word in options:
        option, separator, name = word.partition("=")
        if before == "--profile":
            yield _profile(word)
        elif option == "--profile" and separator:
            yield f"--profile={_profile(name)}"
        else:
            yield word
        before = word


def _profile(name: str) -> str:
    """A profile of the user's own goes before the one of that name that emgen ships."""
    own = Path(os.environ.get("XDG_CONFIG_HOME", Path.home() / ".config")) / "snakemake" / name
    shipped = folder() / "profiles" / Path(name).name
    return (
        str(shipped) if shipped.is_dir() and not Path(name).exists() and not own.exists() else name
    )
