"""Thick, noisy sections, as serial sections in a TEM or a fast SBF-SEM give: restored with the noise taken away.

python docs/tutorials/thick_sections.py
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
    """Make sections of 32 nm with noise of a FIB-SEM volume of 8 nm, restore them, and return PSNR in dB."""
    # --8<-- [start:make]
    truth = Volume.open(DEMO / "reference.ome.zarr").read(Box((0, 32, 16), (64, 128, 144)))
    # A cut section shows everything in its thickness at once: the mean of 4 sections of 8 nm.
    thick = truth.reshape(16, 4, *truth.shape[1:]).mean(axis=1)
    # Noise with a standard deviation of 10 grey values; the same on every computer.
    noise = 10 * np.random.default_rng(0).standard_normal(thick.shape)
    measured = (thick + noise).round().clip(0, 255).astype("u1")
    # --8<-- [end:make]

    # --8<-- [start:restore]
    block = {"block": (64, 96, 128)}
    kept = isotropic(measured, factor=4, section="mean", **block).mean
    restored = isotropic(measured, factor=4, section="mean", noise=10, **block).mean
    wrong = isotropic(measured, factor=4, section="slice", noise=10, **block).mean
    # --8<-- [end:restore]

    # --8<-- [start:compare]
    # The middle of measured section k lies at output section 4 k + 1.5.
    z = ((np.arange(len(truth)) - 1.5) / 4).clip(0, len(measured) - 1)
    below = np.minimum(z.astype(int), len(measured) - 2)
    share = (z - below)[:, None, None]
    linear = (1 - share) * measured[below] + share * measured[below + 1]
    scores = {
        "linear interpolation": psnr(linear, truth),
        "emgen, noise not given": psnr(kept, truth),
        "emgen, section: mean, noise: 10": psnr(restored, truth),
        "emgen, section: slice, noise: 10": psnr(wrong, truth),
    }
    # What can be checked without a truth: the result, averaged again, differs from the input by the noise.
    again = restored.reshape(16, 4, *truth.shape[1:]).mean(axis=1)
    scores["measured again, rms difference (grey)"] = float((again - measured).std())
    # --8<-- [end:compare]

    row = 40
    side_by_side(
        {
            "input: 32 nm sections, noise 10": measured[:, row].repeat(4, axis=0),
            "linear interpolation": linear[:, row].round().clip(0, 255).astype("u1"),
            "emgen, noise: 10": restored[:, row],
            "what was really there": truth[:, row],
        },
        pictures / "thick_sections.png",
    )
    table(scores, pictures / "thick_sections.txt")
    return scores


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
