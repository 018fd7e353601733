"""What a sampler is to the rest of emgen: a function of a `Problem`, and which settings have an effect on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, cast

from emgen.sampling.problem import Problem

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Sampler:
    """One way to draw a posterior sample.

    Attributes:
        solve: draws the sample, a tensor (z, y, x) in the prior's half range.
        steps: the default of `restore.steps`.
        settings: of `restore`, those that change what it draws, besides the ones that every sampler heeds.
        begins_from_estimate: whether it begins from an estimate of the tissue, and not from noise.
        alpha_limit: the largest `restore.alpha` that makes sense, None where there is no limit.
    """

    solve: Callable[[Problem], Tensor]
    steps: int
    settings: frozenset[str]
    begins_from_estimate: bool = False
    alpha_limit: float | None = None


def sampler(name: str) -> Sampler:
    """The sampler of a name as `restore.sampler` gives it: `SAMPLER` of the module of that name in this room."""
    module = import_module(f"emgen.sampling.{name.replace('-', '_')}")
    return cast(Sampler, module.SAMPLER)
