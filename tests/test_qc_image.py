"""PSNR and SSIM against scikit-image, sums over tiles, and the power that FSC does not see."""

import math

import numpy as np
import pytest
import scipy.ndimage
from emgen.qc.fsc import curve, shell_sums
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from emgen.geometry import VoxelSize
from emgen.qc import image


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    reference = rng.integers(0, 256, (14, 20, 18)).astype(np.uint8)
    test = np.clip(reference + rng.normal(3, 10, reference.shape), 0, 255).astype(np.uint8)
    return reference, test


def test_psnr_is_that_of_scikit_image(pair):
    expected = peak_signal_noise_ratio(*pair, data_range=255)
    assert image.psnr(*pair, 255) == pytest.approx(expected)


@given(st.floats(-50, 50), st.floats(1, 1e4))
def test_psnr_of_a_constant_error_is_closed_form(error, data_range):
    reference = np.zeros((2, 3, 4))
    sums = image.error_sums(reference, reference + error)
    assert sums.bias == pytest.approx(error)
    assert sums.rmse == pytest.approx(abs(error))
    if error * error > 1e-200:
        expected = 20 * math.log10(data_range / abs(error))
        assert sums.psnr(data_range) == pytest.approx(expected, abs=1e-6)


def test_equal_volumes_have_infinite_psnr_and_ssim_1(pair):
    assert image.psnr(pair[0], pair[0], 255) == math.inf
    for value in image.ssim(pair[0], pair[0], 255).values():
        assert value == pytest.approx(1)


def test_ssim_is_the_mean_of_scikit_image_over_slices(pair):
    found = image.ssim(*pair, 255)
    for plane, axis in (("xy", 0), ("xz", 1), ("yz", 2)):
        slices = [np.moveaxis(v, axis, 0) for v in pair]
        expected = np.mean(
            [
                structural_similarity(
                    a,
                    b,
                    data_range=255,
                    gaussian_weights=True,
                    sigma=1.5,
                    use_sample_covariance=False,
                )
                for a, b in zip(*slices)
            ]
        )
        assert found[plane] == pytest.approx(expected, abs=1e-6)


def test_tiles_add_up(pair):
    reference, test = pair
    halves = [(reference[:7], test[:7]), (reference[7:], test[7:])]
    errors = image.error_sums(*halves[0]) + image.error_sums(*halves[1])
    assert errors.psnr(255) == pytest.approx(image.psnr(*pair, 255))
    sums = image.ssim_sums(*halves[0], 255) + image.ssim_sums(*halves[1], 255)
    assert sums.mean("xy") == pytest.approx(image.ssim(*pair, 255)["xy"])


def test_slices_smaller_than_the_window_have_no_ssim(pair):
    reference, test = (v[:5] for v in pair)
    found = image.ssim(reference, test, 255)
    assert found["xz"] is None
    assert found["yz"] is None
    assert found["xy"] is not None


def test_nothing_measured_is_none():
    assert image.ErrorSums().psnr(255) is None
    assert image.ErrorSums().rmse is None
    assert image.SsimSums().mean("xy") is None


def test_power_ratio_shows_a_blur_that_fsc_does_not():
    voxel, a = VoxelSize(8, 8, 8), np.random.default_rng(0).normal(size=(32, 32, 32))
    blurred = scipy.ndimage.gaussian_filter1d(a, 1.0, axis=0, mode="wrap")
    sums = shell_sums(a, blurred, voxel)
    assert curve(sums, "axial").correlation.min() > 0.9
    assert image.power_spectrum_ratio(sums, "axial") < 0.1
    assert image.power_spectrum_ratio(sums, "lateral") > 5 * image.power_spectrum_ratio(
        sums, "axial"
    )
    doubled = shell_sums(a, 2 * a, voxel)
    assert image.power_spectrum_ratio(doubled, "spherical") == pytest.approx(4)
    flat = shell_sums(np.zeros_like(a), a, voxel)
    assert image.power_spectrum_ratio(flat, "axial") is None


def test_wrong_pairs_are_refused(pair):
    with pytest.raises(ValueError, match="one shape"):
        image.error_sums(pair[0], pair[1][1:])
    with pytest.raises(ValueError, match="one shape"):
        image.ssim_sums(pair[0], pair[1][1:], 255)
    with pytest.raises(ValueError, match="axes"):
        image.ssim_sums(pair[0][0], pair[1][0], 255)
    with pytest.raises(ValueError, match="above 0"):
        image.psnr(*pair, 0)
