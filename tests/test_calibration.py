"""The spread of samples, tried on the volume's own sections."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emgen.arrays import Array, deblur, denoise, isotropic, superres
from emgen.config import parse
from emgen.config.restore import Restore
from emgen.geometry import VoxelSize
from emgen.modes import mode, trial
from emgen.modes.trial import REPEATS, coarser, degraded, noisier, rows_between
from emgen.physics.interpolation import linear
from emgen.physics.noise_model import NoiseModel
from emgen.physics.operators import Downsample, Gaussian, Mean, Slice
from emgen.run import calibration
from emgen.run.calibration import calibrate
from emgen.run.plan import make
from emgen.run.resolve import resolve

SHAPE = (48, REPEATS, 64)
KINDS = {
    "slice": Slice(SHAPE, 4),
    "mean": Mean(SHAPE, 4),
    "gaussian": Gaussian(SHAPE, 4, fwhm=4.0),
}


def tried(section):
    """The mode of a volume of SHAPE, with a thickness model."""
    return mode(Restore(factor=4, section=section), (12, REPEATS, 64), VoxelSize(1, 1, 1))


def planned(voxels, factor=4, **restore):
    """A plan and the array that it is for."""
    restore = {"factor": factor, "samples": 4, "steps": 2, "noise": 0, **restore}
    config = parse({"run": "array", "input": {"volume": "array"}, "restore": restore})
    return make(resolve(config, Array(voxels))), Array(voxels)


@pytest.mark.parametrize("kind", KINDS)
def test_without_noise_a_section_is_measured_as_the_volume_is(kind, fib25):
    A, section = KINDS[kind], fib25[0][:48, :64].astype(np.float32)
    y, truth, left = degraded(
        section, A, NoiseModel(0.0), np.random.default_rng(0), kind == "slice"
    )
    volume = torch.from_numpy(np.repeat(section[:, None], REPEATS, axis=1))
    np.testing.assert_allclose(y, A(volume).numpy(), rtol=1e-5)
    assert (truth == section).all() and left == 0


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_measured_is_as_noisy_as_the_volume_and_shares_no_noise_with_the_truth(kind):
    A, sigma, rng = KINDS[kind], 10.0, np.random.default_rng(0)
    between = rows_between(tried(kind))
    noises, products, truths = [], [], []
    for _ in range(200):
        section = (100 + sigma * rng.standard_normal((48, 64))).astype(np.float32)
        y, truth, left = degraded(section, A, NoiseModel(sigma), rng, kind == "slice")
        # what a linear restoration would bring back of the noise
        back = A.adjoint(torch.from_numpy(y) - 100).numpy()[:, 0]
        noises.append(np.square(y[:, 0] - 100).mean())
        products.append((back * (truth - 100))[between].mean())
        truths.append(np.square(truth - 100)[between].mean())
    assert np.mean(noises) == pytest.approx(sigma**2, rel=0.02)
    assert np.mean(truths) == pytest.approx(left, rel=0.02)
    assert abs(np.mean(products)) < 4 * np.std(products) / 200**0.5 + 1e-6


def test_rows_that_a_slice_keeps_and_those_beyond_the_last_are_not_compared():
    assert np.flatnonzero(~rows_between(tried("slice"))).tolist() == [*range(0, 45, 4), 45, 46, 47]  # fmt: skip
    assert rows_between(tried("mean")).all()


class Interpolation:
    """In place of a restorer: linear interpolation, and a spread that is the same everywhere."""

    spread = 1.0

    def __init__(self, plan, device, workers):
        self.plan = plan

    @property
    def networks(self):
        """There is none: whoever loads it loads nothing."""
        return SimpleNamespace(load=lambda: None)

    def __call__(self, box, y):
        mean = linear(
            y, self.plan.interpolation_support(box), box, self.plan.scale, self.plan.centre
        )
        return {"mean": mean, "std": np.full(box.shape, self.spread, np.float32)}


@settings(max_examples=10)
@given(st.floats(0.01, 100), st.integers(2, 8))
def test_the_spread_times_the_factor_is_the_error(spread, samples):
    rng = np.random.default_rng(0)
    voxels = rng.uniform(0, 255, (4, 64, 64)).astype(np.float32)
    plan, measured = planned(voxels, samples=samples)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibration, "Restorer", Interpolation)
        patch.setattr(Interpolation, "spread", spread)
        found = calibrate(plan, measured)
    # of rows that know nothing of each other, a quarter, a half and three quarters of the way from row to row
    variance = 255**2 / 12
    expected = np.mean([(1 + a**2 + (1 - a) ** 2) * variance for a in (0.25, 0.5, 0.75)]) ** 0.5
    assert found.factor * spread * (1 + 1 / samples) ** 0.5 == pytest.approx(expected, rel=0.05)


def test_noise_does_not_count_as_error():
    rng = np.random.default_rng(0)
    smooth = np.tile(100 + 50 * np.sin(np.arange(128) / 20), (8, 128, 1))
    voxels = (smooth + 10 * rng.standard_normal(smooth.shape)).astype(np.float32)
    errors = {}
    for section in ("slice", "mean"):
        plan, measured = planned(voxels, noise=10.0, section=section)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(calibration, "Restorer", Interpolation)
            errors[section] = calibrate(plan, measured).factor * (1 + 1 / 4) ** 0.5
    # along the rows nothing changes: what linear interpolation gets wrong is the noise that it lets through,
    # of sections of 10 at 1/4, 1/2, 3/4 of the way, and at 1/8, 3/8, 5/8, 7/8
    for section, places in {
        "slice": (0.25, 0.5, 0.75),
        "mean": (0.125, 0.375, 0.625, 0.875),
    }.items():
        expected = 10 * np.mean([a**2 + (1 - a) ** 2 for a in places]) ** 0.5
        assert errors[section] == pytest.approx(expected, rel=0.25), section


@pytest.mark.parametrize("section", ["slice", "mean"])
def test_on_tissue_the_truth_lies_within_the_spread_as_often_as_it_should(section, fib25):
    factor = 4
    truth = fib25[:24, :64, :64].astype(np.float32)
    pairs = truth.reshape(6, factor, 64, 64)
    y = pairs[:, 0] if section == "slice" else pairs.mean(1)
    found = isotropic(y, factor, section=section, samples=4, steps=3, block=truth.shape)
    factor_found = calibrate(found.plan, Array(y)).factor

    def within(std):
        varies = std > 0
        off = np.abs(found.mean - truth)[varies] / std[varies] / (1 + 1 / 4) ** 0.5
        return (off <= 1).mean()

    # Student's t with three degrees of freedom: 0.61
    before, after = within(found.std / factor_found), within(found.std)
    # sections that are means are smoother than the tissue between them, and so easier to restore
    assert before < 0.4 and (0.5 if section == "slice" else 0.38) < after < 0.72


def test_it_is_the_same_for_other_workers_and_leaves_lost_and_empty_sections_out(fib25):
    voxels = fib25[:6, :64, :64].copy()
    voxels[2] = 0
    plan, measured = planned(voxels)
    assert plan.missing == (2,)
    found = calibrate(plan, measured)
    assert found.crops == trial.VOLUME_CROPS[0] and found.factor > 0
    assert calibrate(plan, measured, workers=2) == found
    # nothing is read of what is lost
    voxels[2] = 255
    assert calibrate(plan, Array(voxels)) == found


def test_sections_that_say_nothing_leave_the_spread_as_it_is(fib25):
    small, measured = planned(fib25[:4, :15, :64].astype(np.float32))
    assert calibrate(small, measured).factor is None
    plan, _ = planned(fib25[:4, :64, :64].astype(np.float32))
    empty = Array(np.full((4, 64, 64), 7, np.float32))
    assert calibrate(plan, empty).factor is None and calibrate(plan, empty).crops == 0
    drowned = replace(plan, noise_model=NoiseModel(1000.0))
    assert calibrate(drowned, Array(fib25[:4, :64, :64].astype(np.float32))).factor is None


class Kept:
    """In place of a restorer: what was measured, at every pixel, and a spread that is the same everywhere."""

    def __init__(self, plan, device, workers):
        self.plan = plan

    @property
    def networks(self):
        """There is none: whoever loads it loads nothing."""
        return SimpleNamespace(load=lambda: None)

    def __call__(self, box, y):
        coarse = self.plan.scale[1]
        mean = y.repeat(coarse, axis=1).repeat(coarse, axis=2)[box.slices]
        return {"mean": mean, "std": np.ones(box.shape, np.float32)}


def test_noise_that_is_left_is_the_error_of_a_section(monkeypatch):
    rng = np.random.default_rng(0)
    voxels = (100 + 20 * rng.standard_normal((9, 128, 128))).astype(np.float32)
    plan, measured = planned(voxels, factor=None, mode="denoise", noise=8.0)
    monkeypatch.setattr(calibration, "Restorer", Kept)
    found = calibrate(plan, measured)
    # the noise of the trial: that which was there, and more
    expected = 8 * (1 + trial.EXTRA_NOISE**2) ** 0.5
    assert found.factor == pytest.approx(expected, rel=0.05)


def test_detail_that_is_lost_is_the_error_of_a_section(monkeypatch):
    rng = np.random.default_rng(0)
    voxels = (100 + 20 * rng.standard_normal((9, 128, 128))).astype(np.float32)
    plan, measured = planned(voxels, factor=2, mode="superres")
    monkeypatch.setattr(calibration, "Restorer", Kept)
    # a pixel of a mean over four knows a quarter of its variance
    found = calibrate(plan, measured).factor * (1 + 1 / 4) ** 0.5
    assert found == pytest.approx(20 * 0.75**0.5, rel=0.05)


@pytest.mark.parametrize("kind", ["noisier", "coarser", "coarser, shrunk"])
def test_what_is_measured_again_shares_no_noise_with_what_it_is_compared_with(kind):
    sigma, rng, A = 10.0, np.random.default_rng(0), Downsample((3, 32, 32), 2)
    own = 0.5 if "shrunk" in kind else 1.0
    products, squares, noises, expected = [], [], [], []
    for _ in range(300):
        crop = own * sigma * rng.standard_normal((3, 32, 32))
        if kind == "noisier":
            y, truth, left = noisier(crop, NoiseModel(sigma), rng)
            back = y.astype(np.float64)
        else:
            y, truth, left = coarser(crop, A, NoiseModel(sigma), rng, own)
            back = np.kron(y, np.ones((1, 2, 2)))
        products.append((back * truth).mean())
        squares.append(np.square(truth).mean())
        noises.append(np.square(y).mean())
        expected.append(left.mean())
    assert abs(np.mean(products)) < 4 * np.std(products) / 300**0.5
    assert np.mean(squares) == pytest.approx(np.mean(expected), rel=0.02)
    louder = 1 + trial.EXTRA_NOISE**2 if kind == "noisier" else 1
    assert np.mean(noises) == pytest.approx(louder * sigma**2, rel=0.02)


def test_a_lost_section_is_never_taken_for_the_truth(fib25):
    voxels = fib25[:7, :64, :64].copy()
    voxels[3] = 0
    plan, measured = planned(voxels, factor=None, mode="denoise", noise=8.0)
    assert plan.missing == (3,)
    assert calibrate(plan, measured).crops == 0


def test_noise_that_neighbours_share_cannot_be_tried(fib25):
    plan, measured = planned(fib25[:7], factor=None, mode="denoise", noise="correlated")
    assert calibrate(plan, measured).factor is None


@pytest.mark.parametrize(
    "restored",
    [
        lambda y, **more: denoise(y + noise(y, 20), 20.0, **more),
        lambda y, **more: superres(
            y.reshape(len(y), 48, 2, 48, 2).mean((2, 4)), 2, steps=3, **more
        ),
        lambda y, **more: deblur(
            scipy.ndimage.gaussian_filter(y, (0, 1, 1), mode="mirror") + noise(y, 2),
            1.0,
            noise=2.0,
            steps=3,
            **more,
        ),
    ],
    ids=["denoise", "superres", "deblur"],
)
def test_on_sections_the_truth_lies_within_the_spread_as_often_as_it_should(restored, fib25):
    truth = fib25[:6].astype(np.float32)
    found = restored(truth, samples=4)
    off = np.abs(found.mean - truth) / found.std / found.plan.mode.error_variance_ratio**0.5
    # sections of 96 pixels are too small to take as many of a blurred one for one as it wants
    assert 0.35 < (off <= 1).mean() < 0.8


def noise(y, sigma):
    return sigma * np.random.default_rng(0).standard_normal(y.shape).astype(np.float32)
