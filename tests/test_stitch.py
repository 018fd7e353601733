import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_grid import grids

from emgen.geometry import Box
from emgen.run.stitch import blend, ramp
from emgen.volumes.grid import Grid


@settings(max_examples=40)
@given(grids())
def test_blending_what_was_split_gives_it_back(grid):
    volume = np.random.default_rng(len(grid)).normal(size=grid.shape)
    whole = Box.whole(grid.shape)
    np.testing.assert_allclose(
        blend(grid, whole, lambda block, box: volume[box.slices]), volume, atol=1e-12
    )


@settings(max_examples=40)
@given(grids())
def test_a_core_comes_out_the_same_alone_or_with_the_rest(grid):
    rng = np.random.default_rng(0)
    results = {i: rng.normal(size=grid[i].outer.shape) for i in range(len(grid))}

    def read(block, box):
        return results[block.index][box.relative_to(block.outer).slices]

    whole = blend(grid, Box.whole(grid.shape), read)
    for index in range(len(grid)):
        core = grid[index].core
        assert (blend(grid, core, read) == whole[core.slices]).all()


@given(st.integers(1, 20), st.integers(0, 20), st.integers(2, 5))
def test_neighbouring_ramps_add_up_to_one(halo, extra, count):
    block = 2 * halo + extra
    grid = Grid((1, 1, count * block), (1, 1, block), (0, 0, halo))
    total = np.zeros(count * block)
    for index in range(len(grid)):
        outer = grid[index].outer
        total[outer.start[2] : outer.stop[2]] += ramp(
            outer.start[2], outer.stop[2], count * block, halo
        )
    np.testing.assert_allclose(total, 1)


def test_a_step_between_blocks_becomes_a_ramp_not_an_edge():
    grid = Grid((1, 1, 64), (1, 1, 32), (0, 0, 8))
    line = blend(
        grid, Box.whole(grid.shape), lambda block, box: np.full(box.shape, float(block.index))
    )[0, 0]
    assert line[:24].max() == 0 and line[40:].min() == 1
    np.testing.assert_allclose(np.diff(line[24:40]), 1 / 16)


@pytest.mark.parametrize("length", [10, 6])
def test_the_ends_of_the_volume_have_full_weight(length):
    weight = ramp(0, 6, length, 2)
    assert weight[0] == 1
    assert (weight[-1] == 1) == (length == 6)
