"""What sampling adds to the estimate that it begins from, on tissue that no shipped network was trained on.

An estimate is a posterior mean, which no sample can beat in squared error: an exact sample has twice its error. So the
laws are about the mean of samples, their spread, their detail and what was measured. Margins are from five crops of
the demo's reference volume; the figures in brackets are the least and the greatest of these.
"""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import scipy.ndimage
import torch
from runs import ROOT

from emgen.arrays import Array
from emgen.config.run import parse
from emgen.geometry import Box
from emgen.physics.psf import gaussian
from emgen.run.plan import make
from emgen.run.resolve import resolve
from emgen.run.restore import Restorer
from emgen.sampling import flower
from emgen.volumes.volume import Volume

SAMPLES = 2
BLOCK = {"block": [128] * 3, "halo": [0] * 3}
UNIT = {"chunk": [128] * 3, "shard": [128] * 3}
BLUR = 1.5
cases = pytest.mark.parametrize("name", ["slice", "mean", "superres", "deblur"])


def problem(name):
    """Tissue, what is measured of it, the settings, and the output sections to compare."""
    reference = Volume.open(ROOT / "demo/reference.ome.zarr")
    volume = reference.read(Box((40, 10, 20), (64, 58, 68))).astype(np.float32)
    sections = reference.read(Box((40, 10, 20), (43, 74, 84))).astype(np.float32)
    match name:
        case "slice":
            between = [k for k in range(21) if k % 4]
            return volume, volume[::4].copy(), {"factor": 4}, between
        case "mean":
            y = volume.reshape(6, 4, 48, 48).mean(1)
            return volume, y, {"factor": 4, "section": "mean"}, range(2, 22)
        case "superres":
            y = sections.reshape(3, 32, 2, 32, 2).mean((2, 4))
            return sections, y, {"mode": "superres", "factor": 2}, range(3)
    kernel = gaussian(BLUR, BLUR)[None].astype(np.float32)
    noise = 1.5 * np.random.default_rng(0).standard_normal(sections.shape)
    y = scipy.ndimage.convolve(sections, kernel, mode="mirror") + noise
    settings = {"mode": "deblur", "psf": {"sigma": BLUR}, "noise": 1.5}
    return sections, y.astype(np.float32), settings, range(3)


class Outcome:
    """What became of a problem: the start, linear interpolation, and mean and spread of samples, in grey values."""

    def __init__(self, name):
        truth, self.y, settings, rows = problem(name)
        restore = {**settings, "samples": SAMPLES}
        config = {"run": "a", "input": {"volume": "a"}, "restore": restore}
        measured = Array(self.y)
        self.plan = make(resolve(parse({**config, "grid": BLOCK, "output": UNIT}), measured))
        box, restorer = Box.whole(self.plan.shape), Restorer(self.plan)
        with pytest.MonkeyPatch.context() as patch:
            stays = replace(flower.SAMPLER, solve=lambda problem: problem.start)
            patch.setattr(flower, "SAMPLER", stays)
            start = restorer(box, self.y)["mean"]
        self.whole = restorer(box, self.y)
        rows = list(rows)
        linear = self.plan.interpolated(measured, box)
        self.truth, self.start, self.linear = truth[rows], start[rows], linear[rows]
        self.mean, self.std = self.whole["mean"][rows], self.whole["std"][rows]

    def error(self, voxels):
        """Mean square distance from the tissue."""
        return np.square(voxels.astype(float) - self.truth).mean()

    @property
    def spread(self):
        """Variance of the samples."""
        return np.square(self.std, dtype=float).mean()


outcome = cache(Outcome)


def decibels(ratio):
    return 10 * np.log10(ratio)


@cases
def test_what_samples_average_to_is_as_near_to_the_tissue_as_their_start(name):
    """Sampling loses nothing: the error of the mean of n less spread / n is that of the mean of all.

    The margin is 0.2 dB (-0.10 to 0.18)."""
    result = outcome(name)
    of_all = result.error(result.mean) - result.spread / SAMPLES
    assert decibels(result.error(result.start) / of_all) > -0.2


@cases
def test_the_mean_of_two_samples_is_nearer_to_the_tissue_than_linear_interpolation(name):
    """By 0.6 dB (0.8 to 3.8)."""
    result = outcome(name)
    assert decibels(result.error(result.linear) / result.error(result.mean)) > 0.6


@cases
def test_samples_differ_but_by_less_than_their_error(name):
    """Spread over the start's error, as deviations: from 0.15 to 0.6 (0.26 to 0.42)."""
    result = outcome(name)
    assert 0.15 < np.sqrt(result.spread / result.error(result.start)) < 0.6


def detail(voxels):
    """Mean square of what a Gaussian blur of one pixel takes from sections."""
    smooth = scipy.ndimage.gaussian_filter(voxels.astype(float), (0, 1, 1))
    return np.square(voxels - smooth).mean()


@cases
def test_samples_have_detail_that_a_mean_has_not_and_less_than_the_tissue(name):
    """A posterior mean is too smooth. Even the mean of two samples has 2 % more detail than it (5 to 25 %)."""
    result = outcome(name)
    assert 1.02 * detail(result.start) < detail(result.mean) < detail(result.truth)


@cases
def test_a_sample_measured_once_more_is_what_was_measured(name):
    """Exactly where there is no noise; to the noise, here 1.5 grey values, where there is."""
    result = outcome(name)
    plan, A = result.plan, result.plan.mode.operator(Box.whole(result.plan.shape))
    x, y = (
        torch.from_numpy(plan.intensity.encode(v)).double()
        for v in (result.whole["mean"], result.y)
    )
    apart = float((A(x) - y).square().mean().sqrt()) * plan.intensity.unit
    assert apart < (0.01 if plan.noise_model.sigma == 0 else 2.0)
