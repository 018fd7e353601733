"""By how much the spread of samples falls short of their error, tried where the answer is known: within sections.

Samples that begin late, from one interpolation, share its error and are surer than they should be. But sections are
sharp in the plane: rows can be taken from them as sections are from the volume (as Weigert et al., MICCAI 2017, arXiv
1704.01510, do to train a network) and put back by the same sampler, and error and spread be compared. One number for
the run comes of that, and the spread is multiplied by it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from emgen.detector import Detector
from emgen.draft import Measured
from emgen.geometry import Box, zyx
from emgen.operators import Operator, Slice
from emgen.plan import Plan
from emgen.qc.summary import Calibration
from emgen.restore import Restorer, is_empty, operator

SIZE = 128  # pixels on a side of what is cut from sections
DEPTH = 8  # times it is repeated, to make a volume: a cell that networks fold planes into
FEWEST, MOST = 2, 16  # such crops,
SHARE = 8  # and between these no more voxels than this part of the output
TRIES = 4  # places to look for one that is not empty

Grey = npt.NDArray[Any]


def calibrate(plan: Plan, measured: Measured, device: str = "cpu", workers: int = 1) -> Calibration:
    """Try the isotropic restoration of a plan with several samples on crops of the volume's sections.

    The result does not depend on blocks, jobs or workers.
    """
    coarse = plan.scale[0]
    side = min(*measured.shape[1:], SIZE) // coarse * coarse
    if coarse == 1 or side < 4 * coarse:
        return Calibration(factor=None, crops=0)
    trial = replace(
        plan,
        shape=zyx((side, DEPTH, side)),
        measured_shape=zyx((side // coarse, DEPTH, side)),
        lost=(),
        dtype="float32",
    )
    whole = Box.whole(trial.shape)
    A, restorer = operator(trial, whole), Restorer(trial, device, workers)
    rng = np.random.default_rng(plan.config.restore.seed)
    between = compared(A, trial.supported)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in restore jobs: the order of every sum is fixed
    crops, errors, spread = 0, 0.0, 0.0
    try:
        for crop in _crops(plan, measured, side, rng):
            crops += 1
            for section in (crop, crop.T):
                y, truth, left = degraded(section, A, plan.detector, rng)
                found = restorer(whole, y)
                errors += float(np.square(found["mean"] - truth[:, None])[between].mean() - left)
                spread += float(np.square(found["std"], dtype=np.float64)[between].mean())
    finally:
        torch.set_num_threads(threads)
    # the mean of few samples lies off the posterior's by a sample's spread over the root of their number
    expected = spread * (1 + 1 / plan.config.restore.samples)
    sure = errors > 0 and expected > 0
    factor = math.sqrt(errors / expected) if sure else None
    return Calibration(factor=factor, crops=crops)


def degraded(
    section: Grey, A: Operator, detector: Detector, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float32], Grey, float]:
    """A section (n, width), its rows taken for the output's sections.

    Returns what would have been measured of it (n / factor, DEPTH, width), what to compare the result with (n, width)
    where `compared` says so, and the mean square of the noise in that, which is none of what was measured: rows that
    a slice takes away share no noise with those it leaves, and averages are made independent by adding noise to them
    that is taken from the other (Pang et al., CVPR 2021, "recorrupted-to-recorrupted").
    """

    def seen(plane: Grey) -> npt.NDArray[np.float64]:
        volume = torch.from_numpy(np.repeat(plane[:, None, :], DEPTH, axis=1))
        return A(volume).double().numpy()

    clean, sigma = seen(section.astype(np.float64)), detector.at(section).astype(np.float64)
    if isinstance(A, Slice):
        return clean.astype(np.float32), section, float(np.square(sigma).mean())
    swapped = sigma * rng.standard_normal(section.shape)
    one = torch.zeros(A.measured_shape, dtype=torch.float64)
    one[len(one) // 2, 0, 0] = 1
    kept = float(A.adjoint(one).square().sum())  # of the variance of white noise
    fresh = detector.at(clean[:, :1]) * math.sqrt(max(0.0, 1 - 2 * kept))
    y = seen(section + swapped) + fresh * rng.standard_normal(fresh.shape)
    return y.astype(np.float32), section - swapped, 2 * float(np.square(sigma).mean())


def compared(A: Operator, supported: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Rows (n,) to compare: between measured ones, and none that a slice has kept."""
    rows = np.arange(A.shape[0])
    kept = (rows % A.scale[0] == 0) if isinstance(A, Slice) else np.zeros(len(rows), bool)
    between: npt.NDArray[np.bool_] = (rows >= supported[0]) & (rows < supported[1]) & ~kept
    return between


def _crops(plan: Plan, measured: Measured, side: int, rng: np.random.Generator) -> Iterator[Grey]:
    """Parts of sections (side, side) from anywhere in the volume that show something."""
    depth, height, width = measured.shape
    there = [k for k in range(depth) if k not in plan.lost]
    wanted = math.prod(plan.shape) // (SHARE * 2 * DEPTH * side**2)
    for _ in range(min(max(wanted, FEWEST), MOST)):
        for _ in range(TRIES):
            k = there[rng.integers(len(there))]
            y, x = (int(rng.integers(n - side + 1)) for n in (height, width))
            crop = measured.read(Box((k, y, x), (k + 1, y + side, x + side)))[0]
            if not is_empty(crop) and np.isfinite(crop).all():
                yield crop.astype(np.float32)
                break
