"""Operators whose measured voxels are plain means of output voxels that no other one shares.

For these A A^T = I / c, c voxels to a mean, and every question has an answer in closed form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from emgen.physics.operators.operator import BoxOperator


@dataclass(frozen=True)
class Averaging(BoxOperator):
    """A measured voxel is the mean over its reach; what no reach covers is not measured."""

    @property
    def count(self) -> int:
        """How many output voxels are averaged into a measured one."""
        return math.prod(last - first + 1 for first, last in self.reach)

    def response_norm(self) -> float:
        # one measured voxel alone sees an output voxel, with weight 1 / count
        return 1 / self.count

    def __call__(self, x: Tensor) -> Tensor:
        return _mean(self._windows(x))

    def adjoint(self, y: Tensor) -> Tensor:
        x = y.new_zeros(self.box.shape)
        self._windows(x).copy_(y[..., None, None, None] / self.count)
        return x

    def prox(self, h: Tensor, y: Tensor, r: float | Tensor) -> Tensor:
        """x = h + c A^T ((y + r c A h) / (1 + r c) - A h), by A A^T = I / c.

        Written so that a mean over one voxel (a slice) with r = 0 gives back y to the bit.
        """
        x, c = h.clone(), self.count
        windows = self._windows(x)
        mean = _mean(windows)
        target = (y + r * c * mean) / (1 + r * c)
        if isinstance(r, Tensor):
            target = torch.where(r.isinf(), mean, target)
        windows.sub_(mean[..., None, None, None]).add_(target[..., None, None, None])
        return x

    def _windows(self, x: Tensor) -> Tensor:
        """A view (footprint z, y, x, reach z, y, x) of x; no voxel of x is in it twice."""
        foot = self.footprint
        if foot.size == 0:
            return x.new_empty((*foot.shape, *(last - first + 1 for first, last in self.reach)))
        for axis, (first, last) in enumerate(self.reach):
            n, step, width = foot.shape[axis], self.scale[axis], last - first + 1
            begin = foot.start[axis] * step + first - self.box.start[axis]
            x = x.narrow(axis, begin, (n - 1) * step + width).unfold(axis, width, step)
        return x


def _mean(windows: Tensor) -> Tensor:
    """Mean over the last three axes, added up in one order whatever the shape."""
    each = [windows[..., i, j, k] for i, j, k in product(*map(range, windows.shape[-3:]))]
    total = each[0]
    for voxel in each[1:]:
        total = total + voxel
    return total / len(each)
