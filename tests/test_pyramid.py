from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from emgen.errors import EmgenError
from emgen.geometry import Box, VoxelSize
from emgen.volumes.ledger import Ledgers
from emgen.volumes.pyramid import build, build_in, downsample, factors
from emgen.volumes.volume import Volume
from emgen.volumes.write_units import WriteUnits

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


SHAPE, VOXEL = (40, 65, 131), VoxelSize(8, 8, 8)


def written(folder, ngff="0.5"):
    """An image whose finest level alone is written, its voxels, and the ledgers that say so."""
    voxels = np.random.default_rng(1).integers(0, 256, SHAPE).astype(np.uint8)
    voxels[:, :, 64:] = 0
    volume = Volume.create(
        folder / "v.ome.zarr",
        SHAPE,
        np.uint8,
        VOXEL,
        ngff=ngff,
        chunk=(16, 16, 16),
        shard=(32, 32, 32),
        factors=factors(SHAPE, VOXEL),
    )
    ledgers, units = Ledgers(folder / "ledger", "k"), WriteUnits(volume)
    ledgers.level(volume.path, 0).open(units).add(*units.write(Box.whole(SHAPE), voxels, "a"))
    return volume, voxels, ledgers


@pytest.mark.parametrize("ngff", ["0.4", "0.5"])
@pytest.mark.parametrize("known", [True, False])
def test_a_level_on_disk_is_the_mean_of_the_one_before(tmp_path, ngff, known):
    volume, voxels, ledgers = written(tmp_path, ngff)
    levels = factors(SHAPE, VOXEL)
    for level in range(1, len(levels)):
        if known:
            build(volume.path, level, ledgers, threads=2)
        else:
            with ThreadPoolExecutor(2) as pool:
                build_in(pool, volume.path, level)
    coarse = Volume.open(volume.path, 1)
    assert coarse.voxel == VOXEL.scaled(levels[1])
    assert coarse.translation == tuple((f - 1) / 2 * 8 for f in levels[1])
    assert (coarse.read(Box.whole(coarse.shape)) == downsample(voxels, levels[1])).all()


@pytest.mark.parametrize("ngff", ["0.4", "0.5"])
def test_every_write_unit_has_its_voxels_and_its_file(tmp_path, ngff):
    volume, voxels, ledgers = written(tmp_path, ngff)
    units, entries = WriteUnits(volume), ledgers.level(volume.path, 0).read()
    assert sum(units.box(n).size for n in units) == np.prod(SHAPE)
    assert [units.touching(units.box(n)) for n in units] == [[n] for n in units]
    assert units.touching(Box.whole(SHAPE)) == list(units) == list(entries)
    for number in units:
        part = voxels[units.box(number).slices]
        assert units.file(number).is_file() == (entries[number].files[0] is not None)
        assert entries[number].state == ("done" if part.any() else "empty")
        assert units.damage(number, entries[number].files, thorough=True) is None
        assert entries[number].mean == pytest.approx(part.mean(), abs=1e-3)
        assert entries[number].sd == pytest.approx(part.std(), abs=1e-3)


def test_a_level_that_is_there_is_not_written_again_and_a_part_of_it_alone(tmp_path):
    volume, _, ledgers = written(tmp_path)
    units = WriteUnits(Volume.open(volume.path, 1))
    assert build(volume.path, 1, ledgers) == len(units)
    assert build(volume.path, 1, ledgers) == 0
    last = units.file(3)  # cut by the end of the volume
    for file in (units.file(0), last):
        whole = file.read_bytes()
        for damaged in (whole[:-9], b"", bytes([whole[0] ^ 1]) + whole[1:], None):
            file.unlink()
            file.mkdir() if damaged is None else file.write_bytes(damaged)
            assert build(volume.path, 1, ledgers) == 1
            assert file.read_bytes() == whole


def test_what_is_averaged_anew_is_what_other_voxels_went_into(tmp_path):
    volume, voxels, ledgers = written(tmp_path)
    build(volume.path, 1, ledgers)
    units = WriteUnits(volume)
    book = ledgers.level(volume.path, 0).open(units)
    first = units.box(0)
    book.add(*units.write(first, voxels[first.slices], "made again"))
    assert build(volume.path, 1, ledgers) == 0
    book.add(*units.write(first, 255 - voxels[first.slices], "other voxels"))
    assert build(volume.path, 1, ledgers) == 1


def test_nothing_is_averaged_from_what_is_damaged_or_not_there(tmp_path):
    volume, _, ledgers = written(tmp_path)
    WriteUnits(volume).file(0).write_bytes(b"")
    with pytest.raises(EmgenError, match=r"has 0 bytes instead of .* start again"):
        build(volume.path, 1, ledgers)
    assert ledgers.level(volume.path, 0).read()[0].state == "damaged"
    with pytest.raises(EmgenError, match="not finished, or damaged; start again"):
        build(volume.path, 1, ledgers)
