"""Denoising: what is measured is the output itself, and noise."""

from __future__ import annotations

from dataclasses import dataclass

from emgen.physics.acquisition import Acquisition, same_voxels
from emgen.physics.operators.averaging import Averaging


@dataclass(frozen=True)
class Identity(Averaging):
    """y = x."""

    @property
    def acquisition(self) -> Acquisition:
        return same_voxels()
