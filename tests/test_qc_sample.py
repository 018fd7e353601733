import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from synthetic import SHAPE, run

from emgen.geometry import Box
from emgen.qc.sample import baseline, spread, supported, whole_blocks

sizes = st.tuples(*[st.integers(1, 60)] * 3)
tile_sizes = st.tuples(*[st.integers(1, 30)] * 3)


@given(sizes, tile_sizes, st.integers(1, 40))
def test_tiles_are_few_small_inside_and_apart(shape, tile, most):
    boxes = spread(shape, tile, most)
    seen = np.zeros(shape, int)
    for box in boxes:
        assert Box.whole(shape).contains(box) and box.size
        assert all(n <= t for n, t in zip(box.shape, tile, strict=True))
        seen[box.slices] += 1
    assert 1 <= len(boxes) <= most
    assert seen.max() == 1


@given(sizes, st.tuples(*[st.integers(9, 30)] * 3))
def test_enough_tiles_cover_every_voxel_once(shape, tile):
    cells = math.prod(-(-n // t) for n, t in zip(shape, tile, strict=True))
    assert sum(box.size for box in spread(shape, tile, cells)) == math.prod(shape)


@given(sizes, tile_sizes, st.integers(1, 40))
def test_tiles_of_a_volume_differ_by_one_voxel_at_most(shape, tile, most):
    for axis in range(3):
        lengths = {box.shape[axis] for box in spread(shape, tile, most)}
        assert max(lengths) - min(lengths) <= 1


def test_few_tiles_are_spread_over_all_axes():
    boxes = spread((1000, 1000, 1000), (10, 10, 10), 64)
    assert len(boxes) == 64
    for axis in range(3):
        assert sorted({box.start[axis] for box in boxes}) == [120, 370, 620, 870]


def test_a_plane_is_not_cut_along_its_single_section():
    assert {box.shape[0] for box in spread((1, 500, 500), (160, 160, 160), 4)} == {1}


@pytest.mark.parametrize(
    "arguments", [((0, 1, 1), (1, 1, 1), 1), ((1, 1, 1), (1, 0, 1), 1), ((1, 1, 1), (1, 1, 1), 0)]
)
def test_nothing_to_measure_is_refused(arguments):
    with pytest.raises(ValueError, match="positive"):
        spread(*arguments)


@given(sizes, tile_sizes, st.integers(1, 10**5))
def test_whole_blocks_begin_at_blocks_and_end_at_blocks_or_the_volume(shape, block, most):
    box = whole_blocks(shape, block, most)
    assert box.size and Box.whole(shape).contains(box)
    assert all(a % b == 0 for a, b in zip(box.start, block, strict=True))
    assert all(a % b == 0 or a == n for a, b, n in zip(box.stop, block, shape, strict=True))
    assert box.size <= max(most, math.prod(block))


def test_a_sample_reads_the_volumes_where_it_should(tmp_path):
    _, sample = run(tmp_path)
    tile = sample.read(Box((4, 0, 0), (9, 32, 40)))
    np.testing.assert_array_equal(tile.restored, tile.reference)
    # sections 4 and 8 were measured
    np.testing.assert_array_equal(tile.interpolated[[0, 4]], tile.reference[[0, 4]])
    np.testing.assert_allclose(tile.interpolated[2], (tile.reference[0] + tile.reference[4]) / 2)
    assert tile.candidate("interpolated") is tile.interpolated


def test_extrapolated_sections_are_not_measured(tmp_path):
    plan, sample = run(tmp_path)
    assert supported(plan) == Box((0, 0, 0), (21, *SHAPE[1:]))
    object.__setattr__(plan, "missing", (0, 5))
    assert supported(plan) == Box((4, 0, 0), (17, *SHAPE[1:]))
    assert max(box.stop[0] for box in sample.boxes) == 21
    assert sample.middle in sample.boxes


def test_tiles_are_mapped_in_order(tmp_path):
    _, sample = run(tmp_path)
    assert list(sample.map(lambda box: box, threads=2)) == list(sample.boxes)


def test_without_a_reference_there_is_none(tmp_path):
    plan, sample = run(tmp_path, reference=False)
    assert sample.read(sample.middle).reference is None
    assert baseline(plan) == "linear interpolation"


def test_on_the_voxels_of_the_output_the_baseline_is_the_input(tmp_path):
    plan, sample = run(tmp_path, factor=1)
    assert baseline(plan) == "the input"
    np.testing.assert_array_equal(
        sample.read(sample.middle).interpolated, sample.read(sample.middle).reference
    )
