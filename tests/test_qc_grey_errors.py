"""PSNR and SSIM against scikit-image, sums over tiles, and the power that FSC does not see."""

import math

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from emgen.geometry import VoxelSize
from emgen.qc.axes import PLANES
from emgen.qc.fourier import curve, power_ratio, shell_sums
from emgen.qc.grey_errors import ErrorSums, SsimSums, error_sums, ssim_sums


def ssim(reference, test):
    sums = ssim_sums(reference, test, 255)
    return {plane: sums.mean(plane) for plane in PLANES}


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    reference = rng.integers(0, 256, (14, 20, 18)).astype(np.uint8)
    test = np.clip(reference + rng.normal(3, 10, reference.shape), 0, 255).astype(np.uint8)
    return reference, test


def test_psnr_is_that_of_scikit_image(pair):
    expected = peak_signal_noise_ratio(*pair, data_range=255)
    assert error_sums(*pair).psnr(255) == pytest.approx(expected)


@given(st.floats(-50, 50), st.floats(1, 1e4))
def test_psnr_of_a_constant_error_is_closed_form(error, data_range):
    reference = np.zeros((2, 3, 4))
    sums = error_sums(reference, reference + error)
    assert sums.bias == pytest.approx(error)
    assert sums.rmse == pytest.approx(abs(error))
    if error * error > 1e-200:
        expected = 20 * math.log10(data_range / abs(error))
        assert sums.psnr(data_range) == pytest.approx(expected, abs=1e-6)


def test_equal_volumes_have_infinite_psnr_and_ssim_1(pair):
    assert error_sums(pair[0], pair[0]).psnr(255) == math.inf
    for value in ssim(pair[0], pair[0]).values():
        assert value == pytest.approx(1)


def test_ssim_is_the_mean_of_scikit_image_over_slices(pair):
    values = ssim(*pair)
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
        assert values[plane] == pytest.approx(expected, abs=1e-6)


def test_tiles_add_up(pair):
    reference, test = pair
    halves = [(reference[:7], test[:7]), (reference[7:], test[7:])]
    errors = error_sums(*halves[0]) + error_sums(*halves[1])
    assert errors.psnr(255) == pytest.approx(error_sums(*pair).psnr(255))
    sums = ssim_sums(*halves[0], 255) + ssim_sums(*halves[1], 255)
    assert sums.mean("xy") == pytest.approx(ssim(*pair)["xy"])


def test_slices_smaller_than_the_window_have_no_ssim(pair):
    reference, test = (v[:5] for v in pair)
    values = ssim(reference, test)
    assert values["xz"] is None
    assert values["yz"] is None
    assert values["xy"] is not None


def test_nothing_measured_is_none():
    assert ErrorSums().psnr(255) is None
    assert ErrorSums().rmse is None
    assert SsimSums().mean("xy") is None


def test_power_ratio_shows_a_blur_that_fsc_does_not():
    voxel, a = VoxelSize(8, 8, 8), np.random.default_rng(0).normal(size=(32, 32, 32))
    blurred = scipy.ndimage.gaussian_filter1d(a, 1.0, axis=0, mode="wrap")
    sums = shell_sums(a, blurred, voxel)
    assert curve(sums, "axial").correlation.min() > 0.9
    assert power_ratio(sums, "axial") < 0.1
    assert power_ratio(sums, "lateral") > 5 * power_ratio(sums, "axial")
    doubled = shell_sums(a, 2 * a, voxel)
    assert power_ratio(doubled, "spherical") == pytest.approx(4)
    flat = shell_sums(np.zeros_like(a), a, voxel)
    assert power_ratio(flat, "axial") is None


def test_wrong_pairs_are_refused(pair):
    with pytest.raises(ValueError, match="one shape"):
        error_sums(pair[0], pair[1][1:])
    with pytest.raises(ValueError, match="one shape"):
        ssim_sums(pair[0], pair[1][1:], 255)
    with pytest.raises(ValueError, match="axes"):
        ssim_sums(pair[0][0], pair[1][0], 255)
    with pytest.raises(ValueError, match="above 0"):
        error_sums(*pair).psnr(0)
