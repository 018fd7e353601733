"""Snakemake as a process of its own: where the workflow lies, the words that start it, and how it ends."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import emgen
from emgen.errors import EmgenError

# the settings were checked in one file: nothing else may give them
SETTINGS = ("--config", "-C", "--configfile", "--configfiles")
# without any of these, and without a profile that may hold them, all cores of this machine are used
LIMITS = ("--cores", "-c", "--jobs", "-j", "--profile", "--executor", "-e")


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


def run(words: Sequence[str], place: Path) -> int:
    """Start Snakemake in a folder and wait for it; its exit code.

    Ctrl-C reaches Snakemake too, which ends its jobs and takes its lock away; SIGTERM is handed on to it.

    Raises:
        KeyboardInterrupt: after Snakemake has ended.
    """
    interrupted = False
    with subprocess.Popen(words, cwd=place) as process:
        while process.returncode is None:
            try:
                process.wait()
            except KeyboardInterrupt:
                interrupted = True
            except SystemExit:
                process.terminate()
                process.wait()
                raise
    if interrupted:
        raise KeyboardInterrupt
    return process.returncode


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
