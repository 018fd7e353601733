"""The volume that says what each voxel of the output is: no tissue, measured, or inferred."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from emgen.physics.tissue import INFERRED, MEASURED, OUTSIDE
from emgen.run.output import TISSUE
from emgen.run.plan import Plan
from emgen.volumes.corrected import corrected
from emgen.volumes.inputs import open_input
from emgen.volumes.volume import Volume


def write_tissue(plan: Plan, number: int, run: Path) -> dict[str, int]:
    """Write which voxels of the cores of a job's blocks show tissue, where a run has a volume for it.

    Args:
        plan: of the run.
        number: of the job.
        run: the run's folder.

    Returns:
        How many voxels are "blank", and how many "inferred".
    """
    counts = {"blank": 0, "inferred": 0}
    if not plan.marks_tissue:
        return counts
    measured, target = (
        corrected(open_input(plan.config.input), plan.corrections),
        Volume.open(run / TISSUE, mode="r+"),
    )
    for index in plan.grid.job(number):
        core = plan.grid[index].core
        found = plan.states(measured, core)
        states = np.full(core.shape, MEASURED, np.uint8) if found is None else found[0]
        target.write(core, states)
        counts["blank"] += int((states == OUTSIDE).sum())
        counts["inferred"] += int((states == INFERRED).sum())
    return counts
