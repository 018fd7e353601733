from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from emgen.geometry import Box, VoxelSize
from emgen.volumes.pyramid import build, downsample, factors, units
from emgen.volumes.volume import Volume

step = st.tuples(*[st.sampled_from([1, 2])] * 3)
volumes = hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, max_side=9))


@given(volumes, step)
def test_levels_are_means_over_what_is_there_rounded(voxels, by):
    coarse = downsample(voxels, by)
    for at in np.ndindex(coarse.shape):
        cell = voxels[tuple(slice(i * s, (i + 1) * s) for i, s in zip(at, by, strict=True))]
        assert coarse[at] == np.rint(cell.mean())


def test_levels_do_not_darken():
    voxels = np.random.default_rng(0).integers(0, 256, (64, 64, 64)).astype(np.uint8)
    coarse = voxels
    for _ in range(4):
        coarse = downsample(coarse, (2, 2, 2))
    assert abs(coarse.mean() - voxels.mean()) < 0.1


def test_coarse_z_waits_until_x_and_y_have_caught_up():
    found = factors((200, 4096, 4096), VoxelSize(40, 4, 4))
    assert found[:5] == [(1, 1, 1), (1, 2, 2), (1, 4, 4), (1, 8, 8), (2, 16, 16)]


@given(
    st.tuples(*[st.integers(1, 3000)] * 3),
    st.tuples(*[st.sampled_from([4.0, 8.0, 30.0, 50.0])] * 3),
)
def test_the_last_level_is_small_and_every_step_at_most_two(shape, voxel):
    found = factors(shape, VoxelSize(*voxel))
    assert max(-(-n // f) for n, f in zip(shape, found[-1], strict=True)) <= 128
    for before, after in pairwise(found):
        assert all(b in (a, 2 * a) for a, b in zip(before, after, strict=True)) and before != after


@pytest.mark.parametrize("ngff", ["0.4", "0.5"])
def test_a_level_on_disk_is_the_mean_of_the_one_before(tmp_path, ngff):
    shape, voxel = (40, 65, 131), VoxelSize(8, 8, 8)
    voxels = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    levels = factors(shape, voxel)
    volume = Volume.create(
        tmp_path / "v.ome.zarr",
        shape,
        np.uint8,
        voxel,
        ngff=ngff,
        chunk=(16, 16, 16),
        shard=(32, 32, 32),
        factors=levels,
    )
    volume.write(Box.whole(shape), voxels)
    for level in range(1, len(levels)):
        build(volume.path, level, threads=2)
    coarse = Volume.open(volume.path, 1)
    assert coarse.voxel == voxel.scaled(levels[1])
    assert coarse.translation == tuple((f - 1) / 2 * 8 for f in levels[1])
    assert (coarse.read(Box.whole(coarse.shape)) == downsample(voxels, levels[1])).all()
    assert sum(box.size for box in units(coarse)) == np.prod(coarse.shape)
