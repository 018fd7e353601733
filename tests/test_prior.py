"""The prior: path and loss, network, patches, training, files."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emgen.errors import EmgenError
from emgen.prior import flow, patches
from emgen.prior.card import resolve
from emgen.prior.checkpoint import load, save
from emgen.prior.network import Prior
from emgen.prior.training import State, Training, denoise_psnr, step, train

SMALL = {"channels": [8, 16], "layers": 1}


def network(seed=0, **more):
    torch.manual_seed(seed)
    return Prior(**{**SMALL, **more}).eval()


class TestFlow:
    def test_the_path_goes_from_noise_to_data(self):
        x, eps = torch.randn(2, 3, 1, 4, 4)
        assert torch.equal(flow.at(x, eps, torch.zeros(3)), eps)
        assert torch.equal(flow.at(x, eps, torch.ones(3)), x)

    @given(st.floats(0, 1))
    def test_the_destination_of_the_true_velocity_is_the_data(self, t):
        x, eps = torch.randn(2, 3, 1, 4, 4, dtype=torch.float64)
        x_t = flow.at(x, eps, torch.full((3,), t, dtype=torch.float64))
        torch.testing.assert_close(flow.destination(x_t, x - eps, t), x)

    def test_the_loss_of_the_best_velocity_under_a_gaussian_is_its_variance(self):
        """For x ~ N(0, 1): v = (2 t - 1) x_t / s, s = t^2 + (1 - t)^2, and the remaining variance is 1 / s."""
        x, eps = torch.randn(2, 200_000, 1, 1, 1, generator=torch.Generator().manual_seed(0))
        for t in (0.2, 0.5, 0.9):
            s = t**2 + (1 - t) ** 2
            found = flow.loss(
                lambda x_t, _, t=t, s=s: (2 * t - 1) * x_t / s, x, eps, torch.full((len(x),), t)
            )
            assert found == pytest.approx(1 / s, rel=0.02)

    def test_times_cover_the_whole_path_and_favour_its_end(self):
        t = flow.times(20_000, torch.Generator().manual_seed(0))
        assert 0 <= t.min() < 0.01 and 0.99 < t.max() <= 1
        assert 0.55 < (t > 0.5).float().mean() < 0.75


class TestNetwork:
    @settings(max_examples=15, deadline=None)
    @given(st.integers(1, 21), st.integers(1, 21))
    def test_planes_of_any_size_keep_their_size(self, height, width):
        x = torch.randn(2, 1, height, width)
        assert network().velocity(x, 0.5).shape == x.shape

    @torch.no_grad()
    def test_the_network_moves_with_its_input(self):
        prior, x = network(), torch.randn(1, 1, 192, 192)
        moved = prior.velocity(x.roll((4, 8), (2, 3)), 0.7)[..., 92:108, 96:112]
        torch.testing.assert_close(moved, prior.velocity(x, 0.7)[..., 88:104, 88:104])

    @torch.no_grad()
    @pytest.mark.parametrize("norm", ["pixel", "group"])
    def test_only_group_norm_makes_a_pixel_depend_on_a_far_corner(self, norm):
        prior, x = network(norm=norm), torch.randn(1, 1, 192, 192)
        changed = x.clone()
        changed[..., :4, :4] += 5
        far = [prior.velocity(each, 0.7)[..., 160:, 160:] for each in (x, changed)]
        assert torch.equal(*far) == (norm == "pixel")

    @torch.no_grad()
    def test_planes_of_a_batch_do_not_see_each_other(self):
        prior, x = network(), torch.randn(5, 1, 24, 24)
        torch.testing.assert_close(prior.velocity(x, 0.3)[2:3], prior.velocity(x[2:3], 0.3))

    def test_an_unknown_norm_is_refused(self):
        with pytest.raises(ValueError, match='"pixel" or "group"'):
            network(norm="batch")


class TestFiles:
    @pytest.fixture
    def saved(self, tmp_path):
        return save(network(), tmp_path / "p.safetensors", "p", SMALL, {"steps": 3})

    def test_weights_and_card_come_back(self, saved):
        prior, card = load(str(saved.path))
        assert (card.name, card.facts["steps"], card.tile) == ("p", 3, None)
        x = torch.randn(1, 1, 16, 16)
        assert torch.equal(prior.velocity(x, 0.5), network().velocity(x, 0.5))

    def test_a_network_that_ties_its_plane_together_gets_tiles(self, tmp_path):
        architecture = {**SMALL, "norm": "group"}
        card = save(network(norm="group"), tmp_path / "g.safetensors", "g", architecture, {})
        assert card.tile == 128

    def test_the_shipped_prior_says_where_it_comes_from(self):
        prior, card = load("emgen-small")
        assert card.path.stat().st_size <= 12e6
        assert sum(p.numel() for p in prior.parameters()) == card.facts["parameters"]
        assert not any("fib25_b" in source for source in card.facts["data"])
        assert set(card.facts) >= {
            "data",
            "steps",
            "training",
            "validation_denoise_psnr_db",
            "note",
        }

    def test_the_shipped_prior_denoises_real_tissue(self):
        from emgen.geometry import Box
        from emgen.intensity import Intensity
        from emgen.volume import Volume

        prior, _ = load("emgen-small")
        volume = Volume.open(Path(__file__).parent.parent / "demo/reference.ome.zarr")
        voxels = volume.read(Box((0, 0, 0), (90, 96, 96)))[::30]
        x = torch.from_numpy(Intensity.of([voxels]).encode(voxels))[:, None]
        found = denoise_psnr(prior, x)
        noisy = {t: 20 * math.log10(2 / ((1 - t) / t)) for t in (0.5, 0.7, 0.8, 0.9)}
        assert all(found[str(t)] > noisy[t] + 2 for t in noisy)

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            ("no-such-prior", "shipped are: emgen-small"),
            ("missing.safetensors", "there is no prior missing.safetensors"),
            ("weights.ckpt", "pickle"),
            ("some/folder", "neither a shipped name"),
        ],
    )
    def test_what_is_no_prior_is_refused(self, name, words):
        with pytest.raises(EmgenError, match=words):
            resolve(name)

    def test_a_missing_card_is_named(self, saved):
        saved.path.with_suffix(".json").unlink()
        with pytest.raises(EmgenError, match="has no card"):
            load(str(saved.path))

    def test_a_card_that_is_none_is_named(self, saved):
        saved.path.with_suffix(".json").write_text("[]")
        with pytest.raises(EmgenError, match="not the card of a prior"):
            load(str(saved.path))

    def test_damaged_weights_are_named(self, saved):
        saved.path.write_bytes(saved.path.read_bytes()[:-100])
        with pytest.raises(EmgenError, match="not the file its card describes"):
            load(str(saved.path))

    def test_a_file_that_is_not_safetensors_is_named(self, saved):
        import hashlib

        saved.path.write_bytes(b"not tensors at all")
        card = json.loads(saved.path.with_suffix(".json").read_text())
        card["sha256"] = hashlib.sha256(b"not tensors at all").hexdigest()
        saved.path.with_suffix(".json").write_text(json.dumps(card))
        with pytest.raises(EmgenError, match="cannot be read"):
            load(str(saved.path))

    def test_weights_of_another_network_are_named(self, saved):
        card = json.loads(saved.path.with_suffix(".json").read_text())
        card["architecture"]["channels"] = [8, 24]
        saved.path.with_suffix(".json").write_text(json.dumps(card))
        with pytest.raises(EmgenError, match="do not fit the network"):
            load(str(saved.path))


@pytest.fixture
def tissue(tmp_path):
    """Two small smooth volumes as TIFF."""
    from scipy.ndimage import gaussian_filter

    for name, seed in (("a", 0), ("b", 1)):
        field = gaussian_filter(np.random.default_rng(seed).normal(size=(20, 120, 120)), 3)
        tifffile.imwrite(
            tmp_path / f"{name}.tif", (128 + 900 * field).clip(0, 255).astype(np.uint8)
        )
    return tmp_path


class TestPatches:
    def test_a_batch_follows_from_seed_and_step_alone(self, tissue):
        sources = [
            patches.Source.open(f"{tissue}/a.tif@8", 40),
            patches.Source.open(f"{tissue}/b.tif[3:9]@40,4,4", 40),
        ]
        first = patches.batch(sources, (1, 1), 0, 7, 6, 32)
        assert first.shape == (6, 1, 32, 32) and first.dtype == np.float32
        assert (first == patches.batch(sources, (1, 1), 0, 7, 6, 32)).all()
        assert (first != patches.batch(sources, (1, 1), 0, 8, 6, 32)).any()
        assert (first != patches.batch(sources, (1, 1), 1, 7, 6, 32)).any()

    def test_only_isotropic_volumes_give_axial_planes(self, tissue):
        assert patches.Source.open(f"{tissue}/a.tif@8", 40).planes == ("xy", "xz", "yz")
        assert patches.Source.open(f"{tissue}/a.tif@40,4,4", 40).planes == ("xy",)

    def test_sections_held_out_are_not_read(self, tissue):
        whole = patches.Source.open(f"{tissue}/a.tif@8", 40)
        assert patches.Source.open(f"{tissue}/a.tif[5:11]@8", 40).voxels.shape == (
            6,
            *whole.voxels.shape[1:],
        )

    @pytest.mark.parametrize(
        ("source", "words"),
        [
            ("none.tif@8", "no training source"),
            ("a.tif", "voxel size"),
            ("flat.tif@8", "grey value"),
            ("nan.tif@8", "not finite"),
            ("thin.tif@8", "patches need"),
        ],
    )
    def test_bad_sources_are_named(self, tissue, source, words):
        tifffile.imwrite(tissue / "flat.tif", np.full((5, 90, 90), 3, np.uint8))
        tifffile.imwrite(tissue / "nan.tif", np.full((5, 90, 90), np.nan, np.float32))
        tifffile.imwrite(
            tissue / "thin.tif",
            np.random.default_rng(0).integers(0, 9, (50, 20, 90)).astype(np.uint8),
        )
        with pytest.raises(EmgenError, match=words):
            patches.Source.open(f"{tissue}/{source}", 40)


class TestTraining:
    def settings(self, tissue, **more):
        base = {"channels": (8, 16), "batch": 4, "size": 32, "warm_up": 4, "rate": 3e-3, "decay": 2}
        return Training(
            sources=(f"{tissue}/a.tif@8",), validation=(f"{tissue}/b.tif@8",), **{**base, **more}
        )

    def test_training_learns(self, tissue):
        training = self.settings(tissue, steps=60)
        state, sources = State.new(training), [patches.Source.open(training.sources[0], 40)]
        losses = [step(training, state, sources, (1.0,)) for _ in range(60)]
        assert np.mean(losses[-10:]) < 0.7 * np.mean(losses[:5])

    def test_a_resumed_run_is_the_same_bit_for_bit(self, tissue, tmp_path, capsys):
        torch.set_num_threads(1)
        whole = train(self.settings(tissue, steps=6, decay=0), tmp_path / "whole")
        train(self.settings(tissue, steps=3, decay=0), tmp_path / "parts")
        assert "going on from step 3" not in capsys.readouterr().out
        train(self.settings(tissue, steps=6, decay=0), tmp_path / "parts")
        assert "going on from step 3" in capsys.readouterr().out
        checkpoints = [
            (tmp_path / name / "checkpoint.safetensors").read_bytes() for name in ("whole", "parts")
        ]
        assert checkpoints[0] == checkpoints[1]
        assert whole.facts["steps"] == 6

    def test_the_card_tells_data_and_validation_but_no_folders(self, tissue, tmp_path):
        card = train(self.settings(tissue, steps=2, note="made up"), tmp_path / "run")
        assert (card.facts["data"], card.facts["note"]) == (["a.tif@8"], "made up")
        assert str(tissue) not in card.path.with_suffix(".json").read_text()

    def test_the_rate_warms_up_stays_and_falls(self, tissue):
        training = self.settings(tissue, steps=100, decay=20, warm_up=10, rate=1.0)
        assert [training.rate_at(s) for s in (0, 9, 50, 80, 99)] == pytest.approx(
            [0.1, 1, 1, 1, 0.05]
        )

    def test_faults_are_named_before_training(self, tissue, tmp_path):
        with pytest.raises(EmgenError, match="validation"):
            Training(sources=("a",), validation=())
        with pytest.raises(EmgenError, match="weight for each"):
            self.settings(tissue, weights=(1.0, 2.0))
        train(self.settings(tissue, steps=2), tmp_path / "run")
        with pytest.raises(EmgenError, match="belongs to another training run"):
            train(self.settings(tissue, steps=3, seed=1), tmp_path / "run")
        (tmp_path / "run/checkpoint.safetensors").write_bytes(b"damaged")
        with pytest.raises(EmgenError, match="cannot be resumed"):
            train(self.settings(tissue, steps=2), tmp_path / "run")
