import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from emgen.geometry import Box
from emgen.volumes.grid import Grid

axis = st.integers(1, 40)


@st.composite
def grids(draw):
    shape, block = (draw(st.tuples(axis, axis, axis)) for _ in range(2))
    block = tuple(max(b, n // 4, 1) for b, n in zip(block, shape, strict=True))
    halo = tuple(draw(st.integers(0, b)) for b in block)
    return Grid(shape, block, halo, draw(st.integers(1, 9)))


@given(grids())
def test_cores_tile_the_volume(grid):
    owners = np.zeros(grid.shape, int)
    for index in range(len(grid)):
        owners[grid[index].core.slices] += 1
    assert (owners == 1).all()


@given(grids())
def test_jobs_share_out_every_block_once(grid):
    blocks = [index for job in range(grid.jobs) for index in grid.job(job)]
    assert blocks == list(range(len(grid)))
    assert all(grid.job_of(index) == job for job in range(grid.jobs) for index in grid.job(job))


@given(grids())
def test_outer_boxes_hold_the_core_and_stay_inside(grid):
    for index in range(len(grid)):
        block = grid[index]
        assert block.outer.contains(block.core)
        assert Box.whole(grid.shape).contains(block.outer)
        assert all(n <= m for n, m in zip(block.outer.shape, grid.outer_shape(), strict=True))


@given(grids(), st.data())
def test_touching_finds_exactly_the_blocks_that_computed_a_box(grid, data):
    start = [data.draw(st.integers(0, n - 1)) for n in grid.shape]
    box = Box(
        start, [data.draw(st.integers(a + 1, n)) for a, n in zip(start, grid.shape, strict=True)]
    )
    expected = [i for i in range(len(grid)) if grid[i].outer.intersect(box).size]
    assert [block.index for block in grid.touching(box)] == expected


@given(grids())
def test_a_stitch_job_waits_for_every_job_it_reads(grid):
    for job in range(grid.jobs):
        needed = {grid.job_of(b.index) for i in grid.job(job) for b in grid.touching(grid[i].core)}
        assert set(grid.sources(job)) == needed
        assert job in needed


def test_a_halo_larger_than_the_block_is_refused():
    with pytest.raises(ValueError, match="must not be larger than the block"):
        Grid((64, 64, 64), (16, 16, 16), (17, 0, 0))


def test_blocks_outside_the_grid_do_not_exist():
    with pytest.raises(IndexError):
        Grid((10, 10, 10), (5, 5, 5), (0, 0, 0))[8]
