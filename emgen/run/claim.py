"""A GPU for one process at a time: whoever restores claims a device by a lock of its user."""

from __future__ import annotations

import fcntl
import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from emgen.errors import EmgenError


@contextmanager
def claimed_device() -> Iterator[str]:
    """A CUDA device that no other emgen process of this user on this machine uses, or "cpu" if there is none at all."""
    count = torch.cuda.device_count()
    for device in range(count):
        handle = os.open(
            _lock(device), os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
        )
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            continue
        try:
            yield f"cuda:{device}"
        finally:
            os.close(handle)
        return
    # all are taken: share the first rather than fall back to a device hundreds of times slower
    yield "cuda:0" if count else "cpu"


def _lock(device: int) -> Path:
    """The lock of a device: its name on the machine, such as MIG-GPU-1f0c/3/0, is no name of a file."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    name = visible[device].strip() if device < len(visible) else ""
    digest = hashlib.sha256((name or str(device)).encode()).hexdigest()
    return private_folder() / f"gpu-{digest[:16]}.lock"


def private_folder() -> Path:
    """The folder of this user's locks on this machine, into which nobody else can put anything.

    Raises:
        EmgenError: somebody else made one of its name.
    """
    folder = Path(tempfile.gettempdir()) / f"emgen-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        pass
    except OSError as error:
        raise EmgenError(
            f"{folder}, for locks, cannot be made: {error.strerror}; set TMPDIR to a folder of this machine that you "
            "can write to"
        ) from None
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise EmgenError(
            f"{folder}, for locks, is not a folder of yours: somebody else made it. Set TMPDIR to a folder of this "
            "machine that only you can write to"
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        folder.chmod(0o700)
    return folder
