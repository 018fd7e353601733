"""Published weights as a prior: the names of the layers, and files not to be trusted.

The comparison with torchcfm's own module runs where that is installed: `make test-published`.
"""

import hashlib
import json
import math
import os
import subprocess
import sys
import zipfile
from functools import partial

import pytest
import torch
from diffusers import UNet2DModel
from runs import measured, restore, settings
from safetensors.torch import save_file

from emgen.cli.main import main
from emgen.errors import EmgenError
from emgen.geometry import Box
from emgen.networks.card import resolve
from emgen.networks.checkpoint import load
from emgen.networks.published import convert
from emgen.sampling import diffusion

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
        assert (card.tile, card.stride, card.facts["layout"]) == (128, 2, "diffusion (UNet2DModel)")
        assert card.facts["source_sha256"] == hashlib.sha256(source.read_bytes()).hexdigest()
        x = torch.randn(2, 1, 16, 16)
        for t in (0.1, 0.5, 0.9):
            step = torch.full((2,), float(diffusion.step(t)))
            eps = unet(x / math.hypot(t, 1 - t), step).sample
            torch.testing.assert_close(prior.velocity(x, t), (x - eps) / t, rtol=1e-5, atol=1e-5)

    @torch.no_grad()
    def test_a_plane_of_a_batch_has_its_own_time(self, unet, tmp_path):
        """As in training and in unconditional samples, which call the network so."""
        torch.save(unet.state_dict(), tmp_path / "a.pt")
        prior, _ = load(str(convert(tmp_path / "a.pt", tmp_path / "a.safetensors").path))
        x, times = torch.randn(3, 1, 16, 16), (0.0, 0.4, 1.0)
        single = [prior.velocity(x[k : k + 1], t) for k, t in enumerate(times)]
        torch.testing.assert_close(
            prior(x, torch.tensor(times)), torch.cat(single), rtol=1e-4, atol=1e-4
        )

    @pytest.mark.parametrize("wrapper", ["module.", "ema_module.", "module.ema_"])
    def test_names_may_be_wrapped(self, unet, tmp_path, wrapper):
        wrapped = {f"{wrapper}{key}": value for key, value in unet.state_dict().items()}
        torch.save({"ema_model": wrapped}, tmp_path / "a.pt")
        prior, _ = load(str(convert(tmp_path / "a.pt", tmp_path / "a.safetensors").path))
        for key, value in unet.state_dict().items():
            assert torch.equal(prior.unet.state_dict()[key], value), key

    def test_the_average_is_taken_where_there_is_one(self, unet, tmp_path):
        last = {key: value + 1 for key, value in unet.state_dict().items()}
        torch.save({"net_model": last, "ema_model": unet.state_dict()}, tmp_path / "a.pt")
        prior, _ = load(str(convert(tmp_path / "a.pt", tmp_path / "a.safetensors").path))
        assert torch.equal(prior.unet.conv_in.weight, unet.conv_in.weight)

    def test_a_folder_of_diffusers_is_taken_unless_its_settings_differ(self, unet, tmp_path):
        unet.save_pretrained(tmp_path / "unet")
        card = convert(tmp_path / "unet", tmp_path / "a.safetensors")
        assert card.facts["source"] == "diffusion_pytorch_model.safetensors"
        config = tmp_path / "unet/config.json"
        config.write_text(json.dumps({**json.loads(config.read_text()), "freq_shift": 0}))
        with pytest.raises(EmgenError, match="freq_shift is 0, expected 1"):
            convert(tmp_path / "unet", tmp_path / "b.safetensors")

    def test_a_volume_is_restored_with_it(self, unet, tmp_path):
        torch.save(unet.state_dict(), tmp_path / "a.pt")
        card = convert(tmp_path / "a.pt", tmp_path / "a.safetensors")
        mode = {"mode": "denoise", "sampler": "em-generalist", "steps": 2}
        volume = measured(tmp_path, Box((0, 0, 0), (1, 17, 19)))
        plan, voxels = restore(
            tmp_path / "run", settings(volume, restore={**mode, "prior": str(card.path)})
        )
        assert (plan.prior["stride"], plan.prior["layout"]) == (2, "diffusion (UNet2DModel)")
        assert voxels.shape == (1, 17, 19) and voxels.std() > 1


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
        with pytest.raises(EmgenError, match="more than tensors") as refusal:
            convert(tmp_path / "evil.pt", tmp_path / "a.safetensors")
        assert not (tmp_path / "ran").exists()
        assert "weights_only" not in str(refusal.value)

    def test_a_whole_network_is_refused_with_a_command_that_takes_its_tensors(self, tmp_path):
        name = "a'$(touch ran)`touch ran`\"; touch ran"
        source = tmp_path / f"{name}.pt"
        torch.save(UNet2DModel(**SMALL), source)
        with pytest.raises(EmgenError, match=r"UNet2DModel.*Only where you trust") as refusal:
            convert(source, tmp_path / "a.safetensors")
        command = str(refusal.value).split(": python ")[1]
        subprocess.run(f"{sys.executable} {command}", shell=True, check=True, cwd=tmp_path)
        assert not (tmp_path / "ran").exists()
        assert convert(tmp_path / f"{name}-tensors.pt", tmp_path / "a.safetensors").name == "a"

    @pytest.mark.parametrize(
        ("weights", "words"),
        [
            ({"layer.weight": torch.ones(2)}, "none of the known layouts"),
            ([torch.ones(2)], "holds a list"),
            ({"conv_in.weight": torch.ones(4, 1, 3, 3)}, "conv1.weight missing"),
            ({"input_blocks.0.0.weight": torch.ones(4, 1, 3, 3)}, "levels of equal depth"),
        ],
    )
    def test_what_is_something_else_is_named(self, tmp_path, weights, words):
        torch.save(weights, tmp_path / "a.pt")
        with pytest.raises(EmgenError, match=words):
            convert(tmp_path / "a.pt", tmp_path / "a.safetensors")

    @pytest.mark.parametrize(
        "key", ["input_blocks.999999999.0.w", "x" * 10**6, "down_blocks.99999.x"]
    )
    def test_a_name_alone_asks_for_no_memory(self, tmp_path, key):
        for first in ("conv_in.weight", "input_blocks.0.0.weight"):
            torch.save({first: torch.ones(4, 1, 3, 3), key: torch.ones(1)}, tmp_path / "a.pt")
            with pytest.raises(EmgenError) as refusal:
                convert(tmp_path / "a.pt", tmp_path / "a.safetensors")
            assert len(str(refusal.value)) < 2000

    def test_few_bytes_that_say_they_are_many_are_refused(self, unet, tmp_path):
        weights = unet.state_dict()
        torch.save({**weights, "conv_in.bias": torch.ones(1).expand(10**9)}, tmp_path / "a.pt")
        with pytest.raises(EmgenError, match="the file holds fewer numbers"):
            convert(tmp_path / "a.pt", tmp_path / "a.safetensors")
        with zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr("b/data/0", bytes(10**6))
        with pytest.raises(EmgenError, match="a compressed archive"):
            convert(tmp_path / "b.pt", tmp_path / "a.safetensors")

    def test_a_checkpoint_that_does_not_fit_its_checksum_is_refused(self, unet, tmp_path):
        torch.save(unet.state_dict(), tmp_path / "a.pt")
        content = bytearray((tmp_path / "a.pt").read_bytes())
        content[len(content) // 2] ^= 1
        (tmp_path / "a.pt").write_bytes(content)
        with pytest.raises(EmgenError, match=r"a\.pt is damaged: .* does not fit its checksum"):
            convert(tmp_path / "a.pt", tmp_path / "a.safetensors")

    def test_weights_that_do_not_fit_are_named(self, unet, tmp_path):
        weights = unet.state_dict() | {
            "conv_in.weight": torch.ones(32, 3, 3, 3),
            "x": torch.ones(1),
        }
        del weights["mid_block.resnets.0.conv1.bias"]
        save_file(weights, tmp_path / "a.safetensors")
        with pytest.raises(EmgenError, match="3 of its weights are wrong") as refusal:
            convert(tmp_path / "a.safetensors", tmp_path / "b.safetensors")
        assert "mid_block.resnets.0.conv1.bias is missing" in str(refusal.value)
        assert "x is not expected" in str(refusal.value)
        assert "shape (32, 3, 3, 3), expected (32, 1, 3, 3)" in str(refusal.value)

    def test_heads_of_another_width_are_named(self, tmp_path):
        original = pytest.importorskip("torchcfm.models.unet.unet").UNetModelWrapper
        module = original((1, 16, 16), 32, 2, channel_mult=[1], num_head_channels=32)
        torch.save(module.state_dict(), tmp_path / "a.pt")
        with pytest.raises(EmgenError, match="heads of 64 channels, found 32"):
            convert(tmp_path / "a.pt", tmp_path / "a.safetensors")

    @pytest.mark.parametrize(
        "data",
        [
            b"",
            b"version https://git-lfs",
            b"\x80\x02}q\x00(X\x01",
            b"\x80\x02]q\x00.",
            b"PK\x03\x04",
        ],
    )
    @pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
    def test_damage_is_named_as_such(self, tmp_path, data, suffix):
        source = tmp_path / f"a{suffix}"
        source.write_bytes(data)
        with pytest.raises(EmgenError, match=r"not a checkpoint, or damaged: \w"):
            convert(source, tmp_path / "b.safetensors")

    def test_nothing_is_overwritten_and_targets_are_looked_at_first(self, tmp_path):
        for name in ("a.pt", "a.safetensors", "c.json"):
            (tmp_path / name).touch()
        for name in ("a", "c"):
            with pytest.raises(EmgenError, match="exists"):
                convert(tmp_path / "a.pt", tmp_path / f"{name}.safetensors")
        with pytest.raises(EmgenError, match="there is no folder"):
            convert(tmp_path / "a.pt", tmp_path / "none/b.safetensors")
        with pytest.raises(EmgenError, match="must end in"):
            convert(tmp_path / "a.pt", tmp_path / "b.pt")
        with pytest.raises(EmgenError, match="no checkpoint at"):
            convert(tmp_path / "none.pt", tmp_path / "b.safetensors")

    def test_a_pickle_given_as_a_prior_is_refused_with_the_command(self):
        with pytest.raises(EmgenError, match=r"emgen convert flow.pt flow.safetensors"):
            resolve("flow.pt")
