"""What a sampler is given: y = A x + noise, and the prior as a velocity. All it may know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a plan reads the samplers' defaults without torch
    from torch import Tensor

    from emgen.physics.operators import Operator

Velocity = Callable[["Tensor", float], "Tensor"]
"""v(x_t, t) of a volume (z, y, x): the mean of x - eps given x_t = (1 - t) eps + t x."""
Noise = Callable[[int], "Tensor"]
"""Standard normal noise of the volume's shape, fresh for each number of a step."""


@dataclass(frozen=True)
class Problem:
    """A restoration to be sampled. Tensors are (z, y, x), in the prior's half range: tissue lies about [-1, 1].

    Attributes:
        y: measured voxels, on the footprint of A.
        A: how they came about.
        sigma: standard deviation of the white noise in y, in half ranges; one number, or one for each voxel of y.
        velocities: the prior seen along the planes that the measurement binds, taken in turn.
        noise: fresh noise for each step.
        steps: calls of a velocity, at least one.
        start: an estimate of x, for samplers that begin from one.
        start_time: the time t in [0, 1) at which they begin; 0 is pure noise.
        unbound: the prior seen along planes in which only the prior acts; they come first in each turn.
        guidance: the sampler's own dial, `restore.alpha`.

    Raises:
        ValueError: no velocity, no step, a time outside [0, 1), or a negative sigma.
    """

    y: Tensor
    A: Operator
    sigma: float | Tensor
    velocities: Sequence[Velocity]
    noise: Noise
    steps: int
    start: Tensor | None = None
    start_time: float = 0.0
    unbound: Sequence[Velocity] = ()
    guidance: float = 0.3

    def __post_init__(self) -> None:
        if not self.turns or self.steps < 1:
            raise ValueError(
                f"expected at least one velocity and one step; found {len(self.turns)} and {self.steps}"
            )
        sigma = self.sigma if isinstance(self.sigma, int | float) else _least(self.sigma)
        if not 0 <= self.start_time < 1 or sigma < 0:
            raise ValueError(
                f"expected 0 <= start_time < 1 and sigma >= 0; found {self.start_time} and {sigma}"
            )

    @property
    def turns(self) -> list[tuple[Velocity, bool]]:
        """The velocities of one round, and whether the measurement acts with each."""
        return [*((v, False) for v in self.unbound), *((v, True) for v in self.velocities)]


def _least(sigma: Tensor) -> float:
    return float(sigma.amin()) if sigma.numel() else 0.0
