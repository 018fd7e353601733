"""The forward model applied to a result once more, for comparison with what was measured."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from emgen.geometry import Box
from emgen.run.plan import Plan


def degraded(
    plan: Plan, box: Box, voxels: npt.NDArray[np.float32]
) -> tuple[Box, npt.NDArray[np.float32]]:
    """Degrade restored voxels as the measurement is taken to have done.

    Args:
        plan: of the run.
        box: of the output.
        voxels: its grey values (z, y, x).

    Returns:
        The box of measured voxels that `voxels` determine, and the grey values that the forward model
        gives them.
    """
    physics = plan.mode.operator(box)
    return physics.footprint, physics(torch.from_numpy(voxels)).numpy()
