import json
from dataclasses import asdict

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given
from hypothesis import strategies as st

from emgen.config.restore import PoissonGaussian
from emgen.physics.noise_model import NoiseModel, correlated_noise, white_noise, white_noise_of


def equivalent_noise(samples):
    """The level of white noise that hides as much tissue, as a plan has it."""
    return NoiseModel.from_setting("correlated", samples, 120.0).rms(samples)


@pytest.mark.parametrize("sigma", [2.0, 8.0])
def test_white_noise_is_estimated_also_where_there_are_edges(sigma):
    rng = np.random.default_rng(0)
    clean = np.where(np.add.outer(np.arange(300), np.arange(300)) // 40 % 2, 60.0, 180.0)
    assert white_noise_of(clean + sigma * rng.normal(size=clean.shape)) == pytest.approx(
        sigma, rel=0.2
    )


@given(st.floats(0, 5), st.floats(0.1, 20), st.floats(-20, 20), st.floats(60, 200))
def test_the_variance_is_that_of_the_settings_at_every_grey_value(gain, sigma, black, middle):
    black *= gain > 0  # without a gain it would say nothing, and is refused
    detector = NoiseModel.from_setting(
        PoissonGaussian(gain=gain, sigma=sigma, black=black), [], middle
    )
    grey = np.linspace(black - 9, 255, 30)
    expected = np.sqrt(gain * np.maximum(grey - black, 0) + sigma**2)
    floor = max(sigma, 0.1 * detector.sigma)
    np.testing.assert_allclose(detector.at(grey), np.maximum(expected, floor), rtol=1e-4)


@pytest.mark.parametrize("sigma", [15.0, 40.0])
def test_noise_that_neighbours_share_is_estimated_where_the_white_estimate_misses_it(sigma):
    rng = np.random.default_rng(3)
    clean = 120 + 300 * scipy.ndimage.gaussian_filter(rng.normal(size=(6, 160, 160)), (0, 4, 4))
    shared = scipy.ndimage.gaussian_filter(rng.normal(size=clean.shape), (0, 0.5, 0.8))
    noisy = clean + sigma * shared / shared.std()
    assert white_noise([noisy]) < 0.5 * sigma
    assert sigma < equivalent_noise([noisy]) < 1.8 * sigma
    assert correlated_noise([noisy])[0] == pytest.approx(sigma, rel=0.15)
    turned = [noisy[:, ::-1], 3 * noisy[:, :, ::-1] - 40]
    found = equivalent_noise([noisy])
    assert equivalent_noise(turned[:1]) == pytest.approx(found, rel=1e-6)
    assert equivalent_noise(turned[1:]) == pytest.approx(3 * found, rel=1e-6)


@given(st.floats(0, 5), st.floats(0.5, 20), st.floats(1, 60))
def test_raised_noise_has_the_level_and_keeps_what_it_is_at_one_grey_value_to_another(
    gain, sigma, level
):
    grey = np.random.default_rng(6).gamma(2, 20, (3, 50, 50))
    detector = NoiseModel.from_setting(PoissonGaussian(gain=gain, sigma=sigma), [], 100.0)
    raised = detector.rescaled_to(level, [grey])
    assert raised.rms([grey]) == pytest.approx(level, rel=1e-3)
    share = raised.at(grey) / detector.at(grey)
    np.testing.assert_allclose(share, share.flat[0], rtol=1e-3)
    assert NoiseModel(0.0, 0.0, 9.0).rescaled_to(level, [grey]) == NoiseModel(level, 0.0, 9.0)


@pytest.mark.parametrize("gain", [0.0, 2.0])
def test_shared_noise_that_grows_with_brightness_is_found_so(gain):
    rng = np.random.default_rng(8)
    smooth = scipy.ndimage.gaussian_filter(rng.normal(size=(4, 256, 256)), (0, 4, 4))
    clean = np.clip(120 + 35 * smooth / smooth.std(), 20, 240)
    shared = scipy.ndimage.gaussian_filter(rng.normal(size=clean.shape), (0, 0.4, 0.6))
    noisy = clean + np.sqrt(gain * clean + 100) * shared / shared.std()
    found = NoiseModel.from_setting("correlated", [noisy], 120.0)
    assert found.correlation_ratio < 1
    assert found.correlation_ratio * found.rms([noisy]) == pytest.approx(
        (noisy - clean).std(), rel=0.15
    )
    dark, bright = found.at(np.array([70.0, 170.0]))
    expected = np.sqrt((gain * 170 + 100) / (gain * 70 + 100))
    assert bright / dark == pytest.approx(expected, rel=0.1)


def test_sections_too_small_for_correlated_noise_are_taken_as_white():
    noisy = np.random.default_rng(4).normal(size=(3, 12, 90))
    assert equivalent_noise([noisy]) == pytest.approx(white_noise([noisy]))


@pytest.mark.parametrize(("gain", "sigma"), [(0.5, 3.0), (2.0, 1.0), (1.0, 8.0)])
def test_gain_and_offset_are_found_in_noisy_tissue(gain, sigma):
    rng = np.random.default_rng(1)
    smooth = scipy.ndimage.gaussian_filter(rng.normal(size=(4, 256, 256)), (0, 3, 3))
    clean = np.clip(120 + 35 * smooth / smooth.std(), 20, 240)
    noisy = gain * rng.poisson(clean / gain) + sigma * rng.normal(size=clean.shape)
    found = NoiseModel.estimated([noisy], 120.0)
    for grey in (70.0, 120.0, 170.0):
        expected = np.sqrt(gain * grey + sigma**2)
        assert found.at(np.array([grey]))[0] == pytest.approx(expected, rel=0.12)
    assert white_noise([noisy]) == pytest.approx(np.sqrt(gain * 120 + sigma**2), rel=0.1)


@pytest.mark.parametrize("value", [0.0, 255.0])
def test_padding_changes_no_estimate(value):
    rng = np.random.default_rng(5)
    smooth = scipy.ndimage.gaussian_filter(rng.normal(size=(6, 160, 160)), (0, 3, 3))
    clean = 120 + 25 * smooth / smooth.std()
    noisy = np.clip(np.rint(0.8 * rng.poisson(clean / 0.8)), 1, 254)
    padded = np.pad(noisy, ((2, 2), (150, 20), (0, 90)), constant_values=value)
    for estimate in (white_noise, equivalent_noise):
        assert estimate([padded]) == pytest.approx(estimate([noisy]), rel=0.1)
    found, expected = (NoiseModel.estimated([each], 120.0) for each in (padded, noisy))
    grey = np.array([80.0, 120.0, 160.0])
    np.testing.assert_allclose(found.at(grey), expected.at(grey), rtol=0.05)
    assert found.rms([padded]) == pytest.approx(found.rms([noisy]), rel=0.05)
    assert white_noise([np.full((3, 20, 20), value)]) == 0
    strip = np.pad(noisy[..., :6], ((0, 0), (0, 0), (50, 50)), constant_values=value)
    assert (
        equivalent_noise([strip]) == pytest.approx(white_noise([strip]))
        and white_noise([strip]) > 0
    )


def test_estimates_do_not_depend_on_the_type_of_the_voxels():
    rng = np.random.default_rng(7)
    smooth = scipy.ndimage.gaussian_filter(rng.normal(size=(3, 80, 80)), (0, 3, 3))
    noisy = 40 * smooth / smooth.std() + 8 * rng.normal(size=smooth.shape)
    grey = np.rint(np.clip(noisy, -127, 127))
    for kind, scale in ((np.int8, 1), (np.int16, 250), (">i2", 250), (np.float32, 250)):
        stored = (scale * grey).astype(kind)
        for estimate in (white_noise, equivalent_noise):
            assert estimate([stored]) == pytest.approx(scale * estimate([grey]), rel=1e-5)
        found = NoiseModel.estimated([stored], 0.0).sigma
        assert found == pytest.approx(scale * NoiseModel.estimated([grey], 0.0).sigma, rel=1e-5)


def test_the_white_noise_of_a_detector_is_the_root_mean_square():
    grey = np.random.default_rng(6).gamma(2, 20, (3, 50, 50))
    assert NoiseModel(2.0, 0.0, 100.0).rms([grey]) == 2.0
    found = NoiseModel.from_setting(PoissonGaussian(gain=1.5, sigma=4), [], 100.0).rms([grey])
    assert found == pytest.approx((1.5 * grey.mean() + 16) ** 0.5, rel=0.01)


def test_white_noise_has_no_gain_and_too_small_a_sample_no_noise():
    rng = np.random.default_rng(2)
    ramp = np.broadcast_to(np.linspace(20, 220, 300), (3, 300, 300))
    found = NoiseModel.estimated([ramp + 6 * rng.normal(size=ramp.shape)], 120.0)
    np.testing.assert_allclose(found.at(np.array([40.0, 120.0, 200.0])), 6, rtol=0.06)
    assert NoiseModel.estimated([np.zeros((3, 4, 4))], 0.0) == NoiseModel(0.0, 0.0, 0.0)


@pytest.mark.parametrize("seed", range(3))
def test_white_noise_has_a_correlation_ratio_of_one(seed):
    noisy = 120 + 9 * np.random.default_rng(seed).normal(size=(6, 128, 128))
    found = NoiseModel.from_setting("correlated", [noisy], 120.0)
    assert found.correlation_ratio == pytest.approx(1, abs=0.03)
    assert found.rms([noisy]) == pytest.approx(9, rel=0.05)


@pytest.mark.parametrize(
    "setting", ["auto", "poisson", "correlated", 7, PoissonGaussian(gain=1, sigma=3, black=10)]
)
def test_a_noise_model_comes_back_from_json(setting):
    noisy = np.random.default_rng(0).poisson(90, (4, 96, 96)).astype(np.uint8)
    model = NoiseModel.from_setting(setting, [noisy], 90.0)
    assert NoiseModel(**json.loads(json.dumps(asdict(model)))) == model
