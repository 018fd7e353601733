"""A result that explains its input agrees with it to within the noise, per frequency too."""

import numpy as np
import pytest

from emgen.geometry import VoxelSize
from emgen.qc.fourier import curve, resolution
from emgen.qc.metrics.consistency import misfit

VOXEL = VoxelSize(32, 8, 8)


@pytest.fixture
def measured():
    return np.random.default_rng(0).normal(100, 20, (12, 32, 32))


def test_a_perfect_explanation_leaves_no_error(measured):
    tile = misfit(measured, measured, VOXEL)
    assert tile.errors.rmse == 0
    assert tile.errors.bias == 0
    assert resolution(curve(tile.shells)).at_nyquist


def test_what_is_left_is_the_noise(measured):
    noisy = measured + np.random.default_rng(1).normal(0, 5, measured.shape)
    tile = misfit(measured, noisy, VOXEL)
    assert tile.relative_to_noise(5) == pytest.approx(1, rel=0.03)
    assert tile.relative_to_noise(0) is None


def test_bias_has_the_sign_of_the_result(measured):
    assert misfit(measured + 2, measured, VOXEL).errors.bias == pytest.approx(2)


def test_invented_structure_does_not_correlate(measured):
    invented = np.random.default_rng(2).normal(100, 20, measured.shape)
    tile = misfit(invented, measured, VOXEL)
    assert tile.relative_to_noise(5) > 4
    assert resolution(curve(tile.shells, "lateral")).value_nm is None


def test_a_shift_is_a_fault_and_not_repaired(measured):
    tile = misfit(np.roll(measured, 1, axis=2), measured, VOXEL)
    assert curve(tile.shells, "lateral").correlation.min() < 0


def test_tiles_add_up(measured):
    width = 1 / 192
    halves = [
        misfit(measured[part] + 1, measured[part], VOXEL, width=width)
        for part in (np.s_[:6], np.s_[6:])
    ]
    both = halves[0] + halves[1]
    assert both.errors.count == measured.size
    assert both.errors.bias == pytest.approx(1)
    np.testing.assert_allclose(both.shells.cross, halves[0].shells.cross + halves[1].shells.cross)
