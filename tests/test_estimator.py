"""A learned interpolation: what it is given, what it learns from, and where restoration uses it."""

from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
import torch
from runs import measured, restore, settings

from emgen.arrays import Array, isotropic
from emgen.config.run import parse
from emgen.errors import EmgenError
from emgen.geometry import Box, VoxelSize
from emgen.modes import mode
from emgen.modes.observation import Coverage
from emgen.networks.card import resolve as resolve_card
from emgen.networks.checkpoint import load, load_estimator
from emgen.networks.estimator import Estimator, context_stack
from emgen.physics.operators import Gaussian, Mean, Slice
from emgen.run.plan import make
from emgen.run.resolve import resolve
from emgen.run.restore import Restorer
from emgen.training import patches
from emgen.training.loop import train
from emgen.training.recipe import Patches, Recipe, SourceRecipe, read
from emgen.training.tasks import axial
from emgen.training.tasks.estimator import relative_loss
from emgen.training.tasks.settings import AxialSettings
from emgen.training.tasks.task import open_task
from emgen.training.training_volume import TrainingVolume

SMALL = {"channels": [8, 16], "layers": 1}


def smooth(shape=(40, 44, 48), seed=0):
    import scipy.ndimage

    noise = np.random.default_rng(seed).normal(size=shape)
    return scipy.ndimage.gaussian_filter(noise, 1.5).astype(np.float32)


def network(context=1):
    """Random everywhere: one that begins as the identity would hide what it is given."""
    torch.manual_seed(0)
    made = Estimator([8, 16], 1, context)
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return made.eval().requires_grad_(False)


class TestNetwork:
    def test_untrained_it_is_linear_interpolation(self):
        inputs = torch.randn(3, 6, 20, 36)
        made = Estimator(**SMALL, context=2).requires_grad_(False)
        assert torch.equal(made(inputs, torch.ones(3)), inputs[:, 2:3])

    @pytest.mark.parametrize("size", [(16, 16), (7, 33), (30, 18)])
    def test_planes_may_have_any_size_and_do_not_see_each_other(self, size):
        made, inputs = network(), torch.randn(4, 4, *size)
        whole = made.plane(inputs, 0.1)
        assert whole.shape == (4, 1, *size)
        torch.testing.assert_close(whole[2:3], made.plane(inputs[2:3], 0.1))

    def test_it_is_told_the_noise(self):
        made, inputs = network(), torch.randn(1, 4, 16, 16)
        assert not torch.allclose(made.plane(inputs, 0.0), made.plane(inputs, 0.3))


class TestInputs:
    def test_every_plane_comes_with_those_beside_it_and_its_cover(self):
        start, cover = torch.randn(5, 4, 6), torch.randn(5, 4, 6)
        found = context_stack(start, cover, 2)
        assert found.shape == (4, 6, 5, 6)
        for plane in range(4):
            for place, k in enumerate(range(-2, 3)):
                beside = min(max(plane + k, 0), 3)
                assert torch.equal(found[plane, place], start[:, beside])
            assert torch.equal(found[plane, 5], cover[:, plane])

    @pytest.mark.parametrize("kind", [Slice, Mean, Gaussian])
    def test_training_sees_what_restoration_gives(self, kind):
        """The same volume, degraded by the recipe's code and through a plan, is the same input."""
        truth = torch.from_numpy(smooth())
        more = {"fwhm": 4.0} if kind is Gaussian else {}
        A = kind(tuple(truth.shape), 4, **more)
        inputs = axial.degraded(truth, A, 0.0, (), np.random.default_rng(0))
        seen = []

        class Spy(Estimator):
            def plane(self, inputs, sigma):
                seen.append(inputs)
                return super().plane(inputs, sigma)

        section = {Slice: "slice", Mean: "mean", Gaussian: "gaussian"}[kind]
        measured_ = A(truth).numpy()
        config = parse(
            {
                "run": "spy",
                "input": {"volume": "array"},
                "restore": {"factor": 4, "section": section, "steps": 1},
                "output": {"chunk": [40, 44, 48], "shard": [40, 44, 48]},
                "grid": {"block": [40, 44, 48]},
            }
        )
        plan = make(resolve(config, Array(measured_)))
        restorer = Restorer(plan)
        spy = Spy(**SMALL, context=22).requires_grad_(False)
        restorer.networks.__dict__["estimator"] = (spy, resolve_card("emgen-axial"))
        outer = plan.grid[0].outer
        restorer.block(outer, restorer.fetch(outer, Array(measured_)))
        scale, low = plan.intensity.unit, plan.intensity.low
        found = torch.cat(seen[: len(seen) // 2])[22]
        expected = inputs[22].clone()
        expected[:-1] = (expected[:-1] - low) / scale - 1
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)

    @pytest.mark.parametrize("section", ["slice", "mean", "gaussian"])
    def test_a_block_has_the_sampling_density_of_the_whole_volume(self, section):
        restore_ = {"factor": 4, "section": section, "steps": 1}
        config = {"run": "a", "input": {"volume": "array", "lost": [3]}, "restore": restore_}
        voxels = np.random.default_rng(0).integers(0, 255, (9, 20, 24)).astype(np.uint8)
        plan = make(resolve(parse(config), Array(voxels)))

        def density(box):
            support = plan.read_box(box)
            known = torch.ones(support.shape, dtype=torch.bool)
            known[[k == 3 for k in range(support.start[0], support.stop[0])]] = False
            coverage = Coverage(known, support, plan.missing)
            observation = SimpleNamespace(box=box, coverage=coverage, device="cpu")
            return plan.mode._sampling_density(observation)

        whole = density(Box.whole(plan.shape))
        for box in (Box((5, 0, 0), (23, 20, 24)), Box((18, 3, 2), (36, 9, 20))):
            assert torch.equal(density(box), whole[box.slices])

    def test_lost_sections_have_no_cover_and_are_interpolated(self):
        truth = torch.from_numpy(smooth())
        A = Slice(tuple(truth.shape), 4)
        inputs = axial.degraded(truth, A, 0.0, (3,), np.random.default_rng(0))
        plane, cover = inputs[10, 22], inputs[10, -1]
        assert cover[:, 0].tolist() == [float(k % 4 == 0 and k != 12) for k in range(40)]
        torch.testing.assert_close(plane[12], (truth[8, 10] + truth[16, 10]) / 2)


class TestLearning:
    def test_the_loss_of_linear_interpolation_is_one(self):
        truth = torch.from_numpy(smooth()) * 100  # the floor is nothing then
        A = Mean(tuple(truth.shape), 4)
        inputs = axial.degraded(truth, A, 0.0, (), np.random.default_rng(0))
        planes = truth.transpose(0, 1)[:, None]
        loss = relative_loss(lambda x, t: x[:, 22:23], inputs, planes, torch.ones(44))
        assert float(loss) == pytest.approx(1, rel=1e-3)
        assert float(relative_loss(lambda x, t: planes, inputs, planes, torch.ones(44))) == 0

    def test_a_batch_follows_from_seed_and_step_and_number(self, tmp_path):
        recipe = small_recipe(tmp_path)
        task = opened_task(recipe, tmp_path)

        def batch(numbers, step=3):
            return task.batch(step, 6, numbers)

        whole, part = batch(slice(6)), batch(slice(2, 4))
        for a, b in zip(whole, part, strict=True):
            assert torch.equal(a[2:4], b)
        assert not torch.equal(whole[0], batch(slice(6), step=4)[0])
        inputs, planes, times = whole
        assert inputs.shape == (6, 4, 16, 16) and planes.shape == (6, 1, 16, 16)
        assert ((times > 0.7) & (times <= 1)).all() and (times < 1).any() and (times == 1).any()

    def test_measured_rows_without_noise_are_the_plane_itself(self, tmp_path):
        recipe = small_recipe(tmp_path, task={"context": 1, "factors": (2, 6), "noisy": 0})
        inputs, planes, _ = opened_task(recipe, tmp_path).batch(0, 30, slice(30))
        slices = [k for k in range(30) if inputs[k, -1].max() == 1]
        assert slices
        for k in slices:
            rows = inputs[k, -1, :, 0] == 1
            torch.testing.assert_close(inputs[k, 1][rows], planes[k, 0][rows])

    def test_it_learns_to_beat_linear_interpolation_and_goes_on_bit_for_bit(self, tmp_path):
        easy = {"context": 1, "factors": (4, 4), "noisy": 0, "damaged": 0}
        whole = train(small_recipe(tmp_path, task=easy), tmp_path / "whole")
        psnr = whole.facts["validation_axial_psnr_db"]
        source = TrainingVolume.open(small_recipe(tmp_path).validation[0], tmp_path, 24)
        slabs = torch.from_numpy(patches.fixed(source, 24, 24, 3))
        task = opened_task(small_recipe(tmp_path), tmp_path)
        linear = task.psnr(lambda x, t: x[:, 1:2], slabs)
        assert set(psnr) == set(linear) and psnr["x4 slice"] > linear["x4 slice"] + 0.03
        first = small_recipe(tmp_path, optimiser={"steps": 150}, task=easy)
        train(first, tmp_path / "parts")
        parts = train(small_recipe(tmp_path, task=easy), tmp_path / "parts")
        assert parts.sha256 == whole.sha256 and parts.task == "axial"
        network, _ = load_estimator(str(parts.path))
        assert network.context == 1

    def test_anisotropic_sources_are_refused(self, tmp_path):
        recipe = small_recipe(tmp_path, voxel=(20, 8, 8))
        with pytest.raises(EmgenError, match=r"learnt from isotropic volumes.*tissue.tif"):
            train(recipe, tmp_path / "run")

    def test_volumes_with_fewer_planes_than_it_sees_are_refused(self, tmp_path):
        recipe = small_recipe(tmp_path, task={"context": 16, "factors": (2, 6)})
        with pytest.raises(EmgenError, match=r"sees 33 planes.*tissue.tif"):
            train(recipe, tmp_path / "run")


def opened_task(recipe, folder):
    """The task of a recipe, learning from its first source."""
    volume = TrainingVolume.open(recipe.sources[0], folder, 48)
    return open_task(recipe.task, patches.Draw((volume,), (1.0,), recipe.patches, recipe.seed))


def small_recipe(tmp_path, voxel=(8, 8, 8), optimiser=None, task=None):
    path = tmp_path / "tissue.tif"
    if not path.exists():
        voxels = smooth((40, 64, 64))
        tifffile.imwrite(path, np.clip(128 + 600 * voxels, 0, 255).astype(np.uint8))

    def part(*sections):
        return SourceRecipe(path="tissue.tif", voxel_size_nm=voxel, sections=sections)

    return Recipe(
        name="axial",
        data=str(tmp_path),
        sources=(part(0, 30),),
        validation=(part(30, 40),),
        network={"channels": [8, 16], "layers": 1},
        task=AxialSettings(**(task or {"context": 1, "factors": (2, 6)})),
        patches=Patches(size=16),
        optimiser={
            "rate": 3e-3,
            "steps": 400,
            "warm_up": 5,
            "decay": 0,
            "batch": 8,
            "average": 0.9,
            **(optimiser or {}),
        },
    )


class TestRestoration:
    def test_it_is_used_where_it_is_asked_for(self, fib25):
        truth = fib25.astype(float)

        def error(**more):
            return np.square(isotropic(fib25[::4].copy(), 4, steps=2, **more).mean - truth).mean()

        assert error() < 0.9 * error(estimator="linear", start=0.85)

    @pytest.mark.parametrize("name", ["prior", "estimator"])
    def test_one_kind_is_not_taken_for_the_other(self, tmp_path, name):
        wrong = {"prior": "emgen-axial", "estimator": "emgen-small"}
        config = settings(measured(tmp_path), restore={name: wrong[name]})
        with pytest.raises(EmgenError, match=f"restore.{name}: .*{wrong[name]}.*give it as"):
            resolve(parse(config))
        other = load if name == "prior" else load_estimator
        with pytest.raises(EmgenError, match=r"expected an? (prior|estimator), found"):
            other(wrong[name])

    def test_other_weights_are_another_setting(self, tmp_path):
        volume = measured(tmp_path)
        plans = [
            make(resolve(parse(settings(volume, restore={"estimator": name, "start": 0.8}))))
            for name in ("emgen-axial", "linear")
        ]
        assert plans[0].key != plans[1].key
        assert plans[1].estimator is None
        assert plans[0].estimator["sha256"] == resolve_card("emgen-axial").sha256

    def test_the_time_at_which_sampling_begins_is_that_of_its_start(self):
        def begin(**more):
            restore = parse({"run": "a", "input": {"volume": "b"}, "restore": more}).restore
            return mode(restore, (8, 32, 32), VoxelSize(32, 8, 8)).start_time

        assert begin(mode="superres", factor=2) > begin() > begin(estimator="linear")
        assert begin(start=0.3) == 0.3

    def test_the_shipped_one_is_made_by_its_recipe(self):
        card, recipe = resolve_card("emgen-axial"), read("config/prior/emgen-axial.yaml")
        assert card.architecture == recipe.architecture
        assert card.facts["steps"] == recipe.optimiser.steps
        assert card.facts["training"]["optimiser"]["decay"] == recipe.optimiser.decay
        assert card.facts["training"]["task"] == recipe.task.model_dump(mode="json")
        assert not any("fib25_b" in name for name in card.facts["data"])

    def test_blocks_of_other_sizes_agree(self, tmp_path):
        volume = measured(tmp_path)
        one = {
            "grid": {"block": [48, 48, 48]},
            "output": {"shard": [48, 48, 48], "chunk": [48, 48, 48]},
        }
        _, whole = restore(tmp_path / "a", settings(volume, **one))
        _, parts = restore(tmp_path / "b", settings(volume))
        assert np.abs(whole.astype(float) - parts).mean() < 1
