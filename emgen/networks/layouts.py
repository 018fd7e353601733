"""Layouts of published checkpoints: from their tensors to an architecture and UNet2DModel's names.

- diffusion: UNet2DModel itself, which predicts the noise;
- flow: torchcfm's UNetModelWrapper, the U-Net of Dhariwal and Nichol (arXiv 2105.05233), which has the same layers in
  the same order under other names, and one matrix for queries, keys and values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor

HEAD = 64  # channels of an attention head of torchcfm's network; shapes do not tell
# what shapes do not tell of UNet2DModel: the settings of EM Generalist's diffusion model, and of torchcfm's network
DIFFUSION = {"norm_eps": 1e-6, "downsample_padding": 0, "flip_sin_to_cos": False, "freq_shift": 1}
FLOW = {"norm_eps": 1e-5, "downsample_padding": 1, "flip_sin_to_cos": True, "freq_shift": 0}

# names of torchcfm's modules, and UNet2DModel's
OUTER = {
    "time_embed.0": "time_embedding.linear_1",
    "time_embed.2": "time_embedding.linear_2",
    "input_blocks.0.0": "conv_in",
    "out.0": "conv_norm_out",
    "out.2": "conv_out",
}
RESIDUAL = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "time_emb_proj",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "conv_shortcut",
}

Weights = dict[str, Tensor]
Layout = Callable[[Weights], tuple[dict[str, Any], Weights]]


def diffusion(weights: Weights) -> tuple[dict[str, Any], Weights]:
    """The architecture of a diffusion model's UNet2DModel, and its weights as they are.

    Raises:
        ValueError: layers are missing.
    """
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


def flow(weights: Weights) -> tuple[dict[str, Any], Weights]:
    """The architecture of torchcfm's network, and its weights under UNet2DModel's names.

    Raises:
        ValueError: levels of unequal depth, no attention in the middle, or layers are missing.
    """
    levels, layers = _depth(weights)
    first_blocks = [f"input_blocks.{1 + level * (layers + 1)}" for level in range(levels)]
    firsts = [f"{block}.0.in_layers.2.weight" for block in first_blocks]
    _expect(weights, firsts)
    architecture = {
        "channels": [len(weights[first]) for first in firsts],
        "layers": layers,
        "unshuffle": 1,
        "norm": "group",
        "attention": [
            level for level, block in enumerate(first_blocks) if f"{block}.1.qkv.weight" in weights
        ],
        "time_scale": 1.0,
        "options": {**FLOW, "add_attention": True, "attention_head_dim": HEAD},
    }
    modules, attentions = dict(_modules(levels, layers)), dict(_attentions(levels, layers))
    renamed: Weights = {}
    for key, value in weights.items():
        module, part = key.rsplit(".", 1)
        owner, _, last = module.rpartition(".")
        if owner in attentions and last == "qkv":
            renamed |= _split(value, attentions[owner], part)
        elif owner in attentions and last == "proj_out":
            renamed[f"{attentions[owner]}.to_out.0.{part}"] = value.reshape(value.shape[:2])
        else:
            renamed[f"{modules.get(module, module)}.{part}"] = value
    return architecture, renamed


def _depth(weights: Weights) -> tuple[int, int]:
    """Levels, and residual blocks of each on the way down."""
    count = _count(weights, r"input_blocks\.(\d+)\.")
    halvings = [k for k in range(count) if f"input_blocks.{k}.0.op.weight" in weights]
    layers = (halvings[0] if halvings else count) - 1
    levels = len(halvings) + 1
    if count != levels * (layers + 1) or "middle_block.1.qkv.weight" not in weights:
        raise ValueError(
            "expected levels of equal depth and attention in the middle; "
            f"found {count} input blocks, halvings at {halvings}"
        )
    return levels, layers


def _modules(levels: int, layers: int) -> Iterator[tuple[str, str]]:
    """Every module without its parameters: torchcfm's name and UNet2DModel's."""
    yield from OUTER.items()
    for old, new in _residuals(levels, layers):
        yield from ((f"{old}.{a}", f"{new}.{b}") for a, b in RESIDUAL.items())
    for old, new in _attentions(levels, layers):
        yield f"{old}.norm", f"{new}.group_norm"
    for level in range(levels - 1):
        halving = f"input_blocks.{(level + 1) * (layers + 1)}.0.op"
        yield halving, f"down_blocks.{level}.downsamplers.0.conv"
    for level in range(levels):
        for j in range(layers + 1):
            for behind in (1, 2):  # the attention, where there is one
                doubling = f"output_blocks.{level * (layers + 1) + j}.{behind}.conv"
                yield doubling, f"up_blocks.{level}.upsamplers.0.conv"


def _residuals(levels: int, layers: int) -> Iterator[tuple[str, str]]:
    yield from (
        ("middle_block.0", "mid_block.resnets.0"),
        ("middle_block.2", "mid_block.resnets.1"),
    )
    for old, new, j in _blocks(levels, layers):
        yield f"{old}.0", f"{new}.resnets.{j}"


def _attentions(levels: int, layers: int) -> Iterator[tuple[str, str]]:
    yield "middle_block.1", "mid_block.attentions.0"
    for old, new, j in _blocks(levels, layers):
        yield f"{old}.1", f"{new}.attentions.{j}"


def _blocks(levels: int, layers: int) -> Iterator[tuple[str, str, int]]:
    """Blocks of torchcfm's network, and UNet2DModel's level and number of each."""
    for level in range(levels):
        for j in range(layers):
            yield f"input_blocks.{1 + level * (layers + 1) + j}", f"down_blocks.{level}", j
        for j in range(layers + 1):
            yield f"output_blocks.{level * (layers + 1) + j}", f"up_blocks.{level}", j


def _split(value: Tensor, owner: str, part: str) -> Weights:
    """Queries, keys and values, which one matrix holds head by head."""
    channels = len(value) // 3
    if channels % HEAD:
        raise ValueError(f"expected attention in heads of {HEAD} channels, found {channels}")
    heads = value.reshape(channels // HEAD, 3, HEAD, *value.shape[1:2])
    return {
        f"{owner}.to_{name}.{part}": heads[:, i].reshape(channels, *value.shape[1:2]).clone()
        for i, name in enumerate("qkv")
    }


def _count(weights: Weights, pattern: str) -> int:
    """How many modules of a list there are, by the highest number in a name; each has a weight, so no more than those."""
    matches = (re.match(pattern, key) for key in weights)
    count = max((int(match[1]) for match in matches if match), default=-1) + 1
    if count > len(weights):
        raise ValueError(
            f"a name says that there are {count} modules, with {len(weights)} weights in all"
        )
    return count


def _expect(weights: Weights, keys: list[str]) -> None:
    missing = [key for key in keys if key not in weights]
    if missing:
        raise ValueError(f"{', '.join(missing[:4])} missing")
