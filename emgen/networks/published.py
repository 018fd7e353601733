"""Published weights of EM Generalist, as a prior: `emgen convert`.

The layouts that can be read are those of `emgen.networks.layouts`, told apart by their keys. Pickles are read with `weights_only=True`: tensors, and nothing that could run.
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
from emgen.networks import layouts
from emgen.networks.card import PICKLES, Card
from emgen.networks.checkpoint import save
from emgen.networks.layouts import Weights
from emgen.networks.unet2d import UNet2DPrior

CONTAINERS = ("ema_model", "ema", "model", "state_dict", "net_model")  # the average comes first
WRAPPERS = re.compile(r"^(module\.|ema_)+")  # DataParallel, running average
FOLDER = "diffusion_pytorch_model.safetensors"  # as diffusers writes it, with config.json beside it
NETWORKS = ("diffusers.", "torch.nn.", "torchcfm.")  # where the classes of a whole network are


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
    layout, read = _layout(source, weights)
    try:
        architecture, renamed = read(weights)
        prior = UNet2DPrior(**architecture)
        _fill(prior, renamed)
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


def _layout(source: Path, weights: Weights) -> tuple[str, layouts.Layout]:
    """The layout of a checkpoint, in words and as what reads it."""
    if "input_blocks.0.0.weight" in weights:
        return "flow (torchcfm UNetModelWrapper)", layouts.flow
    if "conv_in.weight" in weights:
        return "diffusion (UNet2DModel)", layouts.diffusion
    raise EmgenError(
        f"{source} has none of the known layouts: expected input_blocks.0.0.weight (torchcfm UNetModelWrapper) or "
        f"conv_in.weight (diffusers UNet2DModel), found {', '.join(sorted(weights)[:3]) or 'nothing'}, …"
    )


def _read(source: Path) -> Weights:
    """The state dict in a file, the running average where there is one."""
    if not source.is_file():
        raise EmgenError(f"there is no checkpoint at {source}")
    try:
        if source.suffix in PICKLES:
            content: Any = torch.load(source, map_location="cpu", weights_only=True)
        else:
            content = load_file(source)
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to say
        raise EmgenError(_refusal(source, error)) from None
    for container in CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(container), Mapping):
            content = content[container]
    if not isinstance(content, Mapping):
        raise EmgenError(
            f"{source} holds a {type(content).__name__}; expected a state dict of tensors"
        )
    return {str(key): value for key, value in content.items() if isinstance(value, Tensor)}


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
    unpickling = isinstance(error, pickle.UnpicklingError) or not str(error)
    reason = "it is no pickle of tensors" if unpickling else str(error).splitlines()[0]
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
