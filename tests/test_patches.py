"""Patches to learn from: what they follow from, which planes of which volumes they are, bad sources."""

import numpy as np
import pytest
import tifffile
from recipes import made

from emgen.errors import EmgenError
from emgen.geometry import Box, VoxelSize
from emgen.training import patches
from emgen.training.loop import train
from emgen.training.recipe import Patches, SourceRecipe
from emgen.training.training_volume import MEMORY, TrainingVolume
from emgen.volumes.volume import Volume


def opened(tissue, name="a.tif", smallest=40, **more):
    return TrainingVolume.open(
        SourceRecipe(**{"path": name, "voxel_size_nm": 8, **more}), tissue, smallest
    )


def drawn(volumes, settings, step, seed, numbers):
    """A batch of patches, of every volume as often."""
    draw = patches.Draw(tuple(volumes), (1.0,) * len(volumes), settings, seed)
    return patches.batch(draw, step, numbers)


def test_a_batch_follows_from_seed_and_step_alone(tissue):
    sources = [
        opened(tissue),
        opened(tissue, "b.tif", voxel_size_nm=(40, 4, 4), sections=(3, 9)),
    ]

    def batch(seed, step):
        return drawn(sources, Patches(size=32), step, seed, range(6))[0]

    first = batch(0, 7)
    assert first.shape == (6, 1, 32, 32) and first.dtype == np.float32
    assert (first == batch(0, 7)).all()
    assert (first != batch(0, 8)).any() and (first != batch(1, 7)).any()


def test_processes_share_a_batch_without_changing_it(tissue):
    sources = [opened(tissue)]
    whole, *parts = (
        drawn(sources, Patches(size=32), 3, 0, numbers)[0]
        for numbers in (range(6), range(0, 6, 2), range(1, 6, 2))
    )
    assert (whole[::2] == parts[0]).all() and (whole[1::2] == parts[1]).all()


def test_only_isotropic_volumes_give_axial_planes(tissue):
    assert opened(tissue).planes == ("xy", "xz", "yz")
    assert opened(tissue, voxel_size_nm=(40, 4, 4)).planes == ("xy",)


def test_images_of_different_places_give_no_axial_planes(tissue):
    listed = {"dataset": "cem500k", "voxel_size_nm": 8}
    assert opened(tissue, **listed).planes == ("xy",)


def test_the_voxel_size_is_the_recipes_then_the_files_then_the_lists():
    size, other = VoxelSize(16, 16, 16), (4, 4, 4)
    listed = SourceRecipe(path="a", dataset="jrc_mus-liver")
    assert listed.voxel(size) == size and listed.voxel(None) == VoxelSize(8, 8, 8)
    assert SourceRecipe(path="a", voxel_size_nm=other).voxel(size) == VoxelSize(*other)


def test_patches_are_planes_of_the_volume(tissue):
    """Without jitter and symmetries a patch is found in the volume, in each orientation."""
    source, plain = opened(tissue), Patches(size=16, symmetries=False, zoom=(1, 1))
    voxels = source.intensity.encode(tifffile.imread(tissue / "a.tif"))
    stacks = [np.moveaxis(voxels, axis, 0) for axis in range(3)]
    rng, seen = np.random.default_rng(0), set()
    for _ in range(12):
        patch = source.patch(rng, plain)
        windows = [
            np.lib.stride_tricks.sliding_window_view(stack, (16, 16), (1, 2)) for stack in stacks
        ]
        found = [bool((each == patch).all((-2, -1)).any()) for each in windows]
        assert any(found)
        seen.add(found.index(True))
    assert seen == {0, 1, 2}


def test_all_eight_symmetries_occur(tissue):
    field = np.arange(16.0).reshape(1, 4, 4).repeat(6, 0).repeat(16, 1).repeat(16, 2)
    tifffile.imwrite(tissue / "ramp.tif", field.astype(np.uint8))
    source = opened(tissue, "ramp.tif", voxel_size_nm=(40, 4, 4))
    rng = np.random.default_rng(0)
    corners = {
        tuple(np.round(source.patch(rng, Patches(size=64, zoom=(1, 1)))[::63, ::63].ravel(), 3))
        for _ in range(100)
    }
    assert len(corners) == 8


def test_sections_held_out_are_not_read(tissue):
    assert opened(tissue, sections=(5, 11)).shape == (6, 120, 120)


def test_a_volume_too_large_for_memory_gives_the_same_patches(tissue):
    voxels = tifffile.imread(tissue / "a.tif")
    volume = Volume.create(
        tissue / "a.ome.zarr",
        voxels.shape,
        voxels.dtype,
        VoxelSize(8, 8, 8),
        chunk=(8, 32, 32),
        shard=(8, 32, 32),
    )
    volume.write(Box.whole(voxels.shape), voxels)
    found = []
    for limit in (MEMORY, 1000):
        recipe = SourceRecipe(path="a.ome.zarr", sections=(2, 18))
        source = TrainingVolume.open(recipe, tissue, 40, limit)
        assert (source.held > 0) == (limit == MEMORY)
        found.append(drawn([source], Patches(size=32), 0, 0, range(8))[0])
    assert (found[0] == found[1]).all()
    with pytest.raises(EmgenError, match="emgen import"):
        TrainingVolume.open(SourceRecipe(path="a.tif", voxel_size_nm=8), tissue, 40, 1000)


def test_voxels_that_are_no_numbers_are_passed_over(tissue):
    """Where they are too few to be seen before training: in a volume that is read patch by patch."""
    voxels = np.random.default_rng(0).random((40, 400, 64), np.float32)
    voxels[:, 129:135] = np.nan  # between the boxes that are looked at
    volume = Volume.create(
        tissue / "f.ome.zarr",
        voxels.shape,
        np.float32,
        VoxelSize(8, 8, 8),
        chunk=(40, 64, 64),
        shard=(40, 64, 64),
    )
    volume.write(Box.whole(voxels.shape), voxels)
    source = TrainingVolume.open(SourceRecipe(path="f.ome.zarr"), tissue, 40, 1000)
    found, _ = drawn([source], Patches(size=32), 0, 0, range(200))
    assert np.isfinite(found).all()


def test_noise_is_that_of_the_patches_and_stretches_no_contrast(tissue):
    """Of noisy sections, scaled as the clean ones are and changed in contrast, the noise is known."""
    clean = tifffile.imread(tissue / "a.tif").astype(np.float32)
    noise = np.random.default_rng(0).normal(scale=20, size=clean.shape).astype(np.float32)
    tifffile.imwrite(tissue / "noisy.tif", clean + noise)
    tifffile.imwrite(tissue / "clean.tif", clean)
    both = [opened(tissue, f"{name}.tif", noise=n) for name, n in (("noisy", 20), ("clean", 0))]
    assert both[0].intensity.unit == pytest.approx(both[1].intensity.unit, rel=0.15)
    assert both[0].noise == pytest.approx(20 / both[0].intensity.unit)
    still, changed = (
        Patches(size=32, zoom=(1, 1), gamma=gamma, contrast=contrast)
        for gamma, contrast in ((0, 0), (0.3, 0.5))
    )
    calm, level = drawn(both[:1], still, 0, 0, range(40))
    loud, levels = drawn(both[:1], changed, 0, 0, range(40))
    assert level == pytest.approx(both[0].noise)
    assert levels / level == pytest.approx(loud.std((1, 2, 3)) / calm.std((1, 2, 3)), rel=1e-3)
    assert not drawn(both[1:], changed, 0, 0, range(4))[1].any()
    tifffile.imwrite(tissue / "noise.tif", noise)
    for bad in (
        {"path": "noisy.tif", "noise": 500},
        {"path": "noise.tif", "noise": 20},
        {"path": "noisy.tif", "noise": 20, "grey_values": (120, 140)},
    ):
        with pytest.raises(EmgenError, match="hides its tissue"):
            opened(tissue, **bad)
    with pytest.raises(EmgenError, match="sections are lost"):
        opened(tissue, lost=tuple(range(20)))


def test_patches_without_any_contrast_have_the_noise_of_their_source(tissue):
    """Aligned stacks have black borders."""
    voxels = tifffile.imread(tissue / "a.tif")
    voxels[:, :, :60] = 0
    tifffile.imwrite(tissue / "border.tif", voxels)
    source = opened(tissue, "border.tif", noise=10)
    found, noises = drawn([source], Patches(size=32, zoom=(1, 1)), 0, 0, range(60))
    assert (np.ptp(found, (1, 2, 3)) == 0).any()
    np.testing.assert_allclose(noises, source.noise, rtol=0.5)


def test_only_stacks_of_like_voxels_give_axial_planes(tissue):
    for size in ((2, 8, 8), (8, 8, 16)):
        assert opened(tissue, voxel_size_nm=size).planes == ("xy",)
    assert opened(tissue, stack=False).planes == ("xy",)


def test_all_bad_sources_are_named_at_once(tissue):
    rng = np.random.default_rng(0)
    tifffile.imwrite(tissue / "flat.tif", np.full((5, 90, 90), 3, np.uint8))
    tifffile.imwrite(tissue / "nan.tif", np.full((5, 90, 90), np.nan, np.float32))
    tifffile.imwrite(tissue / "thin.tif", rng.integers(0, 9, (50, 20, 90)).astype(np.uint8))
    tifffile.imwrite(tissue / "bare.tif", rng.integers(0, 9, (5, 90, 90)).astype(np.uint8))
    known = [
        {"path": f"{name}.tif", "voxel_size_nm": 8} for name in ("none", "flat", "nan", "thin")
    ]
    sources = [*known, {"path": "bare.tif"}, {**known[0], "path": "a.tif", "sections": (0, 21)}]
    with pytest.raises(EmgenError) as error:
        train(made(tissue, sources=sources), tissue / "run")
    for words in (
        "6 of the training sources",
        "nothing at",
        "grey value 3",
        "nothing but NaN",
        "patches need 40",
        "does not say its voxel size",
        "asks for more",
    ):
        assert words in str(error.value)
    assert not (tissue / "run").exists()
