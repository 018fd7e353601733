"""The prior: path and loss, network, patches, training, files."""

import json
import math
from itertools import permutations
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emgen.errors import EmgenError
from emgen.networks.build import build
from emgen.networks.card import resolve
from emgen.networks.checkpoint import load, save
from emgen.sampling.flow import x1_prediction
from emgen.training import flow
from emgen.training.validation import denoise_psnr

SMALL = {"channels": [8, 16], "layers": 1}


def network(seed=0, **more):
    torch.manual_seed(seed)
    prior = build({**SMALL, **more}).eval()
    for parameter in prior.parameters():  # what begins at zero would hide what it does
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.1)
    return prior


class TestFlow:
    def test_the_path_goes_from_noise_to_data(self):
        x, eps = torch.randn(2, 3, 1, 4, 4)
        assert torch.equal(flow.interpolant(x, eps, torch.zeros(3)), eps)
        assert torch.equal(flow.interpolant(x, eps, torch.ones(3)), x)

    @given(st.floats(0, 1))
    def test_the_destination_of_the_true_velocity_is_the_data(self, t):
        x, eps = torch.randn(2, 3, 1, 4, 4, dtype=torch.float64)
        x_t = flow.interpolant(x, eps, torch.full((3,), t, dtype=torch.float64))
        torch.testing.assert_close(x1_prediction(x_t, x - eps, t), x)

    def test_the_loss_of_the_best_velocity_under_a_gaussian_is_its_variance(self):
        """For x ~ N(0, 1): v = (2 t - 1) x_t / s, s = t^2 + (1 - t)^2, and the remaining variance is 1 / s."""
        x, eps = torch.randn(2, 200_000, 1, 1, 1, generator=torch.Generator().manual_seed(0))
        for t in (0.2, 0.5, 0.9):
            s, clean = t**2 + (1 - t) ** 2, torch.zeros(len(x))
            found = flow.loss(
                lambda x_t, _, t=t, s=s: (2 * t - 1) * x_t / s, x, eps, clean + t, clean
            )
            assert found == pytest.approx(1 / s, rel=0.02)

    @given(st.floats(0, 1, exclude_max=True), st.floats(0, 2))
    def test_noisy_data_and_what_is_missing_make_the_noise_of_the_path(self, t, noise):
        k = float(flow.noise_deficit(torch.tensor(t).double(), torch.tensor(noise).double()))
        total = (t * noise) ** 2 + (1 - t) ** 2 * k
        assert 0 <= k <= 1
        if k:
            assert total == pytest.approx((1 - t) ** 2, rel=1e-6, abs=1e-12)
        else:
            assert total >= (1 - t) ** 2 * (1 - 1e-6) or 1 - t < 1e-6

    @pytest.mark.parametrize("t", [0.2, 0.5, 0.8, 0.88])
    def test_from_noisy_data_the_velocity_of_clean_ones_is_learnt(self, t):
        """For x ~ N(0, s^2) behind noise: the best of all v = a x_t is a = (t s^2 - (1 - t)) / (t^2 s^2 + (1 - t)^2)."""
        s, noise, n = 0.2, 0.1, 400_000
        generator = torch.Generator().manual_seed(0)
        x, own, eps = torch.randn(3, n, 1, 1, 1, generator=generator, dtype=torch.float64)
        seen = s * x + noise * own

        def loss(a, data, level):
            times, levels = torch.full((n,), t).double(), torch.full((n,), level).double()
            return float(flow.loss(lambda x_t, _: a * x_t, data, eps, times, levels))

        def best(data, level):
            # the loss is a parabola in a
            left, middle, right = (loss(a, data, level) for a in (-1, 0, 1))
            return (left - right) / 2 / (left - 2 * middle + right)

        expected = (t * s**2 - (1 - t)) / (t**2 * s**2 + (1 - t) ** 2)
        assert best(seen, noise) == pytest.approx(expected, abs=0.05)
        # taken for clean, they teach another
        if t > 0.7:
            assert abs(best(seen, 0.0) - expected) > 0.2

    def test_data_noisier_than_the_path_say_nothing(self):
        x, eps = torch.randn(2, 3, 1, 4, 4)
        v = torch.zeros(3, 1, 4, 4, requires_grad=True)
        loss = flow.loss(lambda *_: v, x, eps, torch.full((3,), 0.95), torch.full((3,), 0.1))
        loss.backward()
        assert loss == 0 and not v.grad.any()

    def test_times_cover_the_whole_path_and_favour_its_end(self):
        t = flow.times(20_000, 0.5, torch.Generator().manual_seed(0))
        assert 0 <= t.min() < 0.01 and 0.99 < t.max() <= 1
        assert 0.55 < (t > 0.5).float().mean() < 0.75

    @given(st.integers(1, 40), st.floats(0, 1))
    def test_late_times_are_spread_over_the_batch(self, count, late):
        """Any run of the batch, as a process may get it, has its share of late times."""
        t = flow.times(count, late, torch.Generator().manual_seed(3))
        uniform = flow.times(count, 0.0, torch.Generator().manual_seed(3))
        changed = (t != uniform).cumsum(0)
        assert (changed - torch.arange(1, count + 1) * late).abs().max() <= 1 + 1e-4

    @given(st.integers(1, 6), st.integers(0, 99))
    def test_coupling_finds_the_cheapest_of_all_pairings(self, count, seed):
        x, eps = torch.randn(2, count, 1, 3, 3, generator=torch.Generator().manual_seed(seed))
        found = flow.ot_pairing(x, eps)
        cost = [(x - eps[list(order)]).square().sum() for order in permutations(range(count))]
        assert (x - found).square().sum() == pytest.approx(float(min(cost)), rel=1e-5)
        assert sorted(found.flatten().tolist()) == sorted(eps.flatten().tolist())

    def test_samples_of_the_exact_velocity_have_the_data_distribution(self):
        """x ~ N(0.3, 0.2^2): v = mean + (t s^2 - (1 - t)) / (t^2 s^2 + (1 - t)^2) (x_t - t mean)."""
        mean, s = 0.3, 0.2

        def velocity(x, t):
            t = t.reshape(-1, 1, 1, 1)
            return mean + (t * s**2 - (1 - t)) / (t**2 * s**2 + (1 - t) ** 2) * (x - t * mean)

        eps = torch.randn(40_000, 1, 1, 1, generator=torch.Generator().manual_seed(0))
        found = flow.sample(velocity, eps, 400)
        assert found.mean() == pytest.approx(mean, abs=0.01)
        assert found.std() == pytest.approx(s, rel=0.03)


class TestNetwork:
    @settings(max_examples=15, deadline=None)
    @given(st.integers(1, 21), st.integers(1, 21), st.sampled_from(["unet2d", "gated"]))
    def test_planes_of_any_size_keep_their_size(self, height, width, design):
        x = torch.randn(2, 1, height, width)
        assert network(design=design).velocity(x, 0.5).shape == x.shape

    @torch.no_grad()
    @pytest.mark.parametrize("design", ["unet2d", "gated"])
    def test_the_network_moves_with_its_input(self, design):
        prior, x = network(design=design), torch.randn(1, 1, 192, 192)
        moved = prior.velocity(x.roll((4, 8), (2, 3)), 0.7)[..., 92:108, 96:112]
        torch.testing.assert_close(moved, prior.velocity(x, 0.7)[..., 88:104, 88:104])

    @torch.no_grad()
    @pytest.mark.parametrize(
        ("design", "norm"), [("unet2d", "pixel"), ("unet2d", "group"), ("gated", "pixel")]
    )
    def test_only_group_norm_makes_a_pixel_depend_on_a_far_corner(self, design, norm):
        prior, x = network(design=design, norm=norm), torch.randn(1, 1, 192, 192)
        changed = x.clone()
        changed[..., :4, :4] += 5
        far = [prior.velocity(each, 0.7)[..., 160:, 160:] for each in (x, changed)]
        assert torch.equal(*far) == (norm == "pixel")

    @torch.no_grad()
    @pytest.mark.parametrize("design", ["unet2d", "gated"])
    def test_planes_of_a_batch_do_not_see_each_other(self, design):
        prior, x = network(design=design), torch.randn(5, 1, 24, 24)
        torch.testing.assert_close(prior.velocity(x, 0.3)[2:3], prior.velocity(x[2:3], 0.3))

    @torch.no_grad()
    @pytest.mark.parametrize("design", ["unet2d", "gated"])
    def test_the_network_knows_the_time(self, design):
        prior, x = network(design=design), torch.randn(2, 1, 24, 24)
        assert not torch.allclose(prior.velocity(x, 0.3), prior.velocity(x, 0.8), atol=1e-3)

    @pytest.mark.parametrize(
        ("setting", "words"),
        [
            ({"norm": "batch"}, "norm must"),
            ({"design": "x"}, "design"),
            ({"predicts": "x"}, "predicts"),
        ],
    )
    def test_unknown_settings_are_refused(self, setting, words):
        with pytest.raises(ValueError, match=words):
            network(**setting)


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
        from emgen.volumes.intensity import Intensity
        from emgen.volumes.volume import Volume

        prior, _ = load("emgen-small")
        volume = Volume.open(Path(__file__).parent.parent / "demo/reference.ome.zarr")
        voxels = volume.read(Box((0, 0, 0), (90, 96, 96)))[::30]
        x = torch.from_numpy(Intensity.of([voxels]).encode(voxels))[:, None]
        found = denoise_psnr(prior, x)
        noisy = {t: 20 * math.log10(2 / ((1 - t) / t)) for t in (0.5, 0.7, 0.8, 0.9)}
        assert all(found[str(t)] > noisy[t] + 2 for t in noisy)
        # and of noisy tissue it is said as well, though the clean one is not known
        level = 0.12
        seen = x + level * torch.randn(x.shape, generator=torch.Generator().manual_seed(2))
        behind = denoise_psnr(prior, seen, level)
        assert list(behind) == ["0.3", "0.5", "0.7", "0.8"]
        assert all(abs(behind[t] - found[t]) < 0.15 for t in behind)

    @pytest.mark.parametrize(
        ("name", "words"),
        [
            (
                "no-such-prior",
                "shipped are: emgen-axial, emgen-sections, emgen-sections-base, emgen-small",
            ),
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
        with pytest.raises(EmgenError, match=r"p\.json: expected keys and values; found list"):
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

    @pytest.mark.parametrize("value", [float("nan"), float("-inf"), 1e30])
    def test_weights_that_no_training_made_are_refused(self, tmp_path, value):
        damaged = network()
        with torch.no_grad():
            list(damaged.parameters())[3].view(-1)[-1] = value
        card = save(damaged, tmp_path / "p.safetensors", "p", SMALL, {})
        with pytest.raises(
            EmgenError, match=f"damaged: 1 of .* the first is {value:g}".replace("+", r"\+")
        ):
            load(str(card.path))

    def test_weights_of_another_network_are_named(self, saved):
        card = json.loads(saved.path.with_suffix(".json").read_text())
        card["architecture"]["channels"] = [8, 24]
        saved.path.with_suffix(".json").write_text(json.dumps(card))
        with pytest.raises(EmgenError, match="do not fit the network"):
            load(str(saved.path))
