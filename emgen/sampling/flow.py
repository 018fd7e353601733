"""The straight path of flow matching: x_t = (1 - t) eps + t x, from noise at t = 0 to data at t = 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


def x1_prediction(x_t: Tensor, v: Tensor, t: float) -> Tensor:
    """x_t + (1 - t) v: the mean of the data given x_t, where v is the mean of x - eps given x_t.

    Lipman et al., ICLR 2023 (arXiv 2210.02747); x_t and v have one shape, t lies in [0, 1].
    """
    return x_t + (1 - t) * v
