"""Operators that are sums of separable convolutions, and their inverse problems.

Along one axis such an operator is a small matrix (footprint by box). With one term,
A = W_y (x) W_x, and the eigenvectors of W W^T of each axis answer the proximal problem exactly,
borders included; a Fourier transform would wrap around instead. With more terms conjugate
gradients do.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from emgen.physics.operators.operator import BoxOperator, gather

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

    @property
    def spectrum(self) -> tuple[Matrix, Matrix]:
        """Eigenvalues and eigenvectors of matrix @ matrix.T."""
        return _spectrum(self.index.tobytes(), self.weights.tobytes(), self.size)


@lru_cache(maxsize=16)
def _spectrum(index: bytes, weights: bytes, size: int) -> tuple[Matrix, Matrix]:
    # Kept between blocks: counted from their start, all inner blocks of a grid have the same taps.
    weight = np.frombuffer(weights)
    taps = Taps(np.frombuffer(index, np.int64).reshape(-1, weight.size), weight, size)
    power, modes = np.linalg.eigh(taps.matrix @ taps.matrix.T)
    return power.clip(0), modes


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

    def prox(self, h: Tensor, y: Tensor, r: float | Tensor) -> Tensor:
        """Exact for one term and one r; else conjugate gradients to a relative residual of 1e-6."""
        if y.numel() == 0:
            return h.clone()
        missing = y - self._dense(h)
        if isinstance(r, Tensor):
            # x = h + A^T u with (A A^T + r) u = y - A h, where u = 0 if r is infinite
            known = r.isfinite()
            r = r.masked_fill(~known, 0)
            return h + self.adjoint(
                conjugate_gradient(
                    lambda u: known * self._dense(self.adjoint(u)) + r * u, missing * known
                )
            )
        if len(self.terms) == 1:
            return h + self.adjoint(self._weighed(missing, r))
        return h + conjugate_gradient(
            lambda x: self.adjoint(self._dense(x)) + r * x, self.adjoint(missing)
        )

    def _weighed(self, missing: Tensor, r: float) -> Tensor:
        """(A A^T + r)^-1 missing, by the eigenvectors of each axis."""
        spectra = {axis: taps.spectrum for axis, taps in self.terms[0].items()}
        power = np.ones((1, 1, 1))
        for axis, (values, _) in spectra.items():
            power = power * np.expand_dims(values, tuple({0, 1, 2} - {axis}))
        known = power + r > SMALLEST * power.max()
        gain = np.divide(1, power + r, where=known, out=np.zeros_like(power))
        modes = {axis: vectors for axis, (_, vectors) in spectra.items()}
        missing = _along(missing, {axis: vectors.T for axis, vectors in modes.items()})
        return _along(missing * torch.from_numpy(gain).to(missing), modes)

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
