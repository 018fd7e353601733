"""One head a run: the process that starts the jobs of a run. A second one would start the same jobs again.

`emgen run` holds the lease of the run (results/<run>/running.lease) and gives it on to the Snakemake that it starts, which
is told the token. Snakemake started without emgen takes the lease by itself. Whatever way a head ends, the next start
knows at once on this machine, and after some minutes on another one.
"""

from __future__ import annotations

import atexit
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from emgen.errors import EmgenError
from emgen.run.lease import DEAD_AFTER_S, Holder, Lease, started

LEASE_FILE = "running.lease"
TOLD = "EMGEN_HEAD"
"""Environment variable with which `emgen run` tells its Snakemake the token of the lease and its own process number."""
ENDS_WITHIN_S = 30
"""A Snakemake whose `emgen run` was killed ends its jobs and itself meanwhile."""
LOOKS_FOR_PARENT_EVERY_S = 0.5
JOBS_END_WITHIN_S = 10


def second_head(run: Path) -> Holder | None:
    """The living head of a run that is not this process nor what it was started by."""
    holder = Lease(run / LEASE_FILE).living()
    return holder if holder and holder.token != _told()[0] else None


def refuse_second_head(run: Path) -> None:
    """`EmgenError` where a living head works on a run, before anything takes time; `leading` has the last word."""
    holder = second_head(run)
    if holder and not _is_ending(holder):
        raise EmgenError(_refusal(run, Lease(run / LEASE_FILE), holder))


@contextmanager
def leading(run: Path) -> Iterator[dict[str, str]]:
    """Hold the lease of a run; yields the environment that its Snakemake is to be told.

    Args:
        run: its folder, made if there is none; one that stays empty is taken away.

    Raises:
        EmgenError: another head is alive, or nothing can be written there.
    """
    lease = Lease(run / LEASE_FILE)
    folders = [folder for folder in (run, run.parent) if not folder.exists()]
    try:
        _take(lease, run)
        # who has it meanwhile is the Snakemake that was told, or nobody: there is nothing to do if it is lost
        lease.keep(lambda: None)
        yield {TOLD: f"{lease.mine.token} {os.getpid()}"}
    finally:
        lease.give_back()
        with suppress(OSError):
            for folder in folders:
                folder.rmdir()


def lead(run: Path) -> None:
    """For Snakemake, before its first job: become the head of a run until this process ends.

    Started by `emgen run`, it takes on its lease, and ends with all its jobs if that process is killed.

    Raises:
        EmgenError: another head is alive, or `emgen run` has ended already.
    """
    token, parent = _told()
    lease = Lease(run / LEASE_FILE)
    if not token:
        _take(lease, run)
    elif os.getppid() != parent or (holder := lease.holder()) is None or holder.token != token:
        raise EmgenError("the `emgen run` that started this has ended")
    else:
        lease = Lease(lease.path, replace(Holder.here(parent), token=token))
        lease.take_on()
        threading.Thread(target=_end_with, args=(parent,), name="parent", daemon=True).start()
    lease.keep(lambda: None)
    atexit.register(lease.give_back)


def _take(lease: Lease, run: Path) -> None:
    until = time.monotonic() + ENDS_WITHIN_S
    try:
        while holder := lease.take():
            if not _is_ending(holder) or time.monotonic() > until:
                raise EmgenError(_refusal(run, lease, holder))
            time.sleep(0.2)
    except OSError as error:
        raise EmgenError(
            f"nothing can be written to {run.absolute()} ({error.strerror or error}); results go to results/ in the "
            "folder where you stand: go to one in which you may write, or give it with --directory"
        ) from None


def _is_ending(holder: Holder) -> bool:
    """Whether it is a Snakemake whose `emgen run` was killed: it notices that within a second."""
    return holder.is_here and holder.parent > 0 and started(holder.parent) is None


def _refusal(run: Path, lease: Lease, holder: Holder) -> str:
    words = f"{run.absolute()} is being worked on by {holder}; two at once would do everything twice. Nothing was started. "
    if holder.is_here:
        return words + f"Wait for it, or end it there (kill {holder.pid})"
    return words + (
        f"Wait for it, or end it there. If that machine is gone, start again when {DEAD_AFTER_S // 60} minutes have "
        f"passed without a sign of it, or remove {lease.path.absolute()}"
    )


def _told() -> tuple[str, int]:
    """The token and the process number that `emgen run` told; empty and 0 where it did not start this process."""
    token, _, parent = os.environ.get(TOLD, "").partition(" ")
    return (token, int(parent)) if parent.isdigit() else ("", 0)


def _end_with(parent: int) -> None:
    """Interrupt this process and its jobs when the parent has ended, and kill what is left of them later."""
    while os.getppid() == parent:
        time.sleep(LOOKS_FOR_PARENT_EVERY_S)
    group = os.getpid()
    if os.getpgrp() != group:
        os.kill(group, signal.SIGINT)  # others may be in the group
        return
    os.killpg(group, signal.SIGINT)
    time.sleep(JOBS_END_WITHIN_S)
    os.killpg(group, signal.SIGKILL)
