"""Training a prior: recipes, patches, the loop, what it leaves behind, and what may go wrong."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
import yaml
from runs import ROOT, snakemake
from scipy.ndimage import gaussian_filter

from emgen.cli import main
from emgen.errors import EmgenError
from emgen.geometry import Box, VoxelSize
from emgen.prior import patches, progress, recipe, validation
from emgen.prior.checkpoint import load
from emgen.prior.recipe import Patches, Recipe, SourceRecipe
from emgen.prior.state import State
from emgen.prior.training import Run, launcher, step, train
from emgen.volume import Volume

SMALL = {
    "network": {"channels": [8, 16], "layers": 1},
    "patches": {"size": 32},
    "optimiser": {"batch": 4, "warm_up": 4, "rate": 3e-3, "decay": 0, "steps": 6},
}


@pytest.fixture
def tissue(tmp_path):
    """A folder with two smooth volumes, a and b, as TIFF."""
    for name, seed in (("a", 0), ("b", 1)):
        field = gaussian_filter(np.random.default_rng(seed).normal(size=(20, 120, 120)), 3)
        tifffile.imwrite(
            tmp_path / f"{name}.tif", (128 + 900 * field).clip(0, 255).astype(np.uint8)
        )
    return tmp_path


@pytest.fixture(autouse=True)
def small_sheets(monkeypatch):
    monkeypatch.setattr(progress, "STEPS", 2)
    monkeypatch.setattr(progress, "SIZE", 16)


def made(tissue, **more):
    """A small recipe that learns from a and is validated on b."""
    facts = {
        "name": "p",
        "data": str(tissue),
        "sources": [{"path": "a.tif", "voxel_size_nm": 8}],
        "validation": [{"path": "b.tif", "voxel_size_nm": 8}],
        **SMALL,
    }
    for key, value in more.items():
        facts[key] = {**facts[key], **value} if isinstance(facts.get(key), dict) else value
    return Recipe.model_validate(facts)


def written(tissue, **more):
    path = tissue / "recipe.yaml"
    path.write_text(yaml.safe_dump(made(tissue, **more).model_dump(mode="json")))
    return path


def opened(tissue, name="a.tif", smallest=40, **more):
    return patches.Source.open(
        SourceRecipe(**{"path": name, "voxel_size_nm": 8, **more}), tissue, smallest
    )


def weights(folder):
    return (folder / "checkpoint.safetensors").read_bytes()


class TestPatches:
    def test_a_batch_follows_from_seed_and_step_alone(self, tissue):
        sources = [
            opened(tissue),
            opened(tissue, "b.tif", voxel_size_nm=(40, 4, 4), sections=(3, 9)),
        ]

        def batch(seed, step):
            return patches.batch(sources, (1, 1), Patches(size=32), seed, step, range(6))

        first = batch(0, 7)
        assert first.shape == (6, 1, 32, 32) and first.dtype == np.float32
        assert (first == batch(0, 7)).all()
        assert (first != batch(0, 8)).any() and (first != batch(1, 7)).any()

    def test_processes_share_a_batch_without_changing_it(self, tissue):
        sources = [opened(tissue)]
        whole, *parts = (
            patches.batch(sources, (1,), Patches(size=32), 0, 3, numbers)
            for numbers in (range(6), range(0, 6, 2), range(1, 6, 2))
        )
        assert (whole[::2] == parts[0]).all() and (whole[1::2] == parts[1]).all()

    def test_only_isotropic_volumes_give_axial_planes(self, tissue):
        assert opened(tissue).planes == ("xy", "xz", "yz")
        assert opened(tissue, voxel_size_nm=(40, 4, 4)).planes == ("xy",)

    def test_images_of_different_places_give_no_axial_planes(self, tissue):
        listed = {"dataset": "cem500k", "voxel_size_nm": 8}
        assert opened(tissue, **listed).planes == ("xy",)

    def test_the_voxel_size_is_the_recipes_then_the_files_then_the_lists(self):
        size, other = VoxelSize(16, 16, 16), (4, 4, 4)
        listed = SourceRecipe(path="a", dataset="jrc_mus-liver")
        assert listed.voxel(size) == size and listed.voxel(None) == VoxelSize(8, 8, 8)
        assert SourceRecipe(path="a", voxel_size_nm=other).voxel(size) == VoxelSize(*other)

    def test_patches_are_planes_of_the_volume(self, tissue):
        """Without jitter and symmetries a patch is found in the volume, in each orientation."""
        source, plain = opened(tissue), Patches(size=16, symmetries=False, zoom=(1, 1))
        voxels = source.intensity.encode(tifffile.imread(tissue / "a.tif"))
        stacks = [np.moveaxis(voxels, axis, 0) for axis in range(3)]
        rng, seen = np.random.default_rng(0), set()
        for _ in range(12):
            patch = source.patch(rng, plain)
            windows = [
                np.lib.stride_tricks.sliding_window_view(stack, (16, 16), (1, 2))
                for stack in stacks
            ]
            found = [bool((each == patch).all((-2, -1)).any()) for each in windows]
            assert any(found)
            seen.add(found.index(True))
        assert seen == {0, 1, 2}

    def test_all_eight_symmetries_occur(self, tissue):
        field = np.arange(16.0).reshape(1, 4, 4).repeat(6, 0).repeat(16, 1).repeat(16, 2)
        tifffile.imwrite(tissue / "ramp.tif", field.astype(np.uint8))
        source = opened(tissue, "ramp.tif", voxel_size_nm=(40, 4, 4))
        rng = np.random.default_rng(0)
        corners = {
            tuple(np.round(source.patch(rng, Patches(size=64, zoom=(1, 1)))[::63, ::63].ravel(), 3))
            for _ in range(100)
        }
        assert len(corners) == 8

    def test_sections_held_out_are_not_read(self, tissue):
        assert opened(tissue, sections=(5, 11)).shape == (6, 120, 120)

    def test_a_volume_too_large_for_memory_gives_the_same_patches(self, tissue):
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
        for limit in (patches.WHOLE, 1000):
            recipe = SourceRecipe(path="a.ome.zarr", sections=(2, 18))
            source = patches.Source.open(recipe, tissue, 40, limit)
            assert (source.held > 0) == (limit == patches.WHOLE)
            found.append(patches.batch([source], (1,), Patches(size=32), 0, 0, range(8)))
        assert (found[0] == found[1]).all()
        with pytest.raises(EmgenError, match="emgen import"):
            patches.Source.open(SourceRecipe(path="a.tif", voxel_size_nm=8), tissue, 40, 1000)

    def test_voxels_that_are_no_numbers_are_passed_over(self, tissue):
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
        source = patches.Source.open(SourceRecipe(path="f.ome.zarr"), tissue, 40, 1000)
        found = patches.batch([source], (1,), Patches(size=32), 0, 0, range(200))
        assert np.isfinite(found).all()

    def test_only_stacks_of_like_voxels_give_axial_planes(self, tissue):
        for size in ((2, 8, 8), (8, 8, 16)):
            assert opened(tissue, voxel_size_nm=size).planes == ("xy",)
        assert opened(tissue, stack=False).planes == ("xy",)

    def test_all_bad_sources_are_named_at_once(self, tissue):
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
            "not finite",
            "patches need 40",
            "does not say its voxel size",
            "asks for more",
        ):
            assert words in str(error.value)
        assert not (tissue / "run").exists()


class TestRecipes:
    @pytest.mark.parametrize(
        "path", sorted((ROOT / "config/prior").glob("em*.yaml")), ids=lambda p: p.stem
    )
    def test_those_of_the_repository_are_right(self, path):
        found = recipe.read(path)
        assert found.name == path.stem
        State.new(found, found.network)

    def test_the_shipped_prior_is_made_by_its_recipe(self):
        found, (_, card) = recipe.read(ROOT / "config/prior/emgen-small.yaml"), load("emgen-small")
        assert card.architecture == found.network
        assert card.facts["data"] == recipe.names(found.sources)
        assert card.facts["validation"] == recipe.names(found.validation)
        stored = found.model_dump(mode="json")
        assert card.facts["training"] == {key: stored[key] for key in card.facts["training"]}

    def test_the_paper_is_followed(self):
        found = recipe.read(ROOT / "config/prior/em-generalist.yaml")
        settings = found.optimiser
        assert found.network["channels"] == [64, 128, 256, 512]
        assert (found.patches.size, settings.batch, settings.steps) == (128, 256, 200_000)
        assert (settings.rate, settings.warm_up, settings.average) == (1e-4, 1000, 0.999)

    @pytest.mark.parametrize(
        ("change", "words"),
        [
            ({"validation": [{"path": "a.tif", "voxel_size_nm": 8}]}, "is trained on"),
            ({"validation": []}, "validation"),
            ({"sources": [{"path": "a.tif", "sections": (5, 5)}]}, "sections"),
            ({"sources": [{"path": "a.tif", "dataset": "jrc_mus_liver"}]}, "jrc_mus-liver"),
            (
                {"sources": [{"path": "a.tif", "weight": 1}, {"path": "c.tif"}]},
                "weight for every source",
            ),
            ({"optimiser": {"steps": 5, "decay": 6}}, "decay"),
            ({"optimiser": {"speed": 5}}, "speed"),
            ({"optimiser": [1]}, "optimiser"),
            ({"sources": [{"path": "a.tif", "voxel_size_nm": 0}]}, "greater than 0"),
            ({"validation": [{"path": "./a.tif", "voxel_size_nm": 8}]}, "is trained on"),
            (
                {"validation": [{"path": "b.tif"}, {"path": "b.tif"}]},
                "two sources are called b.tif",
            ),
            ({"name": "../p"}, "name"),
        ],
    )
    def test_faults_are_named(self, tissue, change, words):
        facts = made(tissue).model_dump(mode="json") | change
        path = tissue / "bad.yaml"
        path.write_text(yaml.safe_dump(json.loads(json.dumps(facts))))
        with pytest.raises(EmgenError, match=words):
            recipe.read(path)

    def test_the_same_file_may_be_split(self, tissue):
        parts = [{"path": "a.tif", "voxel_size_nm": 8, "sections": s} for s in ((0, 12), (12, 20))]
        made(tissue, sources=parts[:1], validation=parts[1:])

    def test_what_is_no_recipe_is_refused(self, tissue):
        (tissue / "list.yaml").write_text("- 1")
        (tissue / "bad.yaml").write_text("a: [")
        for name, words in (
            ("none", "cannot be read"),
            ("list", "expected keys"),
            ("bad", "not YAML"),
        ):
            with pytest.raises(EmgenError, match=words):
                recipe.read(tissue / f"{name}.yaml")

    def test_the_rate_warms_up_stays_and_falls(self, tissue):
        settings = made(tissue, optimiser={"steps": 100, "decay": 20, "warm_up": 10}).optimiser
        assert [settings.rate_at(s) for s in (0, 9, 50, 80, 99)] == pytest.approx(
            [0.1, 1, 1, 1, 0.05]
        )


class TestValidation:
    def test_the_frechet_distance_of_gaussians_is_known(self):
        """Diagonal covariances: |m1 - m2|^2 + sum (s1 - s2)^2."""
        rng, s1, s2 = np.random.default_rng(0), np.array([1.0, 2.0, 0.5]), np.array([1.5, 1.0, 0.5])
        a = rng.normal(size=(100_000, 3)) * s1
        b = rng.normal(size=(100_000, 3)) * s2 + [1.0, 0.0, -2.0]
        expected = 5 + np.square(s1 - s2).sum()
        assert validation.frechet_distance(a, b) == pytest.approx(expected, rel=0.02)
        assert validation.frechet_distance(a, a) == pytest.approx(0, abs=1e-6)

    def test_sources_count_alike_whatever_their_noise(self):
        found = {
            "a": dict.fromkeys(map(str, validation.TIMES), 20.0),
            "b": dict.fromkeys(map(str, validation.TIMES), 30.0),
        }
        assert validation.score(found) == 25 and set(validation.mean(found).values()) == {25}


class TestTraining:
    @pytest.mark.parametrize("method", ["adam", "muon"])
    @pytest.mark.parametrize("coupling", ["independent", "optimal-transport"])
    def test_training_learns(self, tissue, method, coupling):
        settings = {"method": method, "steps": 60}
        found = made(tissue, optimiser=settings, flow={"coupling": coupling})
        run = Run.open(found, tissue / "run")
        state = State.new(found, run.architecture)
        losses = [float(step(run, state, state.prior, run.batch(k))) for k in range(60)]
        assert np.mean(losses[-10:]) < 0.75 * np.mean(losses[:5])

    @pytest.mark.parametrize(
        "change",
        [
            {},
            {"optimiser": {"method": "muon"}},
            {"precision": "bfloat16"},
            {"network": {"dropout": 0.2}, "flow": {"coupling": "optimal-transport"}},
        ],
    )
    def test_a_resumed_run_is_the_same_bit_for_bit(self, tissue, tmp_path, capsys, change):
        torch.set_num_threads(1)
        more = change.get("optimiser", {})
        long = {**change, "optimiser": {**more, "steps": 6}}
        short = {**change, "optimiser": {**more, "steps": 3}}
        whole = train(made(tissue, **long), tmp_path / "whole")
        train(made(tissue, **short), tmp_path / "parts")
        assert "going on from step 3" not in capsys.readouterr().out
        train(made(tissue, **long), tmp_path / "parts")
        assert "going on from step 3" in capsys.readouterr().out
        whole_state, parts = (load_tensors(tmp_path / name) for name in ("whole", "parts"))
        # the best so far was also looked for after step 3
        assert {k for k in whole_state if not torch.equal(whole_state[k], parts[k])} <= {"best"}
        assert len(whole_state) == len(parts)
        assert whole.facts["steps"] == 6
        assert [line["step"] for line in progress.read(tmp_path / "parts")] == [3, 6]

    def test_weights_are_chosen_by_validation_and_not_by_loss(self, tissue, tmp_path, monkeypatch):
        scores = iter([10.0, 30.0, 20.0])
        monkeypatch.setattr(
            validation,
            "denoise_psnr",
            lambda *_: dict.fromkeys(map(str, validation.TIMES), next(scores)),
        )
        monkeypatch.setattr(progress, "draw_samples", lambda *_: None)
        card = train(
            made(tissue, optimiser={"steps": 3}, checkpoint_minutes=1e-9), tmp_path / "run"
        )
        assert [line["step"] for line in progress.read(tmp_path / "run")] == [1, 2, 3]
        assert card.facts["steps"] == 2

    def test_the_card_tells_data_validation_and_scaling_but_no_folders(self, tissue, tmp_path):
        sources = [{"path": "a.tif", "voxel_size_nm": 8, "sections": (0, 12), "credit": "me"}]
        card = train(made(tissue, note="made up", sources=sources), tmp_path / "run")
        facts = card.facts
        assert (facts["data"], facts["validation"]) == (["a.tif[0:12]"], ["b.tif"])
        assert (facts["credits"], facts["note"]) == (["me"], "made up")
        assert facts["voxel_size_nm"] == {"a.tif[0:12]": [8, 8, 8]}
        low, high = facts["grey_values"]["a.tif[0:12]"]
        assert 0 <= low < high <= 255
        assert str(tissue) not in card.path.with_suffix(".json").read_text()

    def test_it_leaves_curves_samples_and_kept_averages(self, tissue, tmp_path):
        train(made(tissue, keep=True), tmp_path / "run")
        for name in ("curves.png", "samples.png"):
            assert (tmp_path / "run" / name).read_bytes()[:4] == b"\x89PNG"
        (kept,) = (tmp_path / "run/averages").glob("*.safetensors")
        assert load(str(kept))[1].facts["steps"] == 6

    def test_weights_that_were_removed_come_back(self, tissue, tmp_path):
        train(made(tissue), tmp_path / "run")
        (tmp_path / "run/p.safetensors").unlink()
        assert train(made(tissue), tmp_path / "run").facts["steps"] == 6

    def test_better_weights_are_never_replaced_by_worse_ones(self, tissue, tmp_path):
        """Also where the checkpoint that belongs to them was never written."""
        run = tmp_path / "run"
        train(made(tissue), run)
        before = (run / "checkpoint.safetensors").read_bytes()
        better = train(made(tissue, optimiser={"steps": 12}), run)
        (run / "checkpoint.safetensors").write_bytes(before)
        assert train(made(tissue, optimiser={"steps": 7}), run).sha256 == better.sha256

    def test_another_run_is_refused(self, tissue, tmp_path):
        run = tmp_path / "run"
        train(made(tissue), run)
        with pytest.raises(EmgenError, match="another training run: seed"):
            train(made(tissue, seed=1), run)
        tifffile.imwrite(tissue / "a.tif", 255 - tifffile.imread(tissue / "a.tif"))
        with pytest.raises(EmgenError, match="another training run: voxels"):
            train(made(tissue), run)
        (run / "checkpoint.safetensors").write_bytes(b"damaged")
        with pytest.raises(EmgenError, match="cannot be resumed"):
            train(made(tissue), run)
        (run / "checkpoint.safetensors").unlink()
        with pytest.raises(EmgenError, match="no checkpoint to go on from"):
            train(made(tissue), run)

    def test_a_log_that_broke_off_is_mended(self, tissue, tmp_path):
        run = tmp_path / "run"
        train(made(tissue), run)
        with (run / "log.jsonl").open("a") as log:
            log.write('{"step": 7, "seco')
        train(made(tissue, optimiser={"steps": 8}), run)
        assert [line["step"] for line in progress.read(run)] == [6, 8]

    def test_a_run_that_diverges_ends_and_keeps_its_checkpoint(self, tissue, tmp_path):
        run = tmp_path / "run"
        train(made(tissue), run)
        before = weights(run)
        with pytest.raises(EmgenError, match="diverged before step 30"):
            train(made(tissue, optimiser={"steps": 30, "rate": 1e30}), run)
        assert weights(run) == before

    def test_a_network_that_cannot_be_built_is_named(self, tissue, tmp_path):
        with pytest.raises(EmgenError, match="cannot be built"):
            train(
                Recipe.model_validate({**made(tissue).model_dump(), "network": {"depth": 3}}),
                tmp_path / "r",
            )

    def test_training_goes_on_from_another_prior(self, tissue, tmp_path):
        base = train(made(tissue), tmp_path / "base")
        card = train(made(tissue, name="q"), tmp_path / "more", initial=str(base.path))
        first, *_ = progress.read(tmp_path / "more")
        assert first["step"] == 0
        assert first["psnr_db"] == base.facts["validation_denoise_psnr_db"]
        assert card.architecture == base.architecture

    def test_another_network_than_that_of_the_first_weights_is_refused(self, tissue, tmp_path):
        base = train(made(tissue), tmp_path / "base")
        other = {**made(tissue, name="q").model_dump(), "network": {"channels": [8, 24]}}
        with pytest.raises(EmgenError, match=r"not that of .*: channels .*8, 24"):
            train(Recipe.model_validate(other), tmp_path / "more", initial=str(base.path))

    def test_a_full_disk_loses_nothing_before_the_last_checkpoint(self, tissue, tmp_path):
        path, run = written(tissue), tmp_path / "run"
        assert main(["train", str(path), "--output", str(run)]) == 0
        before = weights(run)
        code = (
            "import resource, sys; from emgen.cli import main;"
            f"resource.setrlimit(resource.RLIMIT_FSIZE, ({len(before) // 2},) * 2);"
            f"sys.exit(main(['train', {str(path)!r}, '--output', {str(run)!r}, '--steps', '9']))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2, done.stderr
        assert "make room and start again" in done.stderr
        assert weights(run) == before and not list(run.glob(".*partial"))
        assert main(["train", str(path), "--output", str(run), "--steps", "9"]) == 0

    def test_a_kill_loses_no_more_than_the_steps_since_the_last_checkpoint(
        self, tissue, tmp_path, capfd
    ):
        steps = {"steps": 100_000}
        path, run = written(tissue, optimiser=steps, checkpoint_minutes=0.01), tmp_path / "run"
        command = [sys.executable, "-m", "emgen.cli", "train", str(path), "--output", str(run)]
        process = subprocess.Popen(command, env={**os.environ, "OMP_NUM_THREADS": "1"})
        deadline = time.monotonic() + 120
        while len(progress.read(run)) < 2 and time.monotonic() < deadline:
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
        process.wait()
        reached = int(load_tensors(run)["step"])
        assert reached > 0
        assert main(["train", str(path), "--output", str(run), "--steps", str(reached + 2)]) == 0
        assert f"going on from step {reached}" in capfd.readouterr().out

    @pytest.mark.timeout(600)
    def test_the_workflow_trains_a_prior_and_then_finds_nothing_to_do(self, tissue, tmp_path):
        path = written(tissue, data="elsewhere")
        config = {"recipe": str(path), "data": str(tissue)}
        done = snakemake(tmp_path, config, "train_prior")
        assert done.returncode == 0, done.stderr
        for name in ("p.safetensors", "p.json", "p-curves.png", "p-samples.png"):
            assert (tmp_path / "priors" / name).stat().st_size > 300, name
        assert load(str(tmp_path / "priors/p.safetensors"))[1].facts["steps"] == 6
        assert "Nothing to be done" in snakemake(tmp_path, config, "train_prior").stderr

    def test_the_workflow_says_what_is_wrong_with_a_recipe(self, tissue, tmp_path):
        path = written(tissue, data=str(tissue / "none"))
        done = snakemake(tmp_path, {"recipe": str(path)}, "train_prior")
        assert done.returncode != 0 and "2 of the training sources cannot be used" in done.stderr

    @pytest.mark.slow
    def test_two_processes_learn_what_one_does(self, tissue, tmp_path):
        path = written(tissue)
        for count in (1, 2):
            launch = [*launcher(count), "-m", "emgen.cli", "train", str(path)]
            launch += ["--output", str(tmp_path / str(count))]
            subprocess.run(
                launch, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, timeout=250
            )
        one, two = (load_tensors(tmp_path / str(count)) for count in (1, 2))
        assert one["step"] == two["step"] == 6
        for key in one:
            torch.testing.assert_close(one[key], two[key], rtol=1e-3, atol=1e-5, msg=key)


def load_tensors(folder: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(folder / "checkpoint.safetensors")
