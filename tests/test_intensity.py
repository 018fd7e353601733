import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from emgen.volumes.intensity import Intensity, store, tissue

integers = st.sampled_from([np.uint8, np.uint16, np.int16])


@given(
    integers.flatmap(lambda kind: hnp.arrays(kind, (3, 4, 5))),
    st.floats(-300, 300),
    st.floats(1, 70000),
)
def test_stored_integers_come_back_exactly(stored, low, width):
    scale = Intensity(low, low + width)
    assert (store(scale.decode(scale.encode(stored)), stored.dtype) == stored).all()


def test_the_limits_become_minus_one_and_one():
    assert Intensity(10, 20).encode(np.array([10, 15, 20])).tolist() == [-1, 0, 1]


def test_values_beyond_an_integer_type_are_clipped_not_wrapped():
    assert store(np.array([-3.2, 255.6, 300.0]), np.uint8).tolist() == [0, 255, 255]


def test_percentiles_ignore_single_bright_pixels():
    voxels = np.random.default_rng(0).uniform(50, 200, (40, 50, 50))
    voxels[0, 0, 0] = 1e9
    scale = Intensity.of([voxels])
    assert 49 < scale.low < 51 and 199 < scale.high < 201


def test_a_nearly_constant_volume_still_has_a_scale():
    voxels = np.full((20, 50, 50), 7)
    voxels[3, 4, 5] = 9
    assert Intensity.of([voxels]) == Intensity(7, 9)
    black, grey, white = (np.full((1, 60, n), v) for n, v in ((30, 0), (2, 128), (28, 255)))
    assert Intensity.of([np.concatenate([black, grey, white], 2)]) == Intensity(0, 255)


@pytest.mark.parametrize(
    ("voxels", "fault"),
    [(np.full(9, 7), "grey value 7"), (np.array([np.inf, np.nan]), "nothing but NaN")],
)
def test_what_cannot_be_scaled_is_refused(voxels, fault):
    with pytest.raises(ValueError, match=fault):
        Intensity.of([voxels])


@pytest.mark.parametrize("sigma", [0.0, 10.0, 40.0])
def test_noise_does_not_change_the_contrast_of_tissue(sigma):
    rng = np.random.default_rng(0)
    tissue = 120 + 30 * rng.normal(size=(20, 60, 60))
    clean = Intensity.of([tissue])
    noisy = [tissue + sigma * rng.normal(size=tissue.shape)]
    found = Intensity.of(noisy).without_noise(noisy, sigma)
    assert found.low == pytest.approx(clean.low, abs=5)
    assert found.high == pytest.approx(clean.high, abs=5)


@pytest.mark.parametrize("value", [0, 255])
def test_padding_of_aligned_stacks_changes_no_scaling(value):
    rng = np.random.default_rng(0)
    voxels = np.clip(120 + 30 * rng.normal(size=(6, 40, 40)), 1, 254).astype(np.uint8)
    padded = np.pad(voxels, ((1, 2), (3, 40), (30, 3)), constant_values=value)
    assert (np.sort(tissue([padded])) == np.sort(voxels.ravel())).all()
    scale = Intensity.of([voxels])
    assert Intensity.of([padded]) == scale
    assert Intensity.of([padded]).without_noise([padded], 10) == scale.without_noise([voxels], 10)


def test_noise_that_cannot_be_leaves_some_contrast():
    values = [np.random.default_rng(0).normal(size=5000)]
    found = Intensity.of(values).without_noise(values, 50.0)
    assert found.low < found.high
