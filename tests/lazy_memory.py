"""Restores 134 MB lazily, with a stand-in for the networks; prints how many MB the process held for it at most."""

import threading
from pathlib import Path

import dask.array as da
import numpy as np
from test_arrays import repeated

from emgen.arrays import isotropic
from emgen.run.restore import Restorer

MOST, DONE = [0], threading.Event()


def resident() -> int:
    """MB of memory that the process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 // 10**6


def watch() -> None:
    while not DONE.wait(0.005):
        MOST[0] = max(MOST[0], resident())


Restorer.block = repeated
rng = da.random.RandomState(0)
volume = rng.randint(0, 60_000, (512, 256, 256), dtype=np.uint16, chunks=(32, 256, 256))
lazy = isotropic(volume, 2, block=(64, 64, 64), halo=(8, 8, 8))
lazy.mean[:64, :64, :64].compute(
    scheduler="synchronous"
)  # what is imported, and the allocator's pools, do not count
before = resident()
threading.Thread(target=watch).start()
lazy.mean.sum(dtype=np.int64).compute(scheduler="synchronous")
DONE.set()
print(MOST[0] - before)
