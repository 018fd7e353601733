"""Small files that are there whole or not at all, whenever the process or the machine stops."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from emgen.errors import EmgenError


def write_whole(path: str | Path, text: str) -> None:
    """Write a text file so that readers see the former one or the new one, and never a part.

    The text goes to a file beside it, onto the disk, and then takes the name.

    Args:
        path: the file; its folder is made where there is none.
        text: all of it.

    Raises:
        EmgenError: a folder has the file's name.
        OSError: it cannot be written; a former file is as it was.
    """
    target = Path(path)
    if target.is_dir():
        raise EmgenError(f"{target}: expected a file, found a folder; move it away and run again")
    target.parent.mkdir(parents=True, exist_ok=True)
    number, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    beside = Path(name)
    try:
        with os.fdopen(number, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp lets nobody else read; a file of the run has the rights that any new file has
        beside.chmod(0o666 & ~_umask())
        beside.replace(target)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _umask() -> int:
    """Rights that new files do not get. Linux says so without a change for all threads of the process."""
    try:
        status = Path("/proc/self/status").read_text()
        return int(status.split("Umask:")[1].split()[0], 8)
    except (OSError, IndexError, ValueError):
        return 0o022


def _sync_folder(folder: Path) -> None:
    """Bring the new name onto the disk, where the file system can."""
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    except OSError:
        pass  # some network file systems sync files only
    finally:
        os.close(number)
