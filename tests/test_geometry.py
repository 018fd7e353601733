import pytest
from hypothesis import given
from hypothesis import strategies as st

from emgen.geometry import Box, VoxelSize

corner = st.tuples(*[st.integers(-50, 50)] * 3)
sizes = st.tuples(*[st.integers(0, 40)] * 3)
boxes = st.builds(
    lambda a, s: Box(a, tuple(p + n for p, n in zip(a, s, strict=True))), corner, sizes
)


@given(boxes, sizes)
def test_growing_adds_to_both_sides_and_keeps_the_box_inside(box, by):
    grown = box.grow(by)
    assert grown.contains(box)
    assert grown.shape == tuple(n + 2 * d for n, d in zip(box.shape, by, strict=True))


@given(boxes, boxes)
def test_the_intersection_is_symmetric_and_in_both(a, b):
    shared = a.intersect(b)
    assert shared.size == b.intersect(a).size
    assert not shared.size or (a.contains(shared) and b.contains(shared))


@given(boxes, corner)
def test_relative_boxes_shift_back(box, offset):
    origin = Box(offset, offset)
    assert box.relative_to(origin).shift(offset) == box


def test_a_box_cannot_end_before_it_starts():
    with pytest.raises(ValueError, match="must not end before it starts"):
        Box((0, 0, 5), (1, 1, 4))


def test_voxel_sizes_are_read_and_scaled():
    voxel = VoxelSize.parse("40, 4,4")
    assert (voxel.anisotropy, VoxelSize.parse("8")) == (10, VoxelSize(8, 8, 8))
    assert voxel.scaled((0.1, 1, 1)) == VoxelSize(4, 4, 4)


@pytest.mark.parametrize("text", ["", "4,4", "a,b,c", "4;4;4"])
def test_a_voxel_size_that_is_none_is_refused(text):
    with pytest.raises(ValueError, match="expected a voxel size"):
        VoxelSize.parse(text)


@pytest.mark.parametrize("size", [0, -1, float("nan"), float("inf")])
def test_a_voxel_has_a_positive_size(size):
    with pytest.raises(ValueError, match="positive number"):
        VoxelSize(8, size, 8)
