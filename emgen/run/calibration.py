"""By how much the spread of samples falls short of their error, tried where the answer is known: within sections.

Samples that begin late, from one estimate, share its error and are surer than they should be. But what was measured can
be measured again, by hand: rows can be taken from sections as sections are from the volume (as Weigert et al., MICCAI
2017, arXiv 1704.01510, do to train a network), and sections be made coarser, blurred or noisier than they are. The same
sampler restores them, and error and spread are compared. One number for the run comes of that, and the spread is
multiplied by it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from emgen.geometry import Box, zyx
from emgen.physics.noise_model import NoiseModel
from emgen.physics.operators import Operator, Slice
from emgen.run.plan import Plan
from emgen.run.restore import Restorer, is_empty, operator
from emgen.run.trial_facts import Calibration
from emgen.volumes.measured import Measured

SIZE = 128  # pixels on a side of what is cut from sections
DEPTH = 8  # times a section is repeated, to make a volume: a cell that networks fold planes into
FEWEST, MOST = 2, 16  # such crops, and four times as many that are no volumes,
SHARE = 8  # and between these no more voxels than this part of the output
TRIES = 4  # places to look for one that is not empty
SHRUNK = (
    4  # pixels to a side of what is made one, of blurred sections: at that size they are sharp,
)
SMALLEST = 48  # where so many are left
MORE = 0.7  # noise added to what is denoised, of its own

Grey = npt.NDArray[Any]
Problem = tuple[npt.NDArray[np.float32], Grey, float]
"""What is measured again, what to compare its restoration with, and the mean square of the noise in that."""


@dataclass(frozen=True)
class Trial:
    """How the restoration of a plan is tried.

    Attributes:
        plan: of what is restored in the trial.
        sections: to cut from the volume, one behind the other.
        side: pixels of a crop (sections, side, side).
        box: of the output that is restored.
        crops: the fewest, and the most.
        cost: voxels that are restored for one.
        problems: what is made of a crop, with random numbers.
        compared: which of the sections of the box are compared.
    """

    plan: Plan
    sections: int
    side: int
    box: Box
    crops: tuple[int, int]
    cost: int
    problems: Callable[[Grey, np.random.Generator], list[Problem]]
    compared: Any


def calibrate(plan: Plan, measured: Measured, device: str = "cpu", workers: int = 1) -> Calibration:
    """Try the restoration of a plan with several samples on crops of the volume's sections.

    The result does not depend on blocks, jobs or workers. There is no trial where noise that neighbours share cannot be
    told from tissue.
    """
    trial = across(plan) if plan.config.restore.mode == "isotropic" else within(plan)
    if trial is None or plan.config.restore.noise == "correlated":
        return Calibration(factor=None, crops=0)
    rng = np.random.default_rng(plan.config.restore.seed)
    crops = [trial.problems(crop, rng) for crop in _crops(plan, measured, trial, rng)]
    # a volume's planes are shared out, planes by themselves are
    lanes = workers if trial.box.shape[0] == 1 and device == "cpu" else 1
    restorer = Restorer(trial.plan, device, workers // lanes)
    restorer.load()

    def tried(problem: Problem) -> tuple[float, float]:
        y, truth, left = problem
        found = restorer(trial.box, y)
        error = float(np.square(found["mean"][trial.compared] - truth).mean() - left)
        return error, float(np.square(found["std"][trial.compared], dtype=np.float64).mean())

    # one thread for a plane, as in restore jobs: the order of every sum is fixed
    one: dict[str, Any] = {"initializer": torch.set_num_threads, "initargs": (1,)}
    with ThreadPoolExecutor(lanes, **one) as pool:
        found = list(pool.map(tried, [problem for crop in crops for problem in crop]))
    errors, spread = (sum(part) for part in zip(*found, strict=True)) if found else (0.0, 0.0)
    expected = spread * plan.config.restore.error_variance_ratio
    sure = errors > 0 and expected > 0
    factor = math.sqrt(errors / expected) if sure else None
    return Calibration(factor=factor, crops=len(crops))


def across(plan: Plan) -> Trial | None:
    """Rows of a section, along both of its axes, taken for the output's sections; None where sections are too small."""
    coarse = plan.scale[0]
    side = min(*plan.measured_shape[1:], SIZE) // coarse * coarse
    if coarse == 1 or side < 4 * coarse:
        return None
    trial = _on(plan, (side, DEPTH, side), (side // coarse, DEPTH, side))
    whole = Box.whole(trial.shape)
    A = operator(trial, whole)
    rows = compared(A, trial.bracketed_sections)

    def problems(crop: Grey, rng: np.random.Generator) -> list[Problem]:
        both = (degraded(section, A, plan.detector, rng) for section in (crop[0], crop[0].T))
        return [(y, truth[:, None][rows], left) for y, truth, left in both]

    return Trial(trial, 1, side, whole, (FEWEST, MOST), 2 * whole.size, problems, rows)


def within(plan: Plan) -> Trial | None:
    """A section between those beside it, measured once more.

    Blurred sections are taken with larger pixels, at which they are sharp: as tissue looks much alike at all sizes,
    so do errors. None where they are too small.
    """
    restore, coarse, shrunk = plan.config.restore, plan.scale[1], 1
    if restore.mode == "deblur":
        shrunk = max(1, min(SHRUNK, min(plan.measured_shape[1:]) // SMALLEST))
    depth, beside = plan.measured_shape[0], plan.estimator["context"] if plan.estimator else 0
    sections = 2 * min(beside, (depth - 1) // 2) + 1
    side = min(*plan.measured_shape[1:], SIZE * shrunk) // (coarse * shrunk) * coarse
    denoising = restore.mode == "denoise"
    if side < 8 * coarse:
        return None
    trial = _on(plan, (sections, side, side), (sections, side // coarse, side // coarse))
    A, middle = operator(trial, Box.whole(trial.shape)), sections // 2
    if denoising:
        louder = 1 + MORE**2
        trial = replace(
            trial,
            noise=plan.noise * louder**0.5,
            gain=plan.gain * louder,
            noise_floor=plan.noise_floor * louder**0.5,
        )

    def problems(crop: Grey, rng: np.random.Generator) -> list[Problem]:
        large = crop.reshape(sections, side, shrunk, side, shrunk).mean((2, 4), dtype=np.float64)
        if denoising:
            y, truth, left = noisier(large, plan.detector, rng)
        else:
            y, truth, left = coarser(large, A, plan.detector, rng, 1 / shrunk)
        return [(y, truth[middle], float(left[middle].mean()))]

    box = Box((middle, 0, 0), (middle + 1, side, side))
    crops = (4 * FEWEST, 4 * MOST)
    return Trial(trial, sections, side * shrunk, box, crops, box.size, problems, 0)


def noisier(
    crop: Grey, detector: NoiseModel, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float32], Grey, Grey]:
    """More noise is added, and taken, by so much more, from what to compare with: the noises of both are independent
    (Pang et al., CVPR 2021, "recorrupted-to-recorrupted"). The square of the noise in the latter is given at every voxel."""
    sigma = detector.at(crop).astype(np.float64)
    fresh = sigma * rng.standard_normal(crop.shape)
    y = (crop + MORE * fresh).astype(np.float32)
    # the crop's own is known on average only
    return y, crop - fresh / MORE, np.square(sigma) + np.square(fresh / MORE)


def coarser(
    crop: Grey, A: Operator, detector: NoiseModel, rng: np.random.Generator, own: float = 1.0
) -> tuple[npt.NDArray[np.float32], Grey, Grey]:
    """What was measured is measured by A once more, as noisy as it was: else as `noisier`.

    Of the measurement's noise the crop has `own`, the rest is averaged out.
    """

    def seen(volume: Grey) -> npt.NDArray[np.float64]:
        return A(torch.from_numpy(volume).float()).double().numpy()

    sigma, clean = own * detector.at(crop).astype(np.float64), seen(crop)
    swapped = sigma * rng.standard_normal(crop.shape)
    fresh = detector.at(clean) * math.sqrt(max(0.0, 1 - 2 * own**2 * _kept(A)))
    y = seen(crop + swapped) + fresh * rng.standard_normal(clean.shape)
    return y.astype(np.float32), crop - swapped, np.square(sigma) + np.square(swapped)


def _kept(A: Operator) -> float:
    """What A leaves of the variance of white noise, in the middle of the volume."""
    one = torch.zeros(A.measured_shape, dtype=torch.float64)
    one[tuple(n // 2 for n in one.shape)] = 1
    return float(A.adjoint(one).square().sum())


def _on(plan: Plan, shape: tuple[int, int, int], measured_shape: tuple[int, int, int]) -> Plan:
    """The same restoration of another volume."""
    return replace(
        plan, shape=zyx(shape), measured_shape=zyx(measured_shape), lost=(), dtype="float32"
    )


def degraded(section: Grey, A: Operator, detector: NoiseModel, rng: np.random.Generator) -> Problem:
    """A section (n, width), its rows taken for the output's sections.

    Returns what would have been measured of it (n / factor, DEPTH, width), what to compare the result with (n, width)
    where `compared` says so, and the mean square of the noise in that, which is none of what was measured: rows that
    a slice takes away share no noise with those it leaves, and averages are made independent as in `noisier`.
    """

    def seen(plane: Grey) -> npt.NDArray[np.float64]:
        volume = torch.from_numpy(np.repeat(plane[:, None, :], DEPTH, axis=1))
        return A(volume).double().numpy()

    clean, sigma = seen(section.astype(np.float64)), detector.at(section).astype(np.float64)
    if isinstance(A, Slice):
        return clean.astype(np.float32), section, float(np.square(sigma).mean())
    swapped = sigma * rng.standard_normal(section.shape)
    fresh = detector.at(clean[:, :1]) * math.sqrt(max(0.0, 1 - 2 * _kept(A)))
    y = seen(section + swapped) + fresh * rng.standard_normal(fresh.shape)
    return y.astype(np.float32), section - swapped, 2 * float(np.square(sigma).mean())


def compared(A: Operator, supported: tuple[int, int]) -> npt.NDArray[np.bool_]:
    """Rows (n,) to compare: between measured ones, and none that a slice has kept."""
    rows = np.arange(A.shape[0])
    kept = (rows % A.scale[0] == 0) if isinstance(A, Slice) else np.zeros(len(rows), bool)
    between: npt.NDArray[np.bool_] = (rows >= supported[0]) & (rows < supported[1]) & ~kept
    return between


def _crops(
    plan: Plan, measured: Measured, trial: Trial, rng: np.random.Generator
) -> Iterator[Grey]:
    """Parts of sections (sections, side, side) from anywhere in the volume that show something."""
    depth, height, width = measured.shape
    fewest, most = trial.crops
    wanted = math.prod(plan.shape) // (SHARE * trial.cost)
    side, beside = trial.side, trial.sections // 2
    there = [k for k in range(beside, depth - beside) if k not in plan.lost]
    for _ in range(min(max(wanted, fewest), most) if there else 0):
        for _ in range(TRIES):
            k = there[rng.integers(len(there))]
            y, x = (int(rng.integers(n - side + 1)) for n in (height, width))
            box = Box((k - beside, y, x), (k + beside + 1, y + side, x + side))
            crop = plan.fill_missing(measured.read(box), box)
            if not is_empty(crop[beside]) and np.isfinite(crop).all():
                yield crop.astype(np.float32)
                break
