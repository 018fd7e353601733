"""An operator some of whose measured voxels were lost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from emgen.geometry import Box
from emgen.physics.operators.operator import Operator


@dataclass(frozen=True)
class Masked:
    """`operator` where `known` is true, of the shape of its footprint or broadcast to it; nothing elsewhere.

    What y holds at lost voxels is never looked at. The geometry is that of `operator`.
    """

    operator: Operator
    known: Tensor

    def __getattr__(self, name: str) -> Any:
        return getattr(self.operator, name)

    def restricted(self, box: Box) -> Masked:
        """The same on another box, of the same volume and within this one."""
        inner = self.operator.restricted(box)
        inside = inner.footprint.relative_to(self.operator.footprint).slices
        whole = self.known.expand(self.operator.footprint.shape)
        return Masked(inner, whole[inside])

    def __call__(self, x: Tensor) -> Tensor:
        """A x, and zero where it was lost."""
        return self.operator(x) * self.known

    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y of what was not lost."""
        return self.operator.adjoint(y * self.known)

    def interpolate_back(self, y: Tensor) -> Tensor:
        """The rough inverse, of zeros where y was lost: what is inverted is a residual."""
        return self.operator.interpolate_back(y * self.known)

    def prox(self, h: Tensor, y: Tensor, r: float | Tensor) -> Tensor:
        """As of `operator`, where lost voxels have an infinite r: they bind nothing."""
        weight = y.new_zeros(y.shape) + r
        return self.operator.prox(h, y, weight.masked_fill(~self.known, math.inf))
