"""Laws of the Fourier shell correlation: identities, closed forms, sums over tiles."""

import dataclasses
import functools
import operator

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from emgen.geometry import VoxelSize
from emgen.qc import fourier
from emgen.qc.fourier import SECTORS, curve, register, resolution, shell_sums

ISO = VoxelSize(8, 8, 8)
# Not a cube, odd and even sides, anisotropic voxels.
SHAPE, ANISO = (24, 45, 50), VoxelSize(16, 8, 6)


def white(shape, seed):
    return np.random.default_rng(seed).normal(size=shape)


def noise_of_power(shape, voxel, power, seed, direction=None):
    """Gaussian noise whose power spectrum is `power(frequency in 1/nm)`."""
    f = np.meshgrid(*(np.fft.fftfreq(n, d) for n, d in zip(shape, voxel)), indexing="ij")
    radius = np.sqrt(sum(axis**2 for axis in f))
    amplitude = np.sqrt(power(radius))
    if direction is not None:
        amplitude = amplitude * direction(np.abs(f[0]) / np.maximum(radius, 1e-12))
    return np.fft.ifftn(np.fft.fftn(white(shape, seed)) * amplitude).real


def total(sums):
    return functools.reduce(operator.add, sums)


@pytest.mark.parametrize("sector", SECTORS)
@pytest.mark.parametrize(("shape", "voxel"), [((32, 32, 32), ISO), (SHAPE, ANISO)])
def test_a_volume_agrees_with_itself_up_to_nyquist(shape, voxel, sector):
    a = white(shape, 0)
    fsc_curve = curve(shell_sums(a, a, voxel), sector)
    np.testing.assert_allclose(fsc_curve.correlation, 1, atol=1e-12)
    found = resolution(fsc_curve)
    assert found.at_nyquist
    assert found.value_nm == pytest.approx(1 / fsc_curve.nyquist)


@settings(max_examples=20, deadline=None)
@given(st.floats(0.01, 100), st.floats(-1000, 1000))
def test_brightness_and_contrast_do_not_matter(gain, offset):
    a = white((12, 16, 15), 0)
    np.testing.assert_allclose(
        curve(shell_sums(a, gain * a + offset, ISO)).correlation, 1, atol=1e-6
    )
    np.testing.assert_allclose(
        curve(shell_sums(a, offset - gain * a, ISO)).correlation, -1, atol=1e-6
    )


@settings(max_examples=20, deadline=None)
@given(
    hnp.arrays(np.float64, (5, 7, 6), elements=st.floats(-100, 100)),
    hnp.arrays(np.float64, (5, 7, 6), elements=st.floats(-100, 100)),
)
def test_bounded_and_symmetric(a, b):
    for sector in SECTORS:
        one, other = (curve(shell_sums(*pair, ANISO), sector) for pair in ((a, b), (b, a)))
        assert np.all(np.abs(one.correlation) <= 1)
        np.testing.assert_allclose(one.correlation, other.correlation, atol=1e-12)


@pytest.mark.parametrize("sector", SECTORS)
def test_independent_noise_does_not_correlate(sector):
    tiles = [white((32, 32, 32), seed) for seed in range(16)]
    pairs = zip(tiles[::2], tiles[1::2], strict=True)
    fsc_curve = curve(total(shell_sums(a, b, ISO) for a, b in pairs), sector)
    # The standard deviation of a shell is 1 / sqrt(independent coefficients); the window and the
    # Friedel pairs make these about 2 * 1.5^3 fewer than n.
    assert np.all(np.abs(fsc_curve.correlation) * np.sqrt(fsc_curve.n / 6.75) < 4)
    mean = np.average(fsc_curve.correlation, weights=fsc_curve.n)
    assert abs(mean) < 4 * np.sqrt(6.75 / fsc_curve.n.sum())
    assert resolution(fsc_curve).value_nm is None
    assert "first shell" in resolution(fsc_curve).reason


@pytest.mark.parametrize(("shape", "voxel"), [((56, 56, 56), ISO), ((32, 60, 64), ANISO)])
def test_a_reference_and_its_noisy_copy_cross_where_the_closed_form_says(shape, voxel):
    # White signal S = 1, noise N = 3 (f/f0)^4: 1 / sqrt(1 + N/S) = 0.5 at f0.
    f0 = 0.7 * curve(shell_sums(white(shape, 0), white(shape, 0), voxel)).nyquist
    signals = [white(shape, seed) for seed in range(4)]
    noises = [
        noise_of_power(shape, voxel, lambda f: 3 * (f / f0) ** 4, seed) for seed in (4, 5, 6, 7)
    ]
    sums = total(shell_sums(s, s + n, voxel) for s, n in zip(signals, noises, strict=True))
    found = resolution(curve(sums), 0.5)
    assert found.value_nm == pytest.approx(1 / f0, rel=0.06)
    assert not found.at_nyquist


def test_two_noisy_halves_cross_0143_where_the_closed_form_says():
    # S / (S + N) = 0.143 at f0 for N = (1 / 0.143 - 1) (f/f0)^4.
    shape, f0 = (64, 64, 64), 0.7 / 16
    halves = [
        white(shape, 0)
        + noise_of_power(shape, ISO, lambda f: (1 / 0.143 - 1) * (f / f0) ** 4, seed)
        for seed in (1, 2)
    ]
    found = resolution(curve(shell_sums(*halves, ISO)), 0.143)
    assert found.value_nm == pytest.approx(1 / f0, rel=0.06)


def test_sectors_tell_axial_from_lateral_loss():
    shape, tiles = (48, 48, 48), []
    for seed in range(4):
        signal = white(shape, seed)
        noise = noise_of_power(
            shape, ISO, lambda f: 3 * (f / 0.03) ** 4, seed + 4, lambda cosine: cosine > 0.8
        )
        tiles.append(shell_sums(signal, signal + noise, ISO))
    sums = total(tiles)
    assert resolution(curve(sums, "axial")).value_nm == pytest.approx(1 / 0.03, rel=0.1)
    assert resolution(curve(sums, "lateral")).at_nyquist


def test_frequencies_are_physical():
    a, b = white((32, 32, 32), 0), white((32, 32, 32), 0) + white((32, 32, 32), 1)
    fine, coarse = (curve(shell_sums(a, b, VoxelSize(s, s, s))) for s in (4, 8))
    np.testing.assert_allclose(fine.frequency, 2 * coarse.frequency)
    np.testing.assert_allclose(fine.correlation, coarse.correlation)
    np.testing.assert_allclose(coarse.frequency[-1], 1 / 16)
    np.testing.assert_array_equal(fine.n, coarse.n)


def test_every_coefficient_up_to_nyquist_is_counted_once():
    f = np.meshgrid(*(np.fft.fftfreq(n, d) for n, d in zip(SHAPE, ANISO)), indexing="ij")
    sums = shell_sums(white(SHAPE, 0), white(SHAPE, 1), ANISO)
    radius = np.sqrt(sum(axis**2 for axis in f)) / sums.width
    inside = np.floor(radius + 0.5).astype(int)
    expected = np.bincount(inside[inside < sums.count.shape[1]], minlength=sums.count.shape[1])
    np.testing.assert_array_equal(sums.count[0], expected)


def test_tiles_add_up_in_any_order():
    width = fourier.shell_width((16, 16, 16), ISO)
    tiles = [
        shell_sums(white((16, 16, n), n), white((16, 16, n), n + 50), ISO, width=width)
        for n in (16, 20, 24)
    ]
    forth, back = tiles[0] + tiles[1] + tiles[2], tiles[2] + (tiles[1] + tiles[0])
    for name in ("cross", "power_a", "power_b", "count"):
        np.testing.assert_allclose(getattr(forth, name), getattr(back, name), atol=1e-6)
        np.testing.assert_allclose(
            getattr(forth, name), sum(getattr(tile, name) for tile in tiles), atol=1e-6
        )


def test_tiles_of_other_shells_are_refused():
    a, b = white((16, 16, 16), 0), white((16, 16, 20), 0)
    with pytest.raises(ValueError, match="same width"):
        shell_sums(a, a, ISO) + shell_sums(a, a, ISO, width=0.001)
    with pytest.raises(ValueError, match="voxel size"):
        shell_sums(a, a, ISO) + shell_sums(a, a, VoxelSize(4, 8, 8), width=1 / 128)
    with pytest.raises(ValueError, match="one shape"):
        shell_sums(a, b, ISO)
    with pytest.raises(ValueError, match="more than one voxel"):
        shell_sums(a[:1, :1, :1], a[:1, :1, :1], ISO)


def test_without_the_window_opposite_faces_correlate(monkeypatch):
    # A strong gradient common to both: its jump at the faces spreads over all frequencies.
    ramp = 100 * np.linspace(-1, 1, 40)[:, None, None] * np.ones((40, 40, 40))
    a, b = white((40, 40, 40), 0) + ramp, white((40, 40, 40), 1) + ramp
    windowed = curve(shell_sums(a, b, ISO), "axial")
    monkeypatch.setattr(fourier, "_window", np.ones)
    bare = curve(shell_sums(a, b, ISO), "axial")
    assert windowed.correlation[-4:].max() < 0.3
    assert bare.correlation[-4:].min() > 0.5


def test_inputs_stay_as_they_are():
    a, b = (np.random.default_rng(s).integers(0, 255, (12, 12, 12), np.uint8) for s in (0, 1))
    kept = a.copy(), b.copy()
    shell_sums(a, b, ISO, registration=register(a, b, ISO))
    np.testing.assert_array_equal((a, b), kept)


@pytest.mark.parametrize("shift", [(0, 0, 1), (1, -2, 0), (0.4, 0, -1.3)])
def test_registration_finds_and_undoes_a_shift(shift):
    voxel = VoxelSize(16, 8, 4)
    large = scipy.ndimage.gaussian_filter(white((48, 48, 48), 0), 1.0)
    moved = scipy.ndimage.shift(large, shift, order=5)
    a, b = large[6:-6, 6:-6, 6:-6], moved[6:-6, 6:-6, 6:-6]
    found = register(a, b, voxel)
    assert found.applied
    np.testing.assert_allclose(found.voxels, [-s for s in shift], atol=0.08)
    np.testing.assert_allclose(found.nm, np.multiply(found.voxels, tuple(voxel)))
    bare = curve(shell_sums(a, b, voxel)).correlation
    mended = curve(shell_sums(a, b, voxel, registration=found)).correlation
    assert mended.min() > 0.9 > bare.min()


def test_registration_leaves_alone_what_is_not_a_small_shift():
    a = scipy.ndimage.gaussian_filter(white((40, 40, 40), 0), 1.0)
    same = register(a, a, ISO)
    far = register(a[:, :, 5:], a[:, :, :-5], ISO)
    flat = register(a, np.ones_like(a), ISO)
    assert not (same.applied or far.applied or flat.applied)
    assert same.voxels == (0, 0, 0)
    assert far.voxels[2] == pytest.approx(-5, abs=0.1)
    assert "without contrast" in flat.reason
    np.testing.assert_array_equal(fourier.align(a, a, far)[1], a)


def test_resolution_interpolates_the_first_downward_crossing():
    made = fourier.FscCurve(
        "spherical", np.array([1.0, 2, 3, 4]), np.array([1, 0.6, 0.2, 0.9]), np.ones(4), 4.0
    )
    assert resolution(made, 0.5).value_nm == pytest.approx(1 / 2.25)
    assert resolution(made, 0.1) == fourier.Resolution(
        0.1, 0.25, True, resolution(made, 0.1).reason
    )
    low = dataclasses.replace(made, correlation=made.correlation - 0.8)
    assert resolution(low, 0.5).value_nm is None


def test_volumes_without_contrast_have_no_resolution():
    a = white((16, 16, 16), 0)
    found = resolution(curve(shell_sums(a, np.full_like(a, 7.3), ISO)))
    assert (found.value_nm, found.at_nyquist) == (None, False)
    assert "no shell" in found.reason


def test_a_single_section_has_a_lateral_curve_only():
    a = white((1, 32, 32), 0)
    sums = shell_sums(a, a, VoxelSize(40, 4, 4))
    assert resolution(curve(sums, "lateral")).value_nm == pytest.approx(8)
    assert resolution(curve(sums, "axial")).value_nm is None
