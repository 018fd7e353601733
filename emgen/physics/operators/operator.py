"""What an operator is: y = A x + noise, bound to a box of the output volume.

    output voxels   |  .  .  .  [ box . . . . . . . . ]  .  .  |      x lies on the box
    measured voxels |     o     o  [ footprint  o ]    o       |      y lies on the footprint
                               [ support . . . . . . ]                what to read for the box

The footprint holds the measured voxels that the box determines wholly, so that for every box

    A.restricted(box)(x[box]) == A(x)[A.restricted(box).footprint]

and only the true ends of the volume need a border rule.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Protocol, Self

import torch
from torch import Tensor

from emgen.geometry import Box, Zyx, zyx
from emgen.physics.interpolation import linear_weights, support

EVERYWHERE = Box((0, 0, 0), (2**62, 2**62, 2**62))
Reach = tuple[int, int]
"""The first and the last output voxel that measured voxel 0 is made of, on one axis."""


class Operator(Protocol):
    """The contract that samplers and blocks rely on; tensors are (z, y, x)."""

    @property
    def shape(self) -> Zyx: ...
    @property
    def box(self) -> Box: ...
    @property
    def scale(self) -> Zyx: ...
    @property
    def centre(self) -> tuple[float, float, float]: ...
    @property
    def measured_shape(self) -> Zyx: ...
    @property
    def footprint(self) -> Box: ...
    @property
    def support(self) -> Box: ...
    def restricted(self, box: Box) -> Self: ...
    def __call__(self, x: Tensor) -> Tensor: ...
    def adjoint(self, y: Tensor) -> Tensor: ...
    def prox(self, h: Tensor, y: Tensor, r: float | Tensor) -> Tensor: ...
    def interpolate_back(self, y: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class BoxOperator(ABC):
    """The geometry every operator shares, from two facts about its axes: `scale` and `reach`.

    shape: the whole output volume (z, y, x), a multiple of `scale`, else `ValueError`.
    box: the output voxels x holds; the whole volume unless said otherwise.
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

    @property
    @abstractmethod
    def scale(self) -> Zyx:
        """How many output voxels one measured voxel is wide, per axis."""

    @property
    @abstractmethod
    def reach(self) -> tuple[Reach, Reach, Reach]:
        """Per axis, the output voxels that measured voxel 0 is made of."""

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

    @property
    def centre(self) -> tuple[float, float, float]:
        """Where the middle of measured voxel 0 lies, in output voxels (z, y, x)."""
        z, y, x = ((first + last) / 2 for first, last in self.reach)
        return z, y, x

    @property
    def measured_shape(self) -> Zyx:
        """Shape of the whole measured volume."""
        return zyx([n // s for n, s in zip(self.shape, self.scale, strict=True)])

    @property
    def footprint(self) -> Box:
        """The measured voxels wholly determined by the box."""
        intervals = [self._determined(axis) for axis in range(3)]
        start = [max(a, 0) for a, _ in intervals]
        stop = [max(a, b) for a, (_, b) in zip(start, intervals, strict=True)]
        return Box(zyx(start), zyx(stop))

    @property
    def support(self) -> Box:
        """The measured voxels to read for the box: its footprint, and what interpolation needs."""
        return support(self.box, self.scale, self.centre, self.measured_shape)

    def restricted(self, box: Box) -> Self:
        """The same physics on another box of the same volume."""
        return replace(self, box=box)

    def interpolate_back(self, y: Tensor) -> Tensor:
        """A rough inverse of A: linear interpolation from the footprint onto the box.

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

    def _determined(self, axis: int) -> tuple[int, int]:
        n, s, (first, last) = (
            self.measured_shape[axis],
            self.scale[axis],
            self.reach[axis],
        )
        start, stop = self.box.start[axis], self.box.stop[axis]
        # At a true end of the volume the border rule folds the reach back into the box.
        lower = 0 if start == 0 else -((first - start) // s)
        upper = n if stop == self.shape[axis] else (stop - 1 - last) // s + 1
        return lower, upper


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
