"""A restoration tried where the answer is known: the input's own sections, measured once more by hand.

Rows can be taken from sections as sections are from the volume (as Weigert et al., MICCAI 2017, arXiv 1704.01510, do
to train a network), and sections be made coarser, blurred or noisier than they are. Grey values throughout.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from emgen.geometry import Box
from emgen.modes.mode import Grey, Known, Mode, Trial
from emgen.physics.noise_model import NoiseModel

if TYPE_CHECKING:
    from emgen.physics.operators import Operator

CROP_SIZE = 128
"""Pixels on a side of what is cut from sections: a tile of the networks' training."""
REPEATS = 8
"""Times a section is repeated to make a volume: the stride of the shipped networks, which fold so many planes."""
VOLUME_CROPS = (2, 16)
"""The fewest crops that are tried as volumes, and the most; their number grows with the volume in between."""
SECTION_CROPS = (8, 64)
"""The same of crops that are tried as single sections, which cost less."""
SMALLEST_SIDE = 4, 8
"""Measured rows that a crop must have, across sections and within them, to say something."""
EXTRA_NOISE = 0.7
"""Noise added to what is denoised, in parts of its own: the trial's is then 1.2 times as strong."""


def across_sections(mode: Mode, noise: NoiseModel) -> Trial | None:
    """Rows of a section, along both of its axes, taken for the output's sections.

    None where sections are too small, or where nothing lies between measured ones.
    """
    factor = mode.acquisition.scale[0]
    side = min(*mode.measured_shape[1:], CROP_SIZE) // factor * factor
    if factor == 1 or side < SMALLEST_SIDE[0] * factor:
        return None
    tried = replace(mode, measured_shape=(side // factor, REPEATS, side))
    whole = Box.whole(tried.shape)
    A = tried.operator(whole)
    rows = rows_between(tried)

    def problems(crop: Grey, rng: np.random.Generator) -> list[Known]:
        both = (
            degraded(section, A, noise, rng, tried.keeps_measured)
            for section in (crop[0], crop[0].T)
        )
        return [Known(y, truth[:, None][rows], power) for y, truth, power in both]

    return Trial(tried, noise, 1, side, whole, VOLUME_CROPS, 2 * whole.size, problems, rows)


def noisier_sections(mode: Mode, noise: NoiseModel, context: int) -> Trial | None:
    """A section between those beside it, made noisier. None where sections are too small."""
    louder = noise.amplified(1 + EXTRA_NOISE**2)

    def measured_again(crop: Grey, A: Operator, rng: np.random.Generator) -> tuple[Any, Any, Any]:
        return noisier(crop, noise, rng)

    return _within_sections(mode, louder, context, 1, measured_again)


def coarser_sections(mode: Mode, noise: NoiseModel, context: int, binned: int = 1) -> Trial | None:
    """A section between those beside it, measured by the operator once more. None where sections are too small.

    Args:
        mode: to be tried.
        noise: of the measurement.
        context: sections on either side that the estimator sees.
        binned: pixels on a side that are made one first. A binned blurred section is sharp; as tissue looks much alike
            at all sizes, so do errors.
    """

    def measured_again(crop: Grey, A: Operator, rng: np.random.Generator) -> tuple[Any, Any, Any]:
        return coarser(crop, A, noise, rng, 1 / binned)

    return _within_sections(mode, noise, context, binned, measured_again)


def _within_sections(
    mode: Mode,
    noise: NoiseModel,
    context: int,
    binned: int,
    measured_again: Callable[[Grey, Operator, np.random.Generator], tuple[Any, Any, Any]],
) -> Trial | None:
    coarse = mode.acquisition.scale[1]
    depth, *plane = mode.measured_shape
    sections = 2 * min(context, (depth - 1) // 2) + 1
    side = min(*plane, CROP_SIZE * binned) // (coarse * binned) * coarse
    if side < SMALLEST_SIDE[1] * coarse:
        return None
    tried = replace(mode, measured_shape=(sections, side // coarse, side // coarse))
    A, middle = tried.operator(Box.whole(tried.shape)), sections // 2

    def problems(crop: Grey, rng: np.random.Generator) -> list[Known]:
        pixels = crop.reshape(sections, side, binned, side, binned)
        y, truth, power = measured_again(pixels.mean((2, 4), dtype=np.float64), A, rng)
        return [Known(y, truth[middle], float(power[middle].mean()))]

    box = Box((middle, 0, 0), (middle + 1, side, side))
    return Trial(tried, noise, sections, side * binned, box, SECTION_CROPS, box.size, problems, 0)


def noisier(
    crop: Grey, noise: NoiseModel, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float32], Grey, Grey]:
    """Recorrupted-to-recorrupted (Pang et al., CVPR 2021): y = crop + a e and truth = crop - e / a.

    The noises of both are independent. Also returns the variance of the truth's noise at every voxel.
    """
    sigma = noise.at(crop).astype(np.float64)
    fresh = sigma * rng.standard_normal(crop.shape)
    y = (crop + EXTRA_NOISE * fresh).astype(np.float32)
    # the crop's own noise is known on average only
    return y, crop - fresh / EXTRA_NOISE, np.square(sigma) + np.square(fresh / EXTRA_NOISE)


def coarser(
    crop: Grey, A: Operator, noise: NoiseModel, rng: np.random.Generator, own: float = 1.0
) -> tuple[npt.NDArray[np.float32], Grey, Grey]:
    """Applies A to the crop and adds noise until y is as noisy as the input was; the truth is as in `noisier`.

    Args:
        crop: sections (z, y, x).
        A: the operator on them.
        noise: of the measurement.
        rng: random numbers.
        own: deviation of the noise that the crop still has, in parts of the measurement's.
    """
    sigma, clean = own * noise.at(crop).astype(np.float64), applied(A, crop)
    swapped = sigma * rng.standard_normal(crop.shape)
    fresh = noise.at(clean) * math.sqrt(max(0.0, 1 - 2 * own**2 * _variance_kept(A)))
    y = applied(A, crop + swapped) + fresh * rng.standard_normal(clean.shape)
    return y.astype(np.float32), crop - swapped, np.square(sigma) + np.square(swapped)


def degraded(
    section: Grey,
    A: Operator,
    noise: NoiseModel,
    rng: np.random.Generator,
    keeps_measured: bool,
) -> Known:
    """A section (n, width), its rows taken for the output's sections.

    Returns what would have been measured of it (n / factor, REPEATS, width), and what to compare the result with
    (n, width) in the rows of `rows_between`. Its noise is none of what was measured: rows that a slice takes away
    share no noise with those it leaves, and averages are made independent as in `noisier`.
    """
    volume = np.repeat(section.astype(np.float64)[:, None, :], REPEATS, axis=1)
    clean, sigma = applied(A, volume, exact=True), noise.at(section).astype(np.float64)
    if keeps_measured:
        return Known(clean.astype(np.float32), section, float(np.square(sigma).mean()))
    swapped = sigma * rng.standard_normal(section.shape)
    fresh = noise.at(clean[:, :1]) * math.sqrt(max(0.0, 1 - 2 * _variance_kept(A)))
    volume = np.repeat((section + swapped)[:, None, :], REPEATS, axis=1)
    y = applied(A, volume, exact=True) + fresh * rng.standard_normal(fresh.shape)
    return Known(y.astype(np.float32), section - swapped, 2 * float(np.square(sigma).mean()))


def rows_between(mode: Mode) -> npt.NDArray[np.bool_]:
    """Output sections (n,) to compare: between measured ones, and none that were kept."""
    rows = np.arange(mode.shape[0])
    kept = (
        rows % mode.acquisition.scale[0] == 0 if mode.keeps_measured else np.zeros(len(rows), bool)
    )
    first, stop = mode.bracketed_sections(())
    between: npt.NDArray[np.bool_] = (rows >= first) & (rows < stop) & ~kept
    return between


def applied(A: Operator, volume: Grey, exact: bool = False) -> npt.NDArray[np.float64]:
    """A x of grey values; `exact` computes in float64, else in float32 as a restoration does."""
    import torch

    x = torch.from_numpy(volume)
    return (A(x) if exact else A(x.float()).double()).double().numpy()


def _variance_kept(A: Operator) -> float:
    """What A leaves of the variance of white noise, in the middle of the volume."""
    import torch

    one = torch.zeros(A.measured_shape, dtype=torch.float64)
    one[tuple(n // 2 for n in one.shape)] = 1
    return float(A.adjoint(one).square().sum())
