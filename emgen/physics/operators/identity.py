"""Denoising: what is measured is the output itself, and noise."""

from __future__ import annotations

from dataclasses import dataclass

from emgen.geometry import Zyx
from emgen.physics.operators.averaging import Averaging
from emgen.physics.operators.operator import Reach


@dataclass(frozen=True)
class Identity(Averaging):
    """y = x."""

    @property
    def scale(self) -> Zyx:
        return (1, 1, 1)

    @property
    def reach(self) -> tuple[Reach, Reach, Reach]:
        return (0, 0), (0, 0), (0, 0)
