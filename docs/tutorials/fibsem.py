"""FIB-SEM whose sections were cut too thick, brought to the in-plane resolution.

python docs/tutorials/fibsem.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from pictures import psnr, side_by_side, table

from emgen import isotropic
from emgen.geometry import Box
from emgen.volumes.volume import Volume

HERE = Path(__file__).parent
DEMO = HERE.parent.parent / "demo"


def main(pictures: Path = HERE / "images") -> dict[str, float]:
    """Restore a corner of the demo, draw it, and return PSNR in dB over the sections between measured ones."""
    # --8<-- [start:read]
    # Every 6th section of a FIB-SEM volume: 16 sections of 48 nm, pixels of 8 nm.
    measured = Volume.open(DEMO / "measured.ome.zarr").read(Box((0, 0, 0), (16, 80, 96)))
    # All sections, which a user does not have: only to see how good the result is.
    truth = Volume.open(DEMO / "reference.ome.zarr").read(Box((0, 0, 0), (96, 80, 96)))
    # --8<-- [end:read]

    # --8<-- [start:restore]
    # A block face is imaged, so a measured section is a thin slice: section="slice".
    result = isotropic(measured, factor=6, section="slice", samples=4, block=(96, 80, 96))
    restored, spread = result.mean, result.std
    # --8<-- [end:restore]

    # --8<-- [start:compare]
    # What could be had without emgen: a straight line from each measured section to the next.
    z = np.arange(len(restored)) / 6
    below = np.minimum(z.astype(int), len(measured) - 2)
    share = np.minimum(z - below, 1)[:, None, None]
    linear = (1 - share) * measured[below] + share * measured[below + 1]

    # Measured section k is output section 6 k, voxel for voxel.
    assert (restored[::6] == measured).all()
    between = np.flatnonzero((np.arange(96) % 6 != 0) & (np.arange(96) < 91))
    scores = {
        "linear interpolation": psnr(linear[between], truth[between]),
        "emgen, mean of 4": psnr(restored[between], truth[between]),
    }
    # How often the truth lies within one standard deviation; 0.61 of the voxels is right for four samples.
    off = np.abs(restored[between].astype(float) - truth[between])
    scores["truth within one deviation (0.61)"] = float((off <= spread[between]).mean())
    # --8<-- [end:compare]

    row = 40
    side_by_side(
        {
            "input, every 6th section": measured[:, row].repeat(6, axis=0),
            "linear interpolation": linear[:, row].round().astype("u1"),
            "emgen, mean of 4 samples": restored[:, row],
            "what was really there": truth[:, row],
            "spread of the samples (white: unsure)": spread[:, row],
            "error of the mean (white: wrong)": np.abs(
                restored[:, row].astype(float) - truth[:, row]
            ),
        },
        pictures / "fibsem.png",
    )
    table(scores, pictures / "fibsem.txt")
    return scores


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
