"""The learned estimate of sections: what it is given, what it learns from, and what restoration makes of it."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from runs import measured, restore
from runs import settings as run_settings
from test_estimator import SMALL, opened_task, small_recipe, smooth

from emgen.arrays import Array, denoise
from emgen.config.run import parse
from emgen.errors import EmgenError
from emgen.geometry import Box
from emgen.networks.card import resolve as resolve_card
from emgen.networks.checkpoint import load_estimator
from emgen.networks.estimator import Estimator, tikhonov_start
from emgen.physics.noise_model import correlated_noise
from emgen.physics.operators import Blur, Downsample, Gaussian, Identity, Mean, Slice
from emgen.run.plan import make
from emgen.run.resolve import resolve
from emgen.run.restore import Restorer
from emgen.training import patches
from emgen.training.loop import train
from emgen.training.recipe import SourceRecipe, read
from emgen.training.tasks import sections
from emgen.training.tasks.estimator import FLOOR
from emgen.training.tasks.settings import SectionsSettings
from emgen.training.training_volume import TrainingVolume

SHAPE = (5, 24, 36)
OPERATORS = {
    "identity": Identity(SHAPE),
    "downsample": Downsample(SHAPE, 3),
    "blur": Blur(SHAPE, sigma=(1.0, 1.5)),
    "kernel": Blur(SHAPE, kernel=np.arange(1, 16).reshape(3, 5)),
}


class TestWhatItBeginsFrom:
    @pytest.mark.parametrize("name", OPERATORS)
    def test_without_noise_it_agrees_with_what_was_measured(self, name):
        A, x = OPERATORS[name], torch.from_numpy(smooth(SHAPE)).double()
        y = A(x)
        found = tikhonov_start(torch.zeros_like(x), y, A, 0.0 if name != "kernel" else 1e-4)
        torch.testing.assert_close(A(found), y, atol=1e-4, rtol=0)

    @pytest.mark.parametrize("name", OPERATORS)
    def test_where_noise_drowns_what_was_measured_it_is_the_start(self, name):
        A, start = OPERATORS[name], torch.from_numpy(smooth(SHAPE)).double()
        found = tikhonov_start(start, 5 + A(start), A, 1e4)
        torch.testing.assert_close(found, start, atol=1e-3, rtol=0)

    @pytest.mark.parametrize(
        "A",
        [*OPERATORS.values(), Slice((8, 9, 9), 4), Mean((8, 9, 9), 4), Gaussian((8, 9, 9), 4, 4.0)],
    )
    def test_the_response_norm_is_that_of_what_a_voxel_adds(self, A):
        x = torch.zeros(A.shape, dtype=torch.float64)
        x[tuple(n // 2 for n in A.shape)] = 1
        assert A.response_norm() == pytest.approx(float(A(x).norm()), rel=1e-5)


def planned(voxels, **restore_):
    config = {
        "run": "a",
        "input": {"volume": "array"},
        "restore": restore_,
        "grid": {"block": [1, 512, 512], "halo": [0, 16, 16]},
        "output": {"chunk": [1, 512, 512], "shard": [1, 512, 512]},
    }
    return make(resolve(parse(config), Array(voxels)))


class TestInputs:
    @pytest.mark.parametrize(
        "mode", [{"mode": "denoise"}, {"mode": "superres", "factor": 2}, {"mode": "deblur"}]
    )
    def test_training_sees_what_restoration_gives(self, mode):
        """The same sections, degraded by the recipe's code and through a plan, are the same input."""
        truth = torch.from_numpy(smooth((7, 44, 48)) * 40 + 100)
        A = {
            "denoise": Identity(tuple(truth.shape)),
            "superres": Downsample(tuple(truth.shape), 2),
            "deblur": Blur(tuple(truth.shape), sigma=2.0),
        }[mode["mode"]]
        y = A(truth).numpy()
        steps = {} if mode["mode"] == "denoise" else {"steps": 1}
        plan = planned(y, noise=4.0, **steps, **mode)
        unit, low = plan.intensity.unit, plan.intensity.low
        sigma = 4 / unit
        given_ = sections.degraded((truth - low) / unit - 1, A, 0.0, np.random.default_rng(0))
        seen = []

        class Spy(Estimator):
            def plane(self, inputs, sigma):
                seen.append((inputs, sigma))
                return super().plane(inputs, sigma)

        restorer = Restorer(plan)
        spy = Spy(**SMALL, context=3).requires_grad_(False)
        restorer.networks.__dict__["estimator"] = (spy, resolve_card("emgen-sections"))
        outer = plan.grid[3].outer
        restorer.block(outer, restorer.fetch(outer, Array(y)))
        ((inputs, told),) = seen
        assert told == pytest.approx(sigma) and inputs.shape[0] == 1
        if mode["mode"] != "denoise":  # without noise there it is trusted more
            scaled = torch.from_numpy(plan.intensity.encode(y))
            start, cover = sections.measured_inputs(scaled, A, sigma)
            given_ = torch.cat([start, cover[3:4]])
        torch.testing.assert_close(inputs[0], given_, atol=2e-4, rtol=1e-4)

    def test_lost_sections_have_no_strength_and_are_filled(self):
        truth = torch.from_numpy(smooth((5, 20, 20)))
        rng = np.random.default_rng(0)
        found = sections.degraded(truth, Identity(tuple(truth.shape)), 0.0, rng, lost=True)
        assert (found[-1] == 0).all()
        torch.testing.assert_close(found[2], (truth[1] + truth[3]) / 2)
        voxels = (smooth((5, 20, 20)) * 40 + 100).astype(np.float32)
        voxels[2] = 7
        plan = planned(voxels, mode="denoise")
        assert plan.missing == (2,)
        whole = denoise(voxels, 5.0).mean
        assert np.abs(whole[2] - (voxels[1] + voxels[3]) / 2).mean() < 10

    def test_a_section_without_neighbours_is_its_own(self):
        truth = torch.from_numpy(smooth((1, 20, 20))).expand(5, -1, -1)
        rng = np.random.default_rng(0)
        found = sections.degraded(truth, Identity(tuple(truth.shape)), 0.5, rng)
        assert (found[:5] == found[:1]).all()

    def test_noise_that_neighbours_share_has_the_deviation_that_a_plan_would_find(self):
        truth = torch.zeros(7, 400, 400)
        A = Identity(tuple(truth.shape))
        rng = np.random.default_rng(0)
        # zeros are copies of each other: one section's noise
        found = sections.degraded(truth, A, 0.5, rng, correlation=(0.4, 0.7))[3].numpy()
        assert correlated_noise([found[None]])[0] == pytest.approx(0.5, rel=0.05)
        found = sections.degraded(truth, A, 0.5, rng, correlation=(1.0, 1.0))[3].numpy()
        assert np.corrcoef(found[:, 1:].ravel(), found[:, :-1].ravel())[0, 1] > 0.6


class TestLearning:
    def test_a_batch_follows_from_seed_and_step_and_number(self, tmp_path):
        recipe = sections_recipe(tmp_path)
        task = opened_task(recipe, tmp_path)

        def batch(numbers, step=3):
            return task.batch(step, 12, numbers)

        whole, part = batch(slice(12)), batch(slice(2, 4))
        for a, b in zip(whole, part, strict=True):
            assert torch.equal(a[2:4], b)
        assert not torch.equal(whole[0], batch(slice(12), step=4)[0])
        inputs, planes, times = whole
        assert inputs.shape == (12, 4, 16, 16) and planes.shape == (12, 1, 16, 16)
        assert ((times > 0.3) & (times <= 1)).all()
        alone = (inputs[:, 0] == inputs[:, 1]).flatten(1).all(1)
        assert alone.any() and not alone.all()

    @settings(max_examples=20, deadline=None)
    @given(st.floats(0.2, 2))
    def test_strong_noise_counts_no_less_than_weak(self, sigma):
        generator = torch.Generator().manual_seed(0)
        truth = torch.randn(2, 1, 32, 32, generator=generator)
        noise = sigma * torch.randn(2, 1, 32, 32, generator=generator)
        inputs = torch.cat([*[truth + noise] * 3, torch.ones_like(truth)], 1)
        task = sections.SectionsTask(draw=None, settings=SectionsSettings())
        off = task.loss(lambda x, t: truth + 0.1, inputs, truth, torch.ones(2))
        assert float(off) == pytest.approx(0.01 / (sections.MAX_START_ERROR + FLOOR), rel=1e-3)

    def test_it_learns_to_denoise_and_goes_on_bit_for_bit(self, tmp_path):
        whole = train(sections_recipe(tmp_path), tmp_path / "whole")
        found = whole.facts["validation_sections_psnr_db"]
        source = TrainingVolume.open(sections_recipe(tmp_path).validation[0], tmp_path, 24)
        slabs = torch.from_numpy(patches.fixed(source, 24, 24, 3))
        task = opened_task(sections_recipe(tmp_path), tmp_path)
        before = task.psnr(lambda x, t: x[:, 1:2], slabs)
        assert set(found) == set(task.kinds)
        assert found["denoise .4"] > before["denoise .4"] + 3
        train(sections_recipe(tmp_path, steps=150), tmp_path / "parts")
        parts = train(sections_recipe(tmp_path), tmp_path / "parts")
        assert parts.sha256 == whole.sha256 and parts.task == "sections"
        assert load_estimator(str(parts.path))[0].context == 1
        assert (tmp_path / "parts" / "samples.png").stat().st_size > 1000

    def test_frames_without_depth_are_sections_without_neighbours(self, tmp_path):
        recipe = sections_recipe(tmp_path)
        part = SourceRecipe(path="tissue.tif", voxel_size_nm=8, sections=(3, 4))
        task = opened_task(recipe.model_copy(update={"sources": (part,)}), tmp_path)
        found = task.batch(0, 6, slice(6))
        assert (found[0][:, 0] == found[0][:, 2]).all()


def sections_recipe(tmp_path, steps=300):
    recipe = small_recipe(tmp_path, optimiser={"steps": steps})
    task = SectionsSettings(context=1, strides=(1, 3), blur=(0.6, 2))
    return recipe.model_copy(update={"task": task, "name": "sections"})


class TestRestoration:
    def test_no_section_beyond_those_beside_it_counts(self):
        voxels = (smooth((9, 32, 32)) * 40 + 100).astype(np.float32)
        plan = planned(voxels, mode="denoise", noise=10.0)
        restorer, box = Restorer(plan), Box((4, 0, 0), (5, 32, 32))
        changed = voxels.copy()
        changed[[0, 8]] = voxels[[8, 0]]  # four away
        one, same = (restorer.block(box, restorer.fetch(box, Array(v))) for v in (voxels, changed))
        np.testing.assert_array_equal(one["mean"], same["mean"])
        changed[7] = voxels[3]
        other = restorer.block(box, restorer.fetch(box, Array(changed)))
        assert not np.array_equal(one["mean"], other["mean"])

    @pytest.mark.parametrize(
        "mode", [{"mode": "denoise", "noise": 8}, {"mode": "deblur", "steps": 2}]
    )
    def test_division_along_z_changes_nothing(self, tmp_path, mode):
        volume = measured(tmp_path)
        found = []
        for name, depth in (("a", 8), ("b", 2)):
            config = run_settings(
                volume,
                grid={"block": [depth, 40, 40], "halo": [0, 8, 8]},
                output={"chunk": [2, 40, 40], "shard": [2, 40, 40]},
            )
            config["restore"] = mode
            found.append(restore(tmp_path / name, config)[1])
        # batches hold other planes, so that sums may be rounded differently
        assert np.abs(found[0].astype(int) - found[1]).max() <= 1
        assert (found[0] != found[1]).mean() < 1e-3

    def test_empty_parts_pass_through_whatever_lies_beside_them(self):
        voxels = (smooth((5, 32, 32)) * 40 + 100).astype(np.float32)
        plan = planned(voxels, mode="denoise", noise=10.0)
        voxels[2, :, 16:] = 3
        restorer, box = Restorer(plan), Box((2, 0, 16), (3, 32, 32))
        fetched = restorer.fetch(box, Array(voxels))
        assert restorer.is_empty(box, fetched)
        np.testing.assert_array_equal(restorer.block(box, fetched)["mean"], voxels[2:3, :, 16:])

    @pytest.mark.parametrize(
        ("mode", "name"), [("denoise", "emgen-axial"), ("isotropic", "emgen-sections")]
    )
    def test_an_estimate_of_the_other_kind_is_refused(self, tmp_path, mode, name):
        config = run_settings(measured(tmp_path))
        config["restore"] = {"mode": mode, "estimator": name}
        with pytest.raises(EmgenError, match=f"restore.estimator: .*{name}.*mode: {mode} needs"):
            resolve(parse(config))

    def test_the_shipped_one_is_made_by_its_recipe(self):
        card, recipe = resolve_card("emgen-sections"), read("config/prior/emgen-sections.yaml")
        assert card.architecture == recipe.architecture
        assert card.facts["steps"] == recipe.optimiser.steps
        assert card.facts["training"]["task"] == recipe.task.model_dump(mode="json")
        assert not any("fib25_b" in name for name in card.facts["data"])
