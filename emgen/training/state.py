"""What a training run carries from step to step, and its checkpoint."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from emgen.errors import EmgenError
from emgen.networks.build import Network, build
from emgen.training import former
from emgen.training.muon import Muon, is_kernel
from emgen.training.recipe import Optimiser, Recipe

FILE = "checkpoint.safetensors"


@dataclass
class State:
    """Network, its running average, optimisers, step and the best validation so far."""

    prior: Network
    average: Network
    optimisers: list[torch.optim.Optimizer]
    step: int = 0
    best: float = -np.inf

    @classmethod
    def new(
        cls,
        recipe: Recipe,
        architecture: dict[str, Any],
        device: torch.device | str = "cpu",
        initial: Network | None = None,
    ) -> State:
        """Random weights, or those of another prior.

        Raises:
            EmgenError: there is no such network.
        """
        torch.manual_seed(recipe.seed)
        try:
            prior, average = build(architecture), build(architecture)
        except (TypeError, ValueError) as error:
            raise EmgenError(
                f"the recipe's network {architecture} cannot be built: {error}"
            ) from None
        if initial is not None:
            _begin(prior, initial)
        average.load_state_dict(prior.state_dict())
        average.requires_grad_(False).eval()
        prior.to(device)
        average.to(device)
        return cls(prior, average, _optimisers(prior, recipe.optimiser))

    @property
    def drops(self) -> bool:
        """Whether the network has dropout."""
        return any(isinstance(m, nn.Dropout) and m.p > 0 for m in self.prior.modules())

    @staticmethod
    def exists(folder: Path) -> bool:
        return (folder / FILE).exists()

    def set_rate(self, share: float) -> None:
        """Of the full rate of every optimiser."""
        for optimiser in self.optimisers:
            for group in optimiser.param_groups:
                group["lr"] = share * group.setdefault("full_rate", group["lr"])

    @torch.no_grad()
    def update(self, average: float) -> None:
        """Step the optimisers along the gradients and move the running average."""
        for optimiser in self.optimisers:
            optimiser.step()
        self.step += 1
        keep = min(average, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(
            list(self.average.parameters()), list(self.prior.parameters()), 1 - keep
        )

    def save(self, folder: Path, identity: dict[str, Any]) -> None:
        """One file, replaced whole: a kill or a full disk leaves the checkpoint before."""
        tensors = {f"prior.{k}": v for k, v in self.prior.state_dict().items()}
        tensors |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        for place, optimiser in enumerate(self.optimisers):
            for index, moments in optimiser.state_dict()["state"].items():
                tensors |= {f"optimiser.{place}.{index}.{k}": v for k, v in moments.items()}
        tensors["step"] = torch.tensor(self.step)
        tensors["best"] = torch.tensor(self.best, dtype=torch.float64)
        partial = folder / f".{FILE}.partial"
        try:
            contiguous = {k: v.contiguous() for k, v in tensors.items()}
            save_file(contiguous, partial, metadata={"identity": json.dumps(identity)})
            partial.replace(folder / FILE)
        finally:
            partial.unlink(missing_ok=True)

    def load(self, folder: Path, identity: dict[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            EmgenError: it is of another network or of other data, or damaged.
        """
        path = folder / FILE
        try:
            with safe_open(path, "pt") as file:
                stored = json.loads((file.metadata() or {}).get("identity", "{}"))
            tensors = load_file(path)
        except Exception as error:
            raise EmgenError(
                f"{path} cannot be resumed from: {(str(error).splitlines() or [type(error).__name__])[0]}; choose another folder"
            ) from None
        stored = former.translated(stored)
        if stored != json.loads(json.dumps(identity)):
            changed = sorted(k for k in {*stored, *identity} if stored.get(k) != identity.get(k))
            raise EmgenError(
                f"{path} belongs to another training run: {', '.join(changed)} of the recipe differ; choose another folder"
            )
        self.prior.load_state_dict(_part(tensors, "prior."))
        self.average.load_state_dict(_part(tensors, "average."))
        for place, optimiser in enumerate(self.optimisers):
            moments: dict[int, dict[str, Tensor]] = {}
            for key, value in _part(tensors, f"optimiser.{place}.").items():
                number, name = key.split(".", 1)
                moments.setdefault(int(number), {})[name] = value
            parameters = [p for group in optimiser.param_groups for p in group["params"]]
            for index, kept in moments.items():
                if any(v.ndim and v.shape != parameters[index].shape for v in kept.values()):
                    raise EmgenError(
                        f"{path} was written by another version of the optimiser and cannot be resumed from; choose another folder"
                    )
            optimiser.load_state_dict(
                {"state": moments, "param_groups": optimiser.state_dict()["param_groups"]}
            )
        self.step, self.best = int(tensors["step"]), float(tensors["best"])


def _begin(network: Network, initial: Network) -> None:
    """With the weights of another network, as far as layers are alike: an estimator may begin as a prior, or as another."""
    given, own = initial.state_dict(), network.state_dict()
    given = {k: v for k, v in given.items() if k in own and own[k].shape == v.shape}
    network.load_state_dict({**own, **given})


def _optimisers(prior: Network, settings: Optimiser) -> list[torch.optim.Optimizer]:
    rest, kernels = list(prior.parameters()), []
    if settings.method == "muon":
        kernels = [p for p in rest if is_kernel(p)]
        rest = [p for p in rest if not is_kernel(p)]
    optimisers: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(
            rest, lr=settings.rate, betas=settings.betas, weight_decay=settings.weight_decay
        )
    ]
    if kernels:
        optimisers.append(Muon(kernels, settings.kernel_rate, settings.weight_decay))
    return optimisers


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {
        key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)
    }
