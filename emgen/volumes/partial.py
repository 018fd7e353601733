"""Hidden folders in which a volume is made until it is whole, and what a process that was killed left of them.

    a.ome.zarr  <-  .a.ome.zarr.x7f3k2.partial/a.ome.zarr

Whoever works in one holds a lock on it. A folder that nobody holds is of a process that ended without a word.
"""

from __future__ import annotations

import fcntl
import glob
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

SUFFIX = ".partial"


@contextmanager
def work_folder(target: Path) -> Iterator[Path]:
    """A hidden folder beside the target, removed at the end whatever happens."""
    sweep(target)
    work, handle = _locked(target)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)
        os.close(handle)


def sweep(target: Path) -> None:
    """Remove the folders of killed processes that worked on the same target."""
    for left in target.parent.glob(f".{glob.escape(target.name)}.*{SUFFIX}"):
        # not a link that somebody put there, and nothing on disks whose locks cannot tell who is alive
        with suppress(OSError):
            handle = os.open(left, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(handle)


def _locked(target: Path) -> tuple[Path, int]:
    """A new folder, and the lock on it; a sweep of another process may take it away before it is locked."""
    while True:
        work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=SUFFIX, dir=target.parent))
        handle = os.open(work, os.O_RDONLY | os.O_DIRECTORY)
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        if work.exists():
            return work, handle
        os.close(handle)
