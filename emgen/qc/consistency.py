"""Does the restored volume, degraded again, give back what was measured?

The guard against invented structure that needs no ground truth: the forward model is applied to the
result and the outcome compared with the input, in grey values and per frequency. Agreement better
than the noise is over-fitting, agreement far worse is invention.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from emgen.geometry import VoxelSize
from emgen.qc.fsc import ShellSums, shell_sums
from emgen.qc.image import ErrorSums, error_sums


@dataclass(frozen=True)
class Consistency:
    """Shell sums (a: measured, b: degraded again) and errors (degraded - measured) of tiles."""

    shells: ShellSums
    errors: ErrorSums

    def __add__(self, other: Consistency) -> Consistency:
        return Consistency(self.shells + other.shells, self.errors + other.errors)

    def relative_to_noise(self, noise: float) -> float | None:
        """RMSE over the standard deviation of the noise (grey values): about 1 is right.

        None for noiseless input.
        """
        rmse = self.errors.rmse
        return rmse / noise if rmse is not None and noise > 0 else None


def consistency(
    degraded: np.ndarray, measured: np.ndarray, voxel: VoxelSize, *, width: float | None = None
) -> Consistency:
    """Compare one tile: the result degraded again and the input, (z, y, x) in grey values.

    No registration: the forward model fixes where every measured voxel lies, and a shift would be
    a fault to be seen. `voxel` is that of the input, `width` (1/nm) as in `shell_sums`.
    """
    return Consistency(
        shell_sums(measured, degraded, voxel, width=width), error_sums(measured, degraded)
    )
