"""Published weights of EM Generalist, as a prior: `emgen convert`.

Two layouts are known, and told apart by their keys:

- flow: torchcfm's UNetModelWrapper (the U-Net of Dhariwal and Nichol, arXiv 2105.05233), which has the same layers as
  diffusers' UNet2DModel under other names, and one matrix for queries, keys and values;
- diffusion: UNet2DModel itself, which predicts the noise.

Pickles are read with `weights_only=True`: tensors, and nothing that could run.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from emgen.errors import EmgenError
from emgen.networks.card import PICKLES, Card
from emgen.networks.checkpoint import save
from emgen.networks.unet2d import UNet2DPrior

HEAD = 64  # channels of an attention head of the flow network; shapes do not tell
CONTAINERS = ("ema_model", "ema", "model", "state_dict", "net_model")  # the average comes first
WRAPPERS = re.compile(r"^(module\.|ema_)+")  # DataParallel, running average
FOLDER = "diffusion_pytorch_model.safetensors"  # as diffusers writes it, with config.json beside it
NETWORKS = ("diffusers.", "torch.nn.", "torchcfm.")  # where the classes of a whole network are
DIFFUSION = {"norm_eps": 1e-6, "downsample_padding": 0, "flip_sin_to_cos": False, "freq_shift": 1}
FLOW = {"norm_eps": 1e-5, "downsample_padding": 1, "flip_sin_to_cos": True, "freq_shift": 0}

Weights = dict[str, Tensor]


def convert(source: Path, target: Path, name: str | None = None) -> Card:
    """Make a prior of a published checkpoint.

    Args:
        source: .pt, .pth, .ckpt, .bin or .safetensors, or a folder of diffusers.
        target: ends in .safetensors; its card is written beside it.
        name: of the prior; the target's by default.

    Raises:
        EmgenError: not a checkpoint, more than tensors in it, of an unknown layout, or the target exists.
    """
    if target.suffix != ".safetensors":
        raise EmgenError(f"the target must end in .safetensors, found {target.name}")
    for made in (target, target.with_suffix(".json")):
        if made.exists():
            raise EmgenError(f"{made} exists; nothing was overwritten: choose another name")
    if not target.parent.is_dir():
        raise EmgenError(f"there is no folder {target.parent}; make it, or choose another target")
    source = source / FOLDER if source.is_dir() else source
    weights = {WRAPPERS.sub("", key): value for key, value in _read(source).items()}
    if "input_blocks.0.0.weight" in weights:
        layout, known = "flow (torchcfm UNetModelWrapper)", _flow
    elif "conv_in.weight" in weights:
        layout, known = "diffusion (UNet2DModel)", _diffusion
    else:
        raise EmgenError(
            f"{source} has none of the known layouts: expected input_blocks.0.0.weight (torchcfm UNetModelWrapper) or "
            f"conv_in.weight (diffusers UNet2DModel), found {', '.join(sorted(weights)[:3]) or 'nothing'}, …"
        )
    try:
        architecture, found = known(weights)
        prior = UNet2DPrior(**architecture)
        _fill(prior, found)
        _check_settings(prior, source)
    except (ValueError, TypeError, RuntimeError) as error:
        raise EmgenError(f"{source} looks like {layout}, but does not fit: {error}") from None
    facts = {
        "source": source.name,
        "source_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "layout": layout,
        "scaling": "0 and 255 to -1 and +1, as published; emgen scales by percentiles of the volume",
        "note": "Converted. Licence: as its source states; EM Generalist's code states none.",
    }
    try:
        return save(prior, target, name or target.stem, architecture, facts)
    except (OSError, SafetensorError) as error:
        raise EmgenError(f"{target} cannot be written: {error}") from None


def _read(source: Path) -> Weights:
    """The state dict in a file, the running average where there is one."""
    if not source.is_file():
        raise EmgenError(f"there is no checkpoint at {source}")
    try:
        if source.suffix in PICKLES:
            found: Any = torch.load(source, map_location="cpu", weights_only=True)
        else:
            found = load_file(source)
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to say
        raise EmgenError(_refusal(source, error)) from None
    for container in CONTAINERS:
        if isinstance(found, Mapping) and isinstance(found.get(container), Mapping):
            found = found[container]
    if not isinstance(found, Mapping):
        raise EmgenError(
            f"{source} holds a {type(found).__name__}; expected a state dict of tensors"
        )
    return {str(key): value for key, value in found.items() if isinstance(value, Tensor)}


def _refusal(source: Path, error: Exception) -> str:
    """Why a file was not read. Torch's own words are left out: they advise to read it without care."""
    if more := re.search(r"GLOBAL (\S+)", str(error)):
        what = f"{source} holds more than tensors ({more[1]}), which could run any program; emgen does not read it. "
        if not more[1].startswith(NETWORKS):
            return what + "No weights need that: get them from where they were published"
        tensors = source.with_name(f"{source.stem}-tensors.pt")
        return what + (
            "It seems to be a whole network. Only where you trust its source, for this does run what is in it, take the "
            f'tensors out and convert {tensors}: python -c "import torch; torch.save(torch.load({str(source)!r}, '
            f"map_location='cpu', weights_only=False).state_dict(), {str(tensors)!r})\""
        )
    known = isinstance(error, pickle.UnpicklingError) or not str(error)
    reason = "it is no pickle of tensors" if known else str(error).splitlines()[0]
    return f"{source} is not a checkpoint, or damaged: {reason}"


def _fill(prior: UNet2DPrior, weights: Weights) -> None:
    """Give a network all of its weights; raises `ValueError` unless each has its place and shape."""
    expected = {key.removeprefix("unet."): value for key, value in prior.state_dict().items()}
    wrong = [
        *(f"{key} is missing" for key in expected.keys() - weights.keys()),
        *(f"{key} is not expected" for key in weights.keys() - expected.keys()),
        *(
            f"{key} has shape {tuple(weights[key].shape)}, expected {tuple(value.shape)}"
            for key, value in expected.items()
            if key in weights and weights[key].shape != value.shape
        ),
    ]
    if wrong:
        raise ValueError(f"{len(wrong)} of its weights are wrong: {'; '.join(sorted(wrong)[:4])}")
    prior.load_state_dict({f"unet.{key}": value.float() for key, value in weights.items()})


def _check_settings(prior: UNet2DPrior, source: Path) -> None:
    """Settings that shapes do not tell; raises `ValueError` where the source's folder says others."""
    path = source.with_name("config.json")
    if source.name != FOLDER or not path.exists():
        return
    said, built = json.loads(path.read_text()), json.loads(json.dumps(dict(prior.unet.config)))
    different = [
        f"{key} is {said[key]}, expected {value}"
        for key, value in built.items()
        if key in said and said[key] != value and key not in ("sample_size", "dropout")
    ]
    if different:
        raise ValueError(f"{path} says that {'; '.join(different[:4])}")


def _diffusion(weights: Weights) -> tuple[dict[str, Any], Weights]:
    levels = _count(weights, r"down_blocks\.(\d+)\.")
    _expect(weights, [f"down_blocks.{i}.resnets.0.conv1.weight" for i in range(max(levels, 1))])
    attention = [i for i in range(levels) if f"down_blocks.{i}.attentions.0.to_q.weight" in weights]
    architecture = {
        "channels": [
            len(weights[f"down_blocks.{i}.resnets.0.conv1.weight"]) for i in range(levels)
        ],
        "layers": _count(weights, r"down_blocks\.0\.resnets\.(\d+)\."),
        "unshuffle": 1,
        "norm": "group",
        "attention": attention,
        "predicts": "noise",
        "options": {**DIFFUSION, "add_attention": "mid_block.attentions.0.to_q.weight" in weights},
    }
    return architecture, weights


def _flow(weights: Weights) -> tuple[dict[str, Any], Weights]:
    """UNet2DModel's names for the layers of the other network, which come in the same order."""
    count = _count(weights, r"input_blocks\.(\d+)\.")
    halvings = [k for k in range(count) if f"input_blocks.{k}.0.op.weight" in weights]
    layers = (halvings[0] if halvings else count) - 1
    levels = len(halvings) + 1
    if count != levels * (layers + 1) or "middle_block.1.qkv.weight" not in weights:
        raise ValueError(
            "expected levels of equal depth and attention in the middle; "
            f"found {count} input blocks, halvings at {halvings}"
        )
    names = {"time_embed.0": "time_embedding.linear_1", "time_embed.2": "time_embedding.linear_2"}
    names |= {"input_blocks.0.0": "conv_in", "out.0": "conv_norm_out", "out.2": "conv_out"}
    residuals = {"middle_block.0": "mid_block.resnets.0", "middle_block.2": "mid_block.resnets.1"}
    attentions = {"middle_block.1": "mid_block.attentions.0"}
    for level in range(levels):
        for j in range(layers):
            place = f"input_blocks.{1 + level * (layers + 1) + j}"
            residuals[f"{place}.0"] = f"down_blocks.{level}.resnets.{j}"
            attentions[f"{place}.1"] = f"down_blocks.{level}.attentions.{j}"
        if level < levels - 1:
            halving = f"input_blocks.{(level + 1) * (layers + 1)}.0.op"
            names[halving] = f"down_blocks.{level}.downsamplers.0.conv"
        for j in range(layers + 1):
            place = f"output_blocks.{level * (layers + 1) + j}"
            residuals[f"{place}.0"] = f"up_blocks.{level}.resnets.{j}"
            attentions[f"{place}.1"] = f"up_blocks.{level}.attentions.{j}"
            for behind in (1, 2):  # the attention, where there is one
                names[f"{place}.{behind}.conv"] = f"up_blocks.{level}.upsamplers.0.conv"
    inner = {
        "in_layers.0": "norm1",
        "in_layers.2": "conv1",
        "emb_layers.1": "time_emb_proj",
        "out_layers.0": "norm2",
        "out_layers.3": "conv2",
        "skip_connection": "conv_shortcut",
    }
    for old, new in residuals.items():
        names |= {f"{old}.{a}": f"{new}.{b}" for a, b in inner.items()}
    names |= {f"{old}.norm": f"{new}.group_norm" for old, new in attentions.items()}
    found: Weights = {}
    for key, value in weights.items():
        module, part = key.rsplit(".", 1)
        owner, _, last = module.rpartition(".")
        if owner in attentions and last == "qkv":
            found |= _split(value, attentions[owner], part)
        elif owner in attentions and last == "proj_out":
            found[f"{attentions[owner]}.to_out.0.{part}"] = value.reshape(value.shape[:2])
        else:
            found[f"{names.get(module, module)}.{part}"] = value
    firsts = [
        f"input_blocks.{1 + level * (layers + 1)}.0.in_layers.2.weight" for level in range(levels)
    ]
    _expect(weights, firsts)
    architecture = {
        "channels": [len(weights[first]) for first in firsts],
        "layers": layers,
        "unshuffle": 1,
        "norm": "group",
        "attention": [
            level
            for level in range(levels)
            if f"input_blocks.{1 + level * (layers + 1)}.1.qkv.weight" in weights
        ],
        "time_scale": 1.0,
        "options": {**FLOW, "add_attention": True, "attention_head_dim": HEAD},
    }
    return architecture, found


def _split(value: Tensor, owner: str, part: str) -> Weights:
    """Queries, keys and values, which lie beside each other head by head."""
    channels = len(value) // 3
    if channels % HEAD:
        raise ValueError(f"expected attention in heads of {HEAD} channels, found {channels}")
    heads = value.reshape(channels // HEAD, 3, HEAD, *value.shape[1:2])
    return {
        f"{owner}.to_{name}.{part}": heads[:, i].reshape(channels, *value.shape[1:2]).clone()
        for i, name in enumerate("qkv")
    }


def _count(weights: Weights, pattern: str) -> int:
    found = [int(match[1]) for match in (re.match(pattern, key) for key in weights) if match]
    return max(found, default=-1) + 1


def _expect(weights: Weights, keys: list[str]) -> None:
    missing = [key for key in keys if key not in weights]
    if missing:
        raise ValueError(f"{', '.join(missing[:4])} missing")
