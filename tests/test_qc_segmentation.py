"""Segmentation errors: oracles, identities, additivity, and a segmenter that finds cells."""

import dataclasses

import numpy as np
import pytest
import scipy.ndimage
import scipy.spatial
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage import metrics
from statsmodels.stats.proportion import proportion_confint

from emgen.geometry import VoxelSize
from emgen.qc.object_errors import (
    ErrorCounts,
    adapted_rand_error,
    contingency,
    error_counts,
    pooled,
    voi,
    wilson,
)
from emgen.qc.segmenter import membranes, segment

VOXEL = VoxelSize(8, 8, 8)
labels = hnp.arrays(np.uint32, (4, 5, 6), elements=st.integers(0, 6))


@pytest.fixture(scope="module")
def cells():
    """Cells of a Voronoi diagram with dark membranes, in [-1, 1], and their labels."""
    shape, rng = (40, 64, 64), np.random.default_rng(0)
    seeds = rng.uniform(0, shape, (30, 3))
    points = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    distance, nearest = scipy.spatial.cKDTree(seeds).query(points, k=2)
    membrane = np.exp(-(((distance[..., 1] - distance[..., 0]) / 3.0) ** 2))
    grey = 0.6 - 1.4 * membrane + rng.normal(0, 0.08, shape)
    return grey.astype(np.float32), (nearest[..., 0] + 1).astype(np.uint32)


@settings(max_examples=50, deadline=None)
@given(labels, labels)
def test_voi_and_rand_error_are_those_of_scikit_image(reference, test):
    table = contingency(reference, test)
    if not (reference != 0).any():
        assert (voi(table), adapted_rand_error(table)) == ((0, 0), None)
        return
    expected = metrics.variation_of_information(reference, test, ignore_labels=[0])
    np.testing.assert_allclose(voi(table), expected, atol=1e-9)
    known = reference != 0
    sizes = [np.unique(volume[known], return_counts=True)[1] for volume in (reference, test)]
    if max(map(max, sizes)) > 1:
        oracle = adapted_rand_oracle(reference[known], test[known])
        assert adapted_rand_error(table) == pytest.approx(oracle, abs=1e-9)


def adapted_rand_oracle(reference, test):
    # An artificial axis: scikit-image ignores 0 of the reference by default, as we do.
    with np.errstate(invalid="ignore", divide="ignore"):
        return metrics.adapted_rand_error(reference[None], test[None])[0]


@settings(max_examples=50, deadline=None)
@given(labels, labels, st.permutations(range(1, 8)))
def test_names_do_not_matter_and_sides_swap(reference, test, names):
    reference, test = reference + 1, test + 1
    renamed = np.array([0, *names], dtype=np.uint32)[test]
    np.testing.assert_allclose(
        voi(contingency(reference, test)), voi(contingency(reference, renamed)), atol=1e-9
    )
    np.testing.assert_allclose(
        voi(contingency(reference, test)), voi(contingency(test, reference))[::-1], atol=1e-9
    )
    assert voi(contingency(test, renamed)) == pytest.approx((0, 0), abs=1e-9)
    assert adapted_rand_error(contingency(test, renamed)) in (None, pytest.approx(0))


@settings(max_examples=50, deadline=None)
@given(labels, labels)
def test_tiles_of_global_labels_add_up(reference, test):
    whole = contingency(reference, test)
    parts = pooled([contingency(reference[k : k + 1], test[k : k + 1]) for k in range(4)])
    for field in dataclasses.fields(whole):
        np.testing.assert_array_equal(getattr(whole, field.name), getattr(parts, field.name))


def test_tiles_of_their_own_labels_stay_apart():
    rng = np.random.default_rng(0)
    tiles = [rng.integers(0, 4, (2, 6, 10, 10)).astype(np.uint32) for _ in range(3)]
    tables = [contingency(*tile, tile=k) for k, tile in enumerate(tiles)]
    both = pooled(tables)
    weights = [table.voxels for table in tables]
    expected = np.average([voi(table) for table in tables], axis=0, weights=weights)
    np.testing.assert_allclose(voi(both), expected)
    counts = [error_counts(table, smallest=10) for table in tables]
    for field in dataclasses.fields(ErrorCounts):
        parts = [getattr(count, field.name) for count in counts]
        assert getattr(error_counts(both, smallest=10), field.name) == sum(parts)
    glued = pooled([contingency(*tile) for tile in tiles])
    assert error_counts(glued, smallest=10).objects == 3


def test_labels_may_fill_64_bits():
    reference = np.array([[[2**63 + 1, 2**63 + 2, 0]]], dtype=np.uint64)
    table = contingency(reference, reference[::-1])
    np.testing.assert_array_equal(table.reference, [2**63 + 1, 2**63 + 2])
    assert voi(table) == (0, 0)


def test_split_and_merge_errors_per_object():
    reference = np.repeat([1, 2, 3, 4], 1000).reshape(4, 10, 100)
    test = np.repeat([1, 1, 3, 4], 1000).reshape(4, 10, 100)  # 1 and 2 are merged
    test[2, 5:] = 9  # 3 is split
    test[3, 0, :40] = 8  # 4 % of 4: no error
    found = error_counts(contingency(reference, test), smallest=20)
    assert found == ErrorCounts(objects=4, split=1, merged=2, error_free=1)
    assert found.error_free_interval == wilson(1, 4)
    one_more = contingency(reference, np.where(test == 8, 7, test), tile=1)
    assert error_counts(one_more, smallest=2000) == ErrorCounts()


def test_small_overlaps_and_small_objects_do_not_count():
    reference = np.repeat([1, 2], [900, 100]).reshape(1, 10, 100)
    test = np.ones_like(reference)
    assert error_counts(contingency(reference, test), smallest=101).merged == 0
    assert error_counts(contingency(reference, test), smallest=100).merged == 2


def test_wrong_labels_are_refused():
    good = np.ones((2, 2, 2), dtype=np.uint8)
    with pytest.raises(ValueError, match="one shape"):
        contingency(good, good[1:])
    with pytest.raises(ValueError, match="integer"):
        contingency(good, good.astype(float))


@given(st.integers(1, 1000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_is_that_of_statsmodels(counts):
    successes, n = counts
    expected = proportion_confint(successes, n, method="wilson")
    np.testing.assert_allclose(wilson(successes, n), np.clip(expected, 0, 1), atol=1e-9)
    assert 0 <= wilson(successes, n)[0] <= successes / n <= wilson(successes, n)[1] <= 1


def test_wilson_of_nothing_says_nothing():
    assert wilson(0, 0) == (0, 1)
    with pytest.raises(ValueError, match="successes"):
        wilson(3, 2)


def test_cells_are_found(cells):
    grey, truth = cells
    found = segment(grey, VOXEL)
    split, merge = voi(contingency(truth, found))
    assert found.dtype == np.uint32
    assert found.min() == 1
    assert found.max() == len(np.unique(found))
    assert split + merge < 0.8
    np.testing.assert_array_equal(found, segment(grey, VOXEL))


def test_grey_values_are_scaled_by_the_caller(cells):
    grey, _ = cells
    stored = np.rint((grey + 1) * 100)
    table = contingency(segment(grey, VOXEL), segment(stored, VOXEL, low=0, high=200))
    assert sum(voi(table)) < 0.3


def test_lost_membranes_merge_cells(cells):
    grey, truth = cells
    blurred = scipy.ndimage.gaussian_filter(grey, 3.0)
    sharp_merge, blurred_merge = (
        voi(contingency(truth, segment(v, VOXEL)))[1] for v in (grey, blurred)
    )
    assert blurred_merge > sharp_merge + 0.3


def test_thick_sections_are_followed_each_by_itself(cells):
    grey, truth = cells
    found = segment(grey[::5], VoxelSize(40, 8, 8))
    assert sum(voi(contingency(truth[::5], found))) < 2.0
    sheet = membranes(np.ones((3, 32, 32), np.float32), VoxelSize(40, 4, 4))
    np.testing.assert_allclose(sheet, 0, atol=1e-5)


@pytest.mark.parametrize("grey", [-1.0, 0.0, 1.0])
def test_a_volume_without_structure_is_one_object(grey):
    assert segment(np.full((16, 16, 16), grey), VOXEL).max() == 1


def test_a_volume_that_cannot_be_segmented_is_refused():
    with pytest.raises(ValueError, match="low < high"):
        segment(np.zeros((8, 8, 8)), VOXEL, low=1, high=1)
    with pytest.raises(ValueError, match="shape"):
        segment(np.zeros((8, 8)), VOXEL)
