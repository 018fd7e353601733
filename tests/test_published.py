"""Published weights as a prior: the change of variables, the names of the layers, and files not to be trusted.

The comparison with torchcfm's own module runs where that is installed: `make test-published`.
"""

import hashlib
import math
import os
from functools import partial

import pytest
import torch
from diffusers import UNet2DModel
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from emgen.cli import main
from emgen.errors import EmgenError
from emgen.prior import diffusion
from emgen.prior.card import resolve
from emgen.prior.checkpoint import load
from emgen.prior.published import convert

INSIDE = st.floats(diffusion.time(diffusion.STEPS - 1), diffusion.time(0))


class TestDiffusion:
    """Two paths with the same noise."""

    @given(st.integers(0, diffusion.STEPS - 1))
    def test_steps_and_times_are_each_others_inverse(self, step):
        assert diffusion.step(diffusion.time(step)) == pytest.approx(step, abs=1e-6)

    @given(st.integers(0, diffusion.STEPS - 1))
    def test_both_paths_hold_the_same_noise_for_the_same_data(self, step):
        x, eps = torch.randn(2, 5, dtype=torch.float64)
        a, t = diffusion.kept()[step], diffusion.time(step)
        x_s, x_t = math.sqrt(a) * x + math.sqrt(1 - a) * eps, t * x + (1 - t) * eps
        torch.testing.assert_close(diffusion.to_diffusion(x_t, t), x_s)
        torch.testing.assert_close(diffusion.to_flow(x_s, t), x_t)

    @given(INSIDE, st.floats(0.05, 2))
    def test_the_best_noise_under_a_gaussian_gives_the_best_velocity(self, t, s):
        """x ~ N(0, s^2): eps = (1 - t) x_t / p and v = (t s^2 - (1 - t)) x_t / p, p = t^2 s^2 + (1 - t)^2."""
        x_t = torch.randn(5, dtype=torch.float64)
        a = diffusion.kept()
        step = diffusion.step(t)
        # the diffusion's own posterior, at a step between two others too
        left = math.exp(math.log(t) - math.log(math.hypot(t, 1 - t))) ** 2
        assert a[math.ceil(step)] - 1e-9 <= left <= a[math.floor(step)] + 1e-9
        x_s = diffusion.to_diffusion(x_t, t)
        eps = math.sqrt(1 - left) * x_s / (left * s**2 + 1 - left)
        power = t**2 * s**2 + (1 - t) ** 2
        expected = (t * s**2 - (1 - t)) / power * x_t
        torch.testing.assert_close(diffusion.velocity(eps, x_t, t), expected, rtol=1e-6, atol=1e-9)

    @given(INSIDE)
    def test_noise_and_velocity_are_each_others_inverse(self, t):
        x_t, v = torch.randn(2, 5, dtype=torch.float64)
        eps = diffusion.noise(v, x_t, t)
        torch.testing.assert_close(diffusion.velocity(eps, x_t, t), v, rtol=1e-6, atol=1e-9)


SMALL = {
    "sample_size": 16,
    "in_channels": 1,
    "out_channels": 1,
    "layers_per_block": 2,
    "norm_eps": 1e-6,
    "downsample_padding": 0,
    "flip_sin_to_cos": False,
    "freq_shift": 1,
    "block_out_channels": (32, 64),
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
}


def randomised(module):
    """Every weight random: layers that begin at zero would hide a wrong name."""
    torch.manual_seed(0)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.08)
    return module.eval()


@pytest.fixture(scope="module")
def unet():
    return randomised(UNet2DModel(**SMALL))


class TestDiffusionWeights:
    @pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
    @torch.no_grad()
    def test_the_velocity_is_that_of_the_original_network(self, unet, tmp_path, suffix):
        source = tmp_path / f"weights{suffix}"
        write = (
            partial(save_file, filename=source)
            if suffix != ".pt"
            else partial(torch.save, f=source)
        )
        write(unet.state_dict())
        assert main(["convert", str(source), str(tmp_path / "prior.safetensors")]) == 0
        prior, card = load(str(tmp_path / "prior.safetensors"))
        assert (card.tile, card.cell, card.facts["layout"]) == (128, 2, "diffusion (UNet2DModel)")
        assert card.facts["source_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
        x = torch.randn(2, 1, 16, 16)
        for t in (0.1, 0.5, 0.9):
            eps = unet(diffusion.to_diffusion(x, t), torch.full((2,), diffusion.step(t))).sample
            torch.testing.assert_close(prior.velocity(x, t), (x - eps) / t, rtol=1e-5, atol=1e-5)


class TestFlowWeights:
    """Against torchcfm's own module, where it is installed."""

    @pytest.mark.parametrize(
        ("channels", "multipliers", "size"),
        [
            (64, [1, 2], 32),
            (32, [1, 2, 4], 32),
            pytest.param(128, [1, 2, 2, 2], 128, marks=pytest.mark.slow),
        ],
    )
    @torch.no_grad()
    def test_the_velocity_is_that_of_the_original_module(
        self, tmp_path, channels, multipliers, size
    ):
        original = pytest.importorskip("torchcfm.models.unet.unet").UNetModelWrapper
        attended = size >> (len(multipliers) - 1)
        module = randomised(
            original(
                dim=(1, size, size),
                num_channels=channels,
                num_res_blocks=2,
                channel_mult=multipliers,
                num_heads=4,
                num_head_channels=64,
                attention_resolutions=str(attended),
                dropout=0.1,
            )
        )
        source = tmp_path / "flow.pt"
        names = {f"module.{key}": value for key, value in module.state_dict().items()}
        torch.save({"net_model": {}, "ema_model": names, "step": 7}, source)
        card = convert(source, tmp_path / "flow.safetensors")
        prior, _ = load(str(card.path))
        assert card.architecture["channels"] == [channels * m for m in multipliers]
        x = torch.randn(2, 1, size, size)
        for t in (0.0, 0.3, 0.97):
            expected = module(torch.full((2,), t), x)
            scale = float(expected.abs().max())
            torch.testing.assert_close(
                prior.velocity(x, t) / scale, expected / scale, rtol=0, atol=1e-5
            )


class TestFiles:
    def test_a_pickle_that_would_run_a_program_is_refused_and_does_not_run(self, tmp_path):
        class Evil:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "ran"),)

        torch.save({"ema_model": Evil()}, tmp_path / "evil.pt")
        with pytest.raises(EmgenError, match="more than tensors"):
            convert(tmp_path / "evil.pt", tmp_path / "a.safetensors")
        assert not (tmp_path / "ran").exists()

    @pytest.mark.parametrize(
        ("weights", "words"),
        [
            ({"layer.weight": torch.ones(2)}, "none of the known layouts"),
            ([torch.ones(2)], "holds a list"),
            ({"conv_in.weight": torch.ones(4, 1, 3, 3)}, "is incomplete"),
            ({"input_blocks.0.0.weight": torch.ones(4, 1, 3, 3)}, "levels of equal depth"),
        ],
    )
    def test_what_is_something_else_is_named(self, tmp_path, weights, words):
        torch.save(weights, tmp_path / "a.pt")
        with pytest.raises(EmgenError, match=words):
            convert(tmp_path / "a.pt", tmp_path / "a.safetensors")

    def test_a_missing_layer_is_named(self, unet, tmp_path):
        weights = unet.state_dict()
        del weights["mid_block.resnets.0.conv1.bias"]
        save_file(weights, tmp_path / "a.safetensors")
        with pytest.raises(EmgenError, match=r"mid_block.resnets.0.conv1.bias is missing"):
            convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors")

    def test_damage_is_named_and_nothing_is_overwritten(self, unet, tmp_path):
        for name in ("a.pt", "a.safetensors"):
            (tmp_path / name).write_bytes(b"no weights at all")
            with pytest.raises(EmgenError, match=r"damaged|more than tensors"):
                convert(tmp_path / name, tmp_path / "b.safetensors")
        with pytest.raises(EmgenError, match="exists"):
            convert(tmp_path / "a.pt", tmp_path / "a.safetensors")
        with pytest.raises(EmgenError, match="must end in"):
            convert(tmp_path / "a.pt", tmp_path / "b.pt")
        with pytest.raises(EmgenError, match="no checkpoint at"):
            convert(tmp_path / "none.pt", tmp_path / "b.safetensors")

    def test_a_pickle_given_as_a_prior_is_refused_with_the_command(self):
        with pytest.raises(EmgenError, match=r"emgen convert flow.pt flow.safetensors"):
            resolve("flow.pt")
