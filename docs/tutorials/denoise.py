"""A stack that was scanned fast: noise taken away, section by section, with the help of the sections beside.

python docs/tutorials/denoise.py
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from pictures import psnr, side_by_side, table
from scipy.ndimage import gaussian_filter

from emgen import denoise
from emgen.geometry import Box
from emgen.volumes.volume import Volume

HERE = Path(__file__).parent
DEMO = HERE.parent.parent / "demo"


def main(pictures: Path = HERE / "images") -> dict[str, float]:
    """Add noise to FIB-SEM sections, take it away, and return PSNR in dB."""
    # --8<-- [start:make]
    truth = Volume.open(DEMO / "reference.ome.zarr").read(Box((40, 16, 16), (52, 144, 144)))
    # Fewer electrons for each pixel: noise that grows with brightness, and a little of the amplifier's.
    rng = np.random.default_rng(0)
    noisy = 4 * rng.poisson(truth / 4) + 3 * rng.standard_normal(truth.shape)
    noisy = noisy.round().clip(0, 255).astype("u1")
    # --8<-- [end:make]

    # --8<-- [start:restore]
    result = denoise(noisy, noise="poisson")
    one = denoise(noisy[6], noise="poisson")  # the same section without its neighbours
    # --8<-- [end:restore]

    # --8<-- [start:compare]
    # The best Gaussian filter of a range, chosen with the truth, which a user cannot do.
    filtered = {s: gaussian_filter(noisy.astype(float), (0, s, s)) for s in (0.8, 1, 1.2, 1.5, 2)}
    best = max(filtered, key=lambda s: psnr(filtered[s], truth))
    scores = {
        "noisy": psnr(noisy[6], truth[6]),
        f"Gaussian filter, {best} pixels": psnr(filtered[best][6], truth[6]),
        "emgen, this section alone": psnr(one.mean, truth[6]),
        "emgen, with its neighbours": psnr(result.mean[6], truth[6]),
    }
    # What can be checked without a truth: what was taken away should look like noise, not like cells.
    removed = noisy[6].astype(float) - result.mean[6]
    # --8<-- [end:compare]

    side_by_side(
        {
            "input": noisy[6],
            f"Gaussian filter, {best} pixels": filtered[best][6].round().clip(0, 255).astype("u1"),
            "what was taken away": removed,
            "emgen, this section alone": one.mean,
            "emgen, with its neighbours": result.mean[6],
            "before noise was added": truth[6],
        },
        pictures / "denoise.png",
        columns=3,
    )
    table(scores, pictures / "denoise.txt")
    return scores


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
