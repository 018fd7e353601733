"""Training a prior: one loop, exact resume, weights chosen by how well they denoise.

The learning rate warms up, stays, and falls to zero over the last `decay` steps. A run can be stopped at
any time and goes on from its last checkpoint, bit for bit on a CPU; to finish one early, or to go on
from a finished one, start it again with another number of steps.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from emgen.errors import EmgenError
from emgen.prior import flow, patches
from emgen.prior.card import Card, resolve
from emgen.prior.checkpoint import save
from emgen.prior.network import Prior

TIMES = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95)


@dataclass(frozen=True)
class Training:
    """Settings of a training run.

    Attributes:
        sources: "PATH[z0:z1]@VOXEL", see `patches.Source.open`.
        validation: the same, never trained on.
        weights: how often each source is drawn; by its number of voxels by default.
        steps: in all.
        decay: of them at the end, while the learning rate falls to zero.
    """

    sources: tuple[str, ...]
    validation: tuple[str, ...]
    weights: tuple[float, ...] = ()
    name: str = "prior"
    channels: tuple[int, ...] = (32, 64, 96)
    layers: int = 1
    steps: int = 20_000
    decay: int = 2_000
    warm_up: int = 500
    rate: float = 5e-4
    batch: int = 16
    size: int = 64
    average: float = 0.999
    seed: int = 0
    minutes: float = 5.0
    note: str = ""

    def __post_init__(self) -> None:
        if not self.sources or not self.validation:
            raise EmgenError(
                "training needs at least one source and one validation source that is not trained on"
            )
        if self.weights and len(self.weights) != len(self.sources):
            raise EmgenError(
                f"expected a weight for each of {len(self.sources)} sources, found {len(self.weights)}"
            )
        if not 0 <= self.decay <= self.steps:
            raise EmgenError(
                f"decay must be between 0 and steps ({self.steps}), found {self.decay}"
            )

    @property
    def architecture(self) -> dict[str, Any]:
        """Arguments of `Prior`."""
        return {"channels": list(self.channels), "layers": self.layers}

    @property
    def identity(self) -> str:
        """What must not change when a run goes on; steps, decay and rate may."""
        names = ("weights", "channels", "layers", "batch", "size", "average", "seed")
        data = [[_public(text) for text in texts] for texts in (self.sources, self.validation)]
        return json.dumps([*data, *(getattr(self, name) for name in names)])

    def rate_at(self, step: int) -> float:
        """Learning rate: linear warm-up, constant, linear decay."""
        return self.rate * min(
            1.0, (step + 1) / self.warm_up, (self.steps - step) / max(self.decay, 1)
        )


@dataclass
class State:
    """What a checkpoint holds: network, its running average, optimiser, step and best validation."""

    prior: Prior
    average: Prior
    optimiser: torch.optim.AdamW
    step: int = 0
    best: float = -np.inf

    @classmethod
    def new(cls, training: Training) -> State:
        torch.manual_seed(training.seed)
        prior = Prior(**training.architecture)
        average = Prior(**training.architecture)
        average.load_state_dict(prior.state_dict())
        average.requires_grad_(False)
        optimiser = torch.optim.AdamW(
            prior.parameters(), lr=training.rate, betas=(0.9, 0.99), weight_decay=1e-2
        )
        return cls(prior, average, optimiser)

    def save(self, folder: Path, identity: str) -> None:
        """One file, replaced whole: a kill or a full disk leaves the checkpoint before."""
        tensors = {f"prior.{k}": v for k, v in self.prior.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        for index, moments in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{k}": v for k, v in moments.items()}
        tensors["step"], tensors["best"] = (
            torch.tensor(self.step),
            torch.tensor(self.best, dtype=torch.float64),
        )
        partial = folder / ".checkpoint.partial"
        contiguous = {k: v.contiguous() for k, v in tensors.items()}
        save_file(contiguous, partial, metadata={"identity": identity})
        partial.replace(folder / "checkpoint.safetensors")

    def load(self, folder: Path, identity: str) -> None:
        """Go on from a checkpoint.

        Raises:
            EmgenError: it is of another network or of other data, or damaged.
        """
        path = folder / "checkpoint.safetensors"
        try:
            with safe_open(path, "pt") as file:
                found = (file.metadata() or {}).get("identity", "nothing")
            tensors = load_file(path)
            self.prior.load_state_dict(_part(tensors, "prior."))
            self.average.load_state_dict(_part(tensors, "average."))
        except Exception as error:
            raise EmgenError(
                f"{path} cannot be resumed from: {str(error).splitlines()[0]}; choose another folder"
            ) from None
        if found != identity:
            raise EmgenError(
                f"{path} belongs to another training run: expected sources, validation and settings "
                f"{identity}, found {found}; choose another folder"
            )
        moments: dict[int, dict[str, Tensor]] = {}
        for key, value in _part(tensors, "optimiser.").items():
            index, name = key.split(".", 1)
            moments.setdefault(int(index), {})[name] = value
        self.optimiser.load_state_dict(
            {"state": moments, "param_groups": self.optimiser.state_dict()["param_groups"]}
        )
        self.step, self.best = int(tensors["step"]), float(tensors["best"])


def train(training: Training, folder: Path) -> Card:
    """Train, or go on training, until `steps`; the best weights by validation are in `folder`.

    Raises:
        EmgenError: a source cannot be used, or the checkpoint belongs to another network.
    """
    sources = [
        patches.Source.open(text, round(training.size * patches.ZOOM[1]))
        for text in training.sources
    ]
    held_out = [patches.Source.open(text, 96) for text in training.validation]
    weights = training.weights or tuple(float(source.voxels.size) for source in sources)
    validation = torch.from_numpy(patches.fixed(held_out, 48, 96))
    folder.mkdir(parents=True, exist_ok=True)
    state = State.new(training)
    if (folder / "checkpoint.safetensors").exists():
        state.load(folder, training.identity)
        print(f"going on from step {state.step} of {training.steps}", flush=True)
    losses: list[float] = []
    begun, first, saved = time.monotonic(), state.step, time.monotonic()
    while state.step < training.steps:
        losses.append(step(training, state, sources, weights))
        if state.step % 100 == 0:
            pace = (state.step - first) / (time.monotonic() - begun)
            print(
                f"step {state.step} of {training.steps}  loss {np.mean(losses[-100:]):.4f}  {pace:.2f} steps/s",
                flush=True,
            )
        if time.monotonic() - saved > 60 * training.minutes or state.step == training.steps:
            checkpoint(training, state, validation, float(np.mean(losses[-500:])), folder)
            saved = time.monotonic()
    return resolve(str(folder / f"{training.name}.safetensors"))


def step(
    training: Training, state: State, sources: Sequence[patches.Source], weights: Sequence[float]
) -> float:
    """One step of the optimiser; its patches, noise and times follow from the seed and the step alone."""
    generator = torch.Generator().manual_seed(training.seed * 1_000_003 + state.step)
    x = torch.from_numpy(
        patches.batch(sources, weights, training.seed, state.step, training.batch, training.size)
    )
    eps, t = torch.randn(x.shape, generator=generator), flow.times(len(x), generator)
    for group in state.optimiser.param_groups:
        group["lr"] = training.rate_at(state.step)
    state.prior.train()
    loss = flow.loss(state.prior, x, eps, t)
    state.optimiser.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(state.prior.parameters(), 1.0)
    state.optimiser.step()
    state.step += 1
    keep = min(training.average, (1 + state.step) / (10 + state.step))
    with torch.no_grad():
        torch._foreach_lerp_(
            list(state.average.parameters()), list(state.prior.parameters()), 1 - keep
        )
    return loss.item()


@torch.inference_mode()
def denoise_psnr(prior: Prior, x: Tensor) -> dict[str, float]:
    """PSNR in dB (range 2, [-1, 1]) of one network call from x_t, per t; x (n, 1, h, w), noise fixed."""
    eps = torch.randn(x.shape, generator=torch.Generator().manual_seed(1))
    found = {}
    for t in TIMES:
        at = flow.at(x, eps, torch.full((len(x),), t))
        errors = [
            flow.destination(part, prior.velocity(part, t), t) - clean
            for part, clean in zip(at.split(8), x.split(8), strict=True)
        ]
        found[str(t)] = round(float(10 * torch.log10(4 / torch.cat(errors).square().mean())), 3)
    return found


def checkpoint(
    training: Training, state: State, validation: Tensor, loss: float, folder: Path
) -> None:
    """Validate the running average, save, and export it if it is the best so far."""
    found = denoise_psnr(state.average, validation)
    with (folder / "log.jsonl").open("a") as log:
        log.write(
            json.dumps({"step": state.step, "loss": round(loss, 5), "denoise_psnr_db": found})
            + "\n"
        )
    print(f"step {state.step}  validation denoise PSNR {found}", flush=True)
    score = float(np.mean([found[str(t)] for t in TIMES]))
    if score > state.best:
        state.best = score
        export(training, state, validation, folder)
    state.save(folder, training.identity)


def export(training: Training, state: State, validation: Tensor, folder: Path) -> Card:
    """Write the running average as NAME.safetensors with its card."""
    facts = {
        "data": [_public(text) for text in training.sources],
        "validation": [_public(text) for text in training.validation],
        "scaling": "0.1 and 99.9 percentile of each volume to -1 and +1",
        "path": "x_t = (1 - t) eps + t x, velocity x - eps, independent coupling",
        "steps": state.step,
        "training": {
            k: v
            for k, v in asdict(training).items()
            if k not in ("sources", "validation", "note", "name", "minutes")
        },
        "validation_denoise_psnr_db": denoise_psnr(state.average, validation),
        "note": training.note,
    }
    return save(
        state.average,
        folder / f"{training.name}.safetensors",
        training.name,
        training.architecture,
        facts,
    )


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }


def _public(text: str) -> str:
    """A source without the folder it lies in on this machine."""
    return text.rsplit("/", 1)[-1]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `emgen train`."""
    base = Training(sources=("-",), validation=("-",))
    parser.add_argument(
        "folder",
        type=Path,
        help="for checkpoints, log and weights; training goes on from what is there",
    )
    parser.add_argument(
        "--source",
        dest="sources",
        action="append",
        required=True,
        metavar="PATH[Z0:Z1]@VOXEL",
        help="a volume to learn from, voxel size in nm",
    )
    parser.add_argument(
        "--validation",
        action="append",
        required=True,
        metavar="PATH[Z0:Z1]@VOXEL",
        help="a volume to choose weights by",
    )
    parser.add_argument(
        "--weight",
        dest="weights",
        action="append",
        type=float,
        default=[],
        help="how often to draw each source; by size by default",
    )
    parser.add_argument("--name", default=base.name)
    parser.add_argument("--note", default="", help="for the card: credits, licences")
    parser.add_argument(
        "--channels",
        type=lambda text: tuple(int(n) for n in text.split(",")),
        default=base.channels,
    )
    for name in ("layers", "steps", "decay", "batch", "size", "seed"):
        parser.add_argument(f"--{name}", type=int, default=getattr(base, name))
    for name in ("rate", "minutes"):
        parser.add_argument(f"--{name}", type=float, default=getattr(base, name))


def run(args: argparse.Namespace) -> None:
    """`emgen train`."""
    given: dict[str, Any] = {
        k: v for k, v in vars(args).items() if k in Training.__dataclass_fields__
    }
    given |= {key: tuple(given[key]) for key in ("sources", "validation", "weights", "channels")}
    card = train(Training(**given), args.folder)
    print(f"weights: {card.path}")
