"""The trained networks of a run on one device: their weights, precision, and how many planes they are given at a time.

On a CPU every plane is computed by one thread and planes are shared out to workers, so a voxel never depends on how
many cores there are. On a GPU the networks run in bfloat16, unless told otherwise, on as many planes as fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, TypeVar, cast

import torch
from torch import Tensor, nn

from emgen.errors import EmgenError
from emgen.networks.batches import Batches, Memory
from emgen.networks.card import Card
from emgen.networks.checkpoint import load, load_estimator
from emgen.networks.estimator import Estimator, context_stack
from emgen.networks.prior import Prior
from emgen.sampling.compiled import Compiled
from emgen.sampling.problem import Velocity
from emgen.sampling.tiles import Plane, in_threads, planes, tiles_per_call

PLANES_PER_CALL = 8
"""Planes of a call on a CPU, where the number is fixed so that results do not depend on the machine."""
ALL_PLANES = 1 << 20
"""More than there are: on a GPU `emgen.networks.batches` divides them."""

Precision = Literal["auto", "float32", "bfloat16"]
Trained = TypeVar("Trained", Prior, Estimator)


class CompiledUNet(nn.Module):
    """A U-Net compiled for stacks of any number of planes.

    It runs as it is written for a single plane, by which `emgen.networks.batches` measures memory, and where gradients
    are kept.
    """

    def __init__(self, unet: nn.Module, name: str) -> None:
        super().__init__()
        self.unet, self.program = unet, Compiled(unet, name)

    def forward(self, x: Tensor, t: Tensor) -> Any:
        """`unet(x, t)` of folded planes x (n, channels, h, w) at times t (n,)."""
        if len(x) == 1 or torch.is_grad_enabled():
            return self.unet(x, t)
        for tensor in (x, t):
            torch._dynamo.maybe_mark_dynamic(tensor, 0)
        return self.program(x, t)


@dataclass(frozen=True)
class Networks:
    """The prior and, where a run has one, the estimator, ready to be called on one device.

    Attributes:
        planned_prior: name or path of the prior's weights and their sha256, as `plan.json` has them.
        planned_estimator: the same of the estimator, None where sampling begins from linear interpolation.
        device: "cpu" or a CUDA device.
        workers: threads that share planes on a CPU.
        precision: of the networks; "auto" is bfloat16 on a GPU and float32 on a CPU.
        compiled: whether the networks are compiled, see `emgen.sampling.compiled`. Takes seconds at a start, and pays
            where many blocks follow.
    """

    planned_prior: dict[str, Any]
    planned_estimator: dict[str, Any] | None
    device: str = "cpu"
    workers: int = 1
    precision: Precision = "auto"
    compiled: bool = False

    @cached_property
    def prior(self) -> tuple[Prior, Card]:
        """The prior and its card.

        Raises:
            EmgenError: the weights are not those that the run was planned with.
        """
        network, card = load(self.planned_prior["weights"])
        _refuse_changed(card, self.planned_prior)
        return self._ready(network, card), card

    @cached_property
    def estimator(self) -> tuple[Estimator, Card] | None:
        """The estimator and its card, if the run has one.

        Raises:
            EmgenError: the weights are not those that the run was planned with.
        """
        if self.planned_estimator is None:
            return None
        network, card = load_estimator(self.planned_estimator["weights"])
        _refuse_changed(card, self.planned_estimator)
        return self._ready(network, card), card

    @property
    def faintest_noise(self) -> float:
        """The least noise that the estimator learnt to remove, in the prior's half range."""
        assert self.estimator is not None
        return self.estimator[1].faintest_noise

    def load(self) -> None:
        """Read the weights now, and not when the first block needs them."""
        _ = self.prior, self.estimator

    def velocity(self, x: Tensor, t: float) -> Tensor:
        """The prior's velocity on a stack of planes (n, 1, height, width) at time t, float32."""
        with self._autocast():
            return self._batched(lambda part: self.prior[0].velocity(part, t), x).float()

    def velocities(self, orientations: Sequence[Plane]) -> list[Velocity]:
        """The prior's velocity on a volume (z, y, x), seen along planes of each orientation."""
        batch, workers = self._sharing()
        return [
            planes(self.velocity, plane, tile=self.prior[1].tile, batch=batch, workers=workers)
            for plane in orientations
        ]

    def estimate(
        self, start: Tensor, density: Tensor, sigma: float, selected: slice = slice(None)
    ) -> Tensor:
        """The estimator's mean of planes, of a volume seen as (rows, planes, columns), in half ranges.

        Args:
            start: what is known of the planes without the network; see `emgen.networks.estimator`.
            density: how strongly every voxel was measured, shape of `start`.
            sigma: standard deviation of the measurement's noise in half ranges.
            selected: the planes that are wanted, all by default; the others are their context.

        Returns:
            (rows, selected planes, columns), float32.
        """
        assert self.estimator is not None
        (network, _), (batch, workers) = self.estimator, self._sharing()

        def call(inputs: Tensor) -> Tensor:
            with self._autocast():
                return self._batched(lambda part: network.plane(part, sigma), inputs).float()

        inputs = context_stack(start, density, network.context, selected)
        parts = inputs.split(tiles_per_call(batch, *inputs.shape[2:]))
        return torch.cat(list(in_threads(call, parts, workers)))[:, 0].transpose(0, 1)

    def _ready(self, network: Trained, card: Card) -> Trained:
        """A network on the device, of which no gradient is asked, its U-Net compiled where that was wished."""
        network = network.to(self.device).requires_grad_(False)
        if self.compiled:
            network.unet = cast(Any, CompiledUNet(network.unet, card.name))
        return network

    @property
    def _on_gpu(self) -> bool:
        return torch.device(self.device).type == "cuda"

    @cached_property
    def _batched(self) -> Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]:
        """Calls of a network on planes: in batches that fit a GPU's memory, as they come on a CPU."""
        if not self._on_gpu:
            return lambda network, x: network(x)
        return Batches(Memory(self.device))

    def _sharing(self) -> tuple[int, int]:
        """Planes of a call, and threads that make calls."""
        return (ALL_PLANES, 1) if self._on_gpu else (PLANES_PER_CALL, self.workers)

    def _autocast(self) -> torch.autocast:
        short = self.precision == "bfloat16" or (self.precision == "auto" and self._on_gpu)
        return torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=short)


def _refuse_changed(card: Card, planned: dict[str, Any]) -> None:
    """`EmgenError` unless weights are what they were when the run was planned."""
    if card.sha256 != planned["sha256"]:
        raise EmgenError(
            f"the file of {card.name} has changed since the run was planned: expected sha256 "
            f"{planned['sha256'][:12]}…, found {card.sha256[:12]}…. Restore the file, or use another `run` name"
        )
