"""How torch computes in a process: the order of every sum is fixed, and float32 is float32."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock

import torch

from emgen.errors import EmgenError

PROCESS = RLock()
"""Held by the thread that decides how torch computes in this process."""


@contextmanager
def fixed_arithmetic(precision: str = "auto") -> Iterator[None]:
    """One thread for every operation inside, and no TF32, which keeps ten bits of a number, where float32 is asked for.

    These are switches of the whole process. So this is entered by whoever owns it, before threads are started, and
    left after they have ended; what was set before is set again. A second thread that enters, as those of dask do,
    waits until the first has left. Whoever is inside must therefore not wait for such a thread.

    Args:
        precision: of the networks, `restore.precision`.
    """
    with PROCESS:
        threads, tf32 = torch.get_num_threads(), torch.backends.cudnn.allow_tf32
        torch.set_num_threads(1)
        torch.backends.cudnn.allow_tf32 = tf32 and precision != "float32"
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.backends.cudnn.allow_tf32 = tf32


def refuse_missing_device(device: str) -> None:
    """`EmgenError` unless the device is a CPU, or a CUDA device that this machine has."""
    try:
        wanted = torch.device(device)
    except RuntimeError:
        raise EmgenError(f'expected a device "cpu" or "cuda:0", found "{device}"') from None
    count = torch.cuda.device_count()
    if wanted.type == "cuda" and (wanted.index or 0) >= count:
        raise EmgenError(
            f'expected a device that is there, found no "{device}" among {count} CUDA devices; use device="cpu"'
        )
