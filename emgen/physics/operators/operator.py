"""What an operator is: y = A x + noise, bound to a box of the output volume.

    output voxels   |  .  .  .  [ box . . . . . . . . ]  .  .  |      x lies on the box
    measured voxels |     o     o  [ footprint  o ]    o       |      y lies on the footprint

The footprint holds the measured voxels that the box determines wholly, so that for every box

    A_box(x[box]) == A(x)[A_box.footprint]

and only the true ends of the volume need a border rule.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

import torch
from torch import Tensor

from emgen.geometry import Box, Zyx, zyx
from emgen.physics.acquisition import Acquisition, Reach
from emgen.physics.interpolation import linear_weights

EVERYWHERE = Box((0, 0, 0), (2**62, 2**62, 2**62))


class Operator(ABC):
    """The contract that samplers and blocks rely on; tensors are (z, y, x).

    Attributes:
        shape: the whole output volume.
        box: the output voxels that x holds.
    """

    shape: Zyx
    box: Box

    @property
    @abstractmethod
    def acquisition(self) -> Acquisition:
        """Where measured voxels lie among the output's."""

    @abstractmethod
    def __call__(self, x: Tensor) -> Tensor:
        """y = A x: from the box onto the footprint."""

    @abstractmethod
    def adjoint(self, y: Tensor) -> Tensor:
        """A^T y: from the footprint onto the box."""

    @abstractmethod
    def prox(self, h: Tensor, y: Tensor, r: float | Tensor) -> Tensor:
        """argmin over x of |A x - y|^2 + r |x - h|^2, r >= 0; for r = 0 the nearest to h.

        With an r for each measured voxel, argmin of sum (A x - y)^2 / r + |x - h|^2; an infinite one leaves
        its voxel out.
        """

    def residual(self, x: Tensor, y: Tensor) -> Tensor:
        """A x - y, on the footprint."""
        return self(x) - y

    @abstractmethod
    def response_norm(self) -> float:
        """|A e|, e one voxel far from the borders: 1 of a kept voxel, less of a mean or a blur."""

    @property
    def scale(self) -> Zyx:
        """Output voxels per measured voxel (z, y, x)."""
        return self.acquisition.scale

    @property
    def reach(self) -> tuple[Reach, Reach, Reach]:
        """Per axis, the output voxels that measured voxel 0 is made of."""
        return self.acquisition.reach

    @property
    def centre(self) -> tuple[float, float, float]:
        """Where the middle of measured voxel 0 lies, in output voxels (z, y, x)."""
        return self.acquisition.centre

    @property
    def measured_shape(self) -> Zyx:
        """Shape of the whole measured volume."""
        return self.acquisition.measured_shape(self.shape)

    @property
    def footprint(self) -> Box:
        """The measured voxels wholly determined by the box."""
        return self.acquisition.footprint(self.box, self.shape)

    def interpolate_back(self, y: Tensor) -> Tensor:
        """y brought from the footprint back onto the box by linear interpolation; no inverse of A.

        Same convention as `emgen.physics.interpolation.linear`. Zero where nothing at all is determined.
        """
        foot = self.footprint
        if y.numel() == 0:
            return y.new_zeros(self.box.shape)
        for axis in range(3):
            first, last = foot.start[axis], foot.stop[axis]
            start, stop = self.box.start[axis], self.box.stop[axis]
            if (first, last) == (start, stop) and self.scale[axis] == 1:
                continue
            index, weights = linear_weights(
                first, last, start, stop, self.scale[axis], self.centre[axis]
            )
            y = gather(y, axis, torch.from_numpy(index), torch.from_numpy(weights))
        return y


@dataclass(frozen=True)
class BoxOperator(Operator):
    """An operator of its own on a box of the output.

    Attributes:
        shape: the whole output volume (z, y, x), a multiple of `scale`.
        box: the output voxels x holds; the whole volume unless said otherwise.

    Raises:
        ValueError: parameters that make no sense, a shape that is no multiple, a box outside the volume.
    """

    shape: Zyx
    box: Box = field(default=EVERYWHERE, kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", zyx(self.shape))
        whole = Box.whole(self.shape)
        if self.box == EVERYWHERE:
            object.__setattr__(self, "box", whole)
        self.validate()
        if not whole.contains(self.box):
            raise ValueError(
                f"the box {self.box.start} to {self.box.stop} is not inside the output volume "
                f"of shape {self.shape}"
            )
        if any(n < 1 or n % s for n, s in zip(self.shape, self.scale, strict=True)):
            raise ValueError(
                f"the output shape {self.shape} must be a multiple of {self.scale}, "
                "measured shape times scale"
            )

    def validate(self) -> None:
        """Raises `ValueError` for parameters that make no sense."""
        return


def gather(x: Tensor, axis: int, index: Tensor, weights: Tensor) -> Tensor:
    """Sum over j of weights[:, j] * x[index[:, j]] along one axis, in the order of j.

    A product and a sum for each j, so that a voxel's value is the same to the bit in every box.
    """
    column = [1, 1, 1]
    column[axis] = -1
    index, weights = index.to(x.device), weights.to(x)
    terms = (
        weights[:, j].reshape(column) * x.index_select(axis, index[:, j])
        for j in range(index.shape[1])
    )
    total = next(terms)
    for term in terms:
        total = total + term
    return total
