"""An operator some of whose measured voxels hold no image."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from torch import Tensor

from emgen.geometry import Box, Zyx
from emgen.physics.acquisition import Acquisition
from emgen.physics.operators.operator import Operator


def without(operator: Operator, measured: Tensor) -> Operator:
    """The operator where measured voxels, `measured` on its footprint, hold an image: itself where all do."""
    return operator if measured.all() else Masked(operator, measured)


@dataclass(frozen=True)
class Masked(Operator):
    """`operator` where a measured voxel holds an image; nothing elsewhere.

    Attributes:
        operator: the same physics without missing voxels; its geometry is this one's too.
        measured: true where there is an image, of the shape of the footprint or broadcast to it. What y holds
            elsewhere is never looked at.
    """

    operator: Operator
    measured: Tensor
    shape: Zyx = field(init=False)
    box: Box = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", self.operator.shape)
        object.__setattr__(self, "box", self.operator.box)

    @property
    def acquisition(self) -> Acquisition:
        return self.operator.acquisition

    def __call__(self, x: Tensor) -> Tensor:
        """A x, and zero where there is no image."""
        return self.operator(x) * self.measured

    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y of the voxels that hold an image."""
        return self.operator.adjoint(y * self.measured)

    def interpolate_back(self, y: Tensor) -> Tensor:
        """As of `operator`, with zeros where y is missing: what is brought back is a residual."""
        return self.operator.interpolate_back(y * self.measured)

    def prox(self, h: Tensor, y: Tensor, r: float | Tensor) -> Tensor:
        """As of `operator`, where missing voxels have an infinite r: they bind nothing."""
        weight = y.new_zeros(y.shape) + r
        return self.operator.prox(h, y, weight.masked_fill(~self.measured, math.inf))

    def residual(self, x: Tensor, y: Tensor) -> Tensor:
        """A x - y, and zero where there is no image."""
        return (self.operator(x) - y) * self.measured

    def response_norm(self) -> float:
        return self.operator.response_norm()
