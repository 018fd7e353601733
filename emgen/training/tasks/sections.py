"""Training the estimate within sections: tissue that was made noisy, coarse or blurred, and what it was before.

What the network is given is what denoising, super-resolution and deblurring give it: see `emgen.networks.estimator`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import scipy.ndimage
import torch
from torch import Tensor

from emgen.geometry import Box, zyx
from emgen.networks.estimator import context_stack, tikhonov_start
from emgen.physics import interpolation, missing
from emgen.physics.operators import Blur, Downsample, Identity, Operator
from emgen.training.patches import jittered
from emgen.training.tasks.estimator import EstimatorTask, Example, Slab
from emgen.training.tasks.settings import SectionsSettings
from emgen.training.training_volume import TrainingVolume

# What the shipped weights were trained with:
MAX_START_ERROR = 0.03  # squared, prior's half range: strong noise then counts no less than sigma = 0.17
ROUNDNESS = 0.7  # least ratio of a blur's two standard deviations: astigmatism, but no motion
CORRELATION = (0.3, 1.2)  # standard deviation in pixels of the blur that correlates noise, as in fast scans
SUPERRES_FACTORS = (2, 4)  # as restore.factor allows
DEBLUR_NOISE = 0.02  # standard deviation of the noise in the judged problem, in the prior's half range


@dataclass(frozen=True)
class SectionsTask(EstimatorTask):
    """The network is given sections as they were measured, with their context, and asked for the tissue.

    Frames without depth, and volumes too thin, give sections without context.

    Attributes:
        settings: of the recipe.
    """

    settings: SectionsSettings
    kinds: ClassVar[tuple[str, ...]] = (
        "denoise .1",
        "denoise .4",
        "denoise .4 alone",
        "superres x3",
        "deblur 2",
    )
    pictured: ClassVar[str] = "denoise .4"
    most_error: ClassVar[float] = MAX_START_ERROR

    def problem(self, volume: TrainingVolume, rng: np.random.Generator) -> Example:
        """A section with its context, measured somehow."""
        settings, patches = self.settings, self.draw.patches
        slab = jittered(self._slab(volume, rng), rng, patches)[0]
        truth, A, sigma = self._measurement(torch.from_numpy(slab), rng)
        correlated = rng.random() < settings.correlated
        correlation = (
            (_log_uniform(rng, CORRELATION), _log_uniform(rng, CORRELATION))
            if correlated
            else (0.0, 0.0)
        )
        lost = rng.random() < settings.damaged
        inputs = degraded(truth, A, sigma, rng, correlation, lost)
        row, column = (int(rng.integers(n - patches.size + 1)) for n in truth.shape[1:])
        cut = np.s_[:, row : row + patches.size, column : column + patches.size]
        return Example(inputs[cut], truth[settings.context][cut[1:]][None], 1 / (1 + sigma))

    def known_problem(self, slab: Tensor, kind: str) -> Example:
        """The middle section of a slab, measured in the way of a kind; `alone`: without context."""
        middle = len(slab) // 2
        task, size, *alone = kind.replace("x", "").split()
        truth = slab[middle].expand_as(slab) if alone else slab
        shape = zyx(truth.shape)
        A: Operator
        match task:
            case "denoise":
                A, sigma = Identity(shape), float(size)
            case "superres":
                A, sigma = Downsample(shape, int(size)), 0.0
            case _:
                A, sigma = Blur(shape, sigma=float(size)), DEBLUR_NOISE
        inputs = degraded(truth, A, sigma, np.random.default_rng(0))
        return Example(inputs, truth[middle][None], 1 / (1 + sigma))

    def _slab(self, volume: TrainingVolume, rng: np.random.Generator) -> Slab:
        """A section between its context (depth, size, size), or between copies of itself where it has none."""
        settings, patches = self.settings, self.draw.patches
        depth, size = settings.depth, patches.size + settings.margin
        widest = (min(volume.shape) - 1) // max(depth - 1, 1)
        first, last = settings.strides
        near = rng.random() < settings.near
        stride = min(first if near else int(rng.integers(first, last + 1)), widest)
        if stride < 1 or rng.random() < settings.alone:
            return np.repeat(volume.slab(rng, patches, 1, size), depth, axis=0)
        return volume.slab(rng, patches, depth, size, stride)

    def _measurement(
        self, truth: Tensor, rng: np.random.Generator
    ) -> tuple[Tensor, Operator, float]:
        """Tissue, cropped to whole coarse pixels, how it is measured, and the standard deviation of the noise."""
        settings = self.settings
        task = rng.choice(3, p=np.array(settings.tasks) / sum(settings.tasks))
        sigma = _log_uniform(rng, settings.faint)
        if task == 0:
            return truth, Identity(zyx(truth.shape)), _log_uniform(rng, settings.noise)
        if task == 1:
            factor = int(rng.integers(SUPERRES_FACTORS[0], SUPERRES_FACTORS[1] + 1))
            height, width = (n // factor * factor for n in truth.shape[1:])
            truth = truth[:, :height, :width]
            A = Downsample(zyx(truth.shape), factor)
            return truth, A, sigma * int(rng.integers(2))
        wide = _log_uniform(rng, settings.blur)
        both = (wide, wide * rng.uniform(ROUNDNESS, 1))
        blur = Blur(zyx(truth.shape), sigma=both if rng.random() < 0.5 else both[::-1])
        return truth, blur, sigma


def degraded(
    truth: Tensor,
    A: Operator,
    sigma: float,
    rng: np.random.Generator,
    correlation: Sequence[float] = (0.0, 0.0),
    lost: bool = False,
) -> Tensor:
    """Inputs of an estimator for the middle one of sections, (2 * context + 2, rows, columns), see `context_stack`.

    Args:
        truth: a section and its context (sections, rows, columns); where these are copies of it, so are their noises.
        A: how sections are measured.
        sigma: standard deviation of the noise, in the prior's half range.
        rng: of the noise.
        correlation: standard deviations (y, x) in pixels of the blur that correlates the noise; 0 for white noise.
        lost: whether the section in the middle is missing.
    """
    y = A(truth).numpy()
    noise = rng.standard_normal(y.shape, np.float32)
    if any(correlation):
        noise = scipy.ndimage.gaussian_filter(noise, (0, *correlation))
        noise /= noise.std()
    y = y + np.float32(sigma) * noise
    middle = len(y) // 2
    if bool((truth == truth[:1]).all()):
        y = np.repeat(y[middle : middle + 1], len(y), axis=0)
        lost = False
    if lost:
        y = missing.fill_missing(y, 0, (middle,)).astype(np.float32)
    start, density = measured_inputs(torch.from_numpy(y), A, sigma)
    if lost:
        density[middle] = 0
    return context_stack(start.transpose(0, 1), density.transpose(0, 1), middle)[middle]


def measured_inputs(y: Tensor, A: Operator, sigma: float) -> tuple[Tensor, Tensor]:
    """The start and the sampling density of whole measured sections, both of A's output shape.

    The start is `tikhonov_start` of the linear interpolation of y, whose noise has the standard deviation sigma (prior's
    half range); the density is A's response norm.
    """
    whole, footprint = Box.whole(A.shape), Box.whole(A.measured_shape)
    linear = torch.from_numpy(interpolation.linear(y.numpy(), footprint, whole, A.scale, A.centre))
    start = tikhonov_start(linear, y, A, sigma)
    return start, torch.full_like(start, A.response_norm())


def _log_uniform(rng: np.random.Generator, ends: tuple[float, float]) -> float:
    """A number whose logarithm is uniformly distributed."""
    return math.exp(rng.uniform(math.log(ends[0]), math.log(ends[1])))
