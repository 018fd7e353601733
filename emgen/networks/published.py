"""Published weights of EM Generalist, as a prior: `emgen convert`.

The layouts that can be read are those of `emgen.networks.layouts`, told apart by their keys. Pickles are read with `weights_only=True`: tensors, and nothing that could run.
"""

from __future__ import annotations

import hashlib
import json
import pickle
import re
import shlex
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from emgen.config.plain import read_json
from emgen.errors import EmgenError
from emgen.networks import layouts
from emgen.networks.build import LONGEST_NAME, build_for
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
        prior = _filled(architecture, renamed)
        _check_settings(prior, source)
    except (ValueError, TypeError, RuntimeError) as error:
        raise EmgenError(f"{source} looks like {layout}, but does not fit: {error}") from None
    facts = {
        "source": source.name,
        "source_sha256": _sha256(source),
        "layout": layout,
        "scaling": "0 and 255 to -1 and +1, as published; emgen scales by percentiles of the volume",
        "note": "Converted. Licence: as its source states; EM Generalist's code states none.",
    }
    try:
        return save(prior, target, name or target.stem, architecture, facts)
    except (OSError, SafetensorError) as error:
        raise EmgenError(f"{target} cannot be written: {error}") from None


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _layout(source: Path, weights: Weights) -> tuple[str, layouts.Layout]:
    """The layout of a checkpoint, in words and as what reads it."""
    if "input_blocks.0.0.weight" in weights:
        return "flow (torchcfm UNetModelWrapper)", layouts.flow
    if "conv_in.weight" in weights:
        return "diffusion (UNet2DModel)", layouts.diffusion
    raise EmgenError(
        f"{source} has none of the known layouts: expected input_blocks.0.0.weight (torchcfm UNetModelWrapper) or "
        f"conv_in.weight (diffusers UNet2DModel), found {', '.join(key[:LONGEST_NAME] for key in sorted(weights)[:3]) or 'nothing'}, …"
    )


def _read(source: Path) -> Weights:
    """The state dict in a file, the running average where there is one."""
    if not source.is_file():
        raise EmgenError(f"there is no checkpoint at {source}")
    try:
        if source.suffix in PICKLES:
            _refuse_parts(source)
            content: Any = torch.load(source, map_location="cpu", weights_only=True)
        else:
            content = load_file(source)
    except EmgenError:
        raise
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to say
        raise EmgenError(_refusal(source, error)) from None
    for container in CONTAINERS:
        if isinstance(content, Mapping) and isinstance(content.get(container), Mapping):
            content = content[container]
    if not isinstance(content, Mapping):
        raise EmgenError(
            f"{source} holds a {type(content).__name__}; expected a state dict of tensors"
        )
    weights = {str(key): value for key, value in content.items() if isinstance(value, Tensor)}
    for key, value in weights.items():
        held = value.untyped_storage().nbytes() if value.layout == torch.strided else 0
        if value.numel() * value.element_size() > held:
            raise EmgenError(
                f"{source}: {key[:LONGEST_NAME]} has shape {tuple(value.shape)}, but the file holds fewer numbers than that; no "
                "published weights need this: get them from where they were published"
            )
    return weights


def _refuse_parts(source: Path) -> None:
    """`EmgenError` if parts of a checkpoint are compressed, which torch never does, and which may be of any size; or damaged."""
    if not zipfile.is_zipfile(source):
        return
    with zipfile.ZipFile(source) as parts:
        if any(part.compress_type != zipfile.ZIP_STORED for part in parts.infolist()):
            raise EmgenError(
                f"{source} is a compressed archive; torch writes its checkpoints without compression. If it holds a "
                "checkpoint, unpack it first"
            )
        if damaged := parts.testzip():
            raise EmgenError(
                f"{source} is damaged: {damaged[:LONGEST_NAME]} in it does not fit its checksum; copy the file again"
            )


def _refusal(source: Path, error: Exception) -> str:
    """Why a file was not read. Torch's own words are left out: they advise to read it without care."""
    if more := re.search(r"GLOBAL (\S+)", str(error)):
        what = f"{source} holds more than tensors ({more[1]}), which could run any program; emgen does not read it. "
        if not more[1].startswith(NETWORKS):
            return what + "No weights need that: get them from where they were published"
        tensors = source.with_name(f"{source.stem}-tensors.pt")
        # a file's name may hold whatever a shell obeys: Python's quotes first, the shell's around them
        code = (
            f"import torch; torch.save(torch.load({str(source)!r}, map_location='cpu', weights_only=False).state_dict(), "
            f"{str(tensors)!r})"
        )
        return what + (
            "It seems to be a whole network. Only where you trust its source, for this does run what is in it, take the "
            f"tensors out and convert {tensors}: python -c {shlex.quote(code)}"
        )
    unpickling = isinstance(error, pickle.UnpicklingError) or not str(error)
    reason = "it is no pickle of tensors" if unpickling else str(error).splitlines()[0]
    return f"{source} is not a checkpoint, or damaged: {reason}"


def _filled(architecture: dict[str, Any], weights: Weights) -> UNet2DPrior:
    """The network with all of its weights; raises `ValueError` unless each has its place and shape."""
    named = {f"unet.{key}": value for key, value in weights.items()}
    prior = build_for(architecture, {key: value.shape for key, value in named.items()})
    assert isinstance(prior, UNet2DPrior)  # no layout names another design
    prior.load_state_dict({key: value.float() for key, value in named.items()})
    return prior


def _check_settings(prior: UNet2DPrior, source: Path) -> None:
    """Settings that shapes do not tell; raises `ValueError` where the source's folder says others."""
    path = source.with_name("config.json")
    if source.name != FOLDER or not path.exists():
        return
    said, built = read_json(path, str(path)), json.loads(json.dumps(dict(prior.unet.config)))
    different = [
        f"{key} is {said[key]}, expected {value}"
        for key, value in built.items()
        if key in said and said[key] != value and key not in ("sample_size", "dropout")
    ]
    if different:
        raise ValueError(f"{path} says that {'; '.join(different[:4])}")
