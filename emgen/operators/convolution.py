"""Operators that are sums of separable convolutions, and their inverse problems.

Along one axis such an operator is a small matrix (footprint by box). With one term,
A = W_y (x) W_x, and the singular vectors of the two matrices answer the proximal problem exactly,
borders included; a Fourier transform would wrap around instead. With more terms conjugate
gradients do.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from emgen.operators.operator import BoxOperator, gather

Matrix = npt.NDArray[np.float64]
MOST_ITERATIONS = 200
TOLERANCE = 1e-6
SMALLEST = 1e-8
"""Where |A|^2 + r is below this part of |A|^2, the measurement says nothing: h is kept."""


@dataclass(frozen=True)
class Taps:
    """One axis of a convolution: y[k] = sum over j of weights[j] * x[index[k, j]].

    index (footprint, taps) counts from the start of the box, `size` voxels long.
    """

    index: npt.NDArray[np.int64]
    weights: Matrix
    size: int

    @cached_property
    def matrix(self) -> Matrix:
        """The same as a matrix (footprint, box)."""
        matrix = np.zeros((len(self.index), self.size))
        rows = np.broadcast_to(np.arange(len(self.index))[:, None], self.index.shape)
        np.add.at(matrix, (rows, self.index), self.weights)
        return matrix

    @cached_property
    def svd(self) -> tuple[Matrix, Matrix, Matrix]:
        """U, S, V^T of the matrix, thin."""
        u, s, v = np.linalg.svd(self.matrix, full_matrices=False)
        return u, s, v


@dataclass(frozen=True)
class Convolution(BoxOperator):
    """A sum of `terms`, each a product of taps on some of the axes (0: z, 1: y, 2: x)."""

    @property
    @abstractmethod
    def terms(self) -> tuple[dict[int, Taps], ...]:
        """For each term, the taps of the axes it acts on; every term acts on the same axes."""

    def taps(self, axis: int, weights: Matrix, border: Literal["replicate", "mirror"]) -> Taps:
        """The taps of one axis over this box: `weights` along the reach, `border` at true ends."""
        k = np.arange(self.footprint.start[axis], self.footprint.stop[axis])
        first, last = self.reach[axis]
        index = k[:, None] * self.scale[axis] + np.arange(first, last + 1)
        n = self.shape[axis]
        if border == "replicate":
            index = np.clip(index, 0, n - 1)
        else:
            period = max(2 * (n - 1), 1)
            index = np.abs((index + n - 1) % period - (n - 1)) if n > 1 else np.zeros_like(index)
        return Taps(index - self.box.start[axis], weights, self.box.shape[axis])

    def __call__(self, x: Tensor) -> Tensor:
        return _total([_gathered(x, term) for term in self.terms])

    def adjoint(self, y: Tensor) -> Tensor:
        return _total(
            [_along(y, {a: taps.matrix.T for a, taps in term.items()}) for term in self.terms]
        )

    def prox(self, h: Tensor, y: Tensor, r: float) -> Tensor:
        """Exact for one term; else conjugate gradients to a relative residual of 1e-6."""
        if y.numel() == 0:
            return h.clone()
        missing = y - self(h)
        if len(self.terms) == 1:
            return h + self._solved(missing, r)
        return h + conjugate_gradient(
            lambda x: self.adjoint(self._dense(x)) + r * x, self.adjoint(missing)
        )

    def _solved(self, missing: Tensor, r: float) -> Tensor:
        """V S / (S^2 + r) U^T missing: what to add to h, by the singular vectors of each axis."""
        bases = {axis: taps.svd for axis, taps in self.terms[0].items()}
        s = np.ones((1, 1, 1))
        for axis, (_, values, _) in bases.items():
            s = s * np.expand_dims(values, tuple({0, 1, 2} - {axis}))
        power = s**2 + r
        gain = np.where(power > SMALLEST * (s**2).max(), s / power, 0.0)
        spectrum = _along(missing, {axis: u.T for axis, (u, _, _) in bases.items()})
        spectrum = spectrum * torch.from_numpy(gain).to(spectrum)
        return _along(spectrum, {axis: v.T for axis, (_, _, v) in bases.items()})

    def _dense(self, x: Tensor) -> Tensor:
        """As a call, by matrix products: the same to rounding, and quicker for many taps."""
        return _total(
            [_along(x, {a: taps.matrix for a, taps in term.items()}) for term in self.terms]
        )


def conjugate_gradient(
    normal: Callable[[Tensor], Tensor],
    b: Tensor,
    *,
    tolerance: float = TOLERANCE,
    most: int = MOST_ITERATIONS,
) -> Tensor:
    """x with normal(x) = b, from x = 0, to a relative residual of `tolerance` (Hestenes 1952).

    normal: symmetric, positive semidefinite. At most `most` iterations.
    """
    x, residual = torch.zeros_like(b), b.clone()
    direction, power = residual.clone(), residual.square().sum()
    enough = tolerance**2 * power
    for _ in range(most):
        if power <= enough:
            break
        image = normal(direction)
        step = power / (direction * image).sum()
        x = x + step * direction
        residual = residual - step * image
        before, power = power, residual.square().sum()
        direction = residual + (power / before) * direction
    return x


def _gathered(x: Tensor, term: dict[int, Taps]) -> Tensor:
    for axis, taps in term.items():
        weights = np.broadcast_to(taps.weights, taps.index.shape)
        x = gather(x, axis, torch.from_numpy(taps.index), torch.tensor(weights))
    return x


def _along(x: Tensor, matrices: dict[int, Matrix]) -> Tensor:
    """Each axis of x multiplied by its matrix."""
    for axis, matrix in matrices.items():
        product = torch.tensordot(torch.tensor(matrix).to(x), x, dims=([1], [axis]))
        x = product.movedim(0, axis)
    return x.contiguous()


def _total(parts: list[Tensor]) -> Tensor:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total
