"""Which sections of the volumes the report shows, and their grey values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from emgen.geometry import Box, Zyx, zyx
from emgen.qc.axes import PLANES, Plane
from emgen.qc.sample import Sample, baseline, supported
from emgen.run.plan import Plan
from emgen.volumes.measured import Measured

FIELD = 256
"""Output voxels a side that are shown around the middle: what a third of the page's width still resolves."""

Pixels = npt.NDArray[Any]
Panels = dict[Plane, dict[str, Pixels]]
"""Grey values (rows, columns) by plane and volume."""


@dataclass(frozen=True)
class View:
    """The part of the output that is shown.

    Attributes:
        box: the voxels of the xz and yz sections and, in y and x, of the xy section.
        at: the sections shown (z, y, x), in output voxels.
    """

    box: Box
    at: Zyx

    def section(self, plane: Plane) -> Box:
        """The section of an orientation: one voxel thick."""
        axis = PLANES.index(plane)
        start, stop = list(self.box.start), list(self.box.stop)
        start[axis], stop[axis] = self.at[axis], self.at[axis] + 1
        return Box(zyx(start), zyx(stop))


def view(plan: Plan) -> View:
    """The view around the middle of the volume, at the xy section farthest from a measured one."""
    start = zyx([max(0, (n - FIELD) // 2) for n in plan.shape])
    box = Box(start, zyx([a + FIELD for a in start])).clip(plan.shape)
    part = supported(plan)
    middle = [(a + b) // 2 for a, b in zip(part.start, part.stop, strict=True)]
    near = range(
        max(0, middle[0] - plan.scale[0]), min(plan.shape[0], middle[0] + plan.scale[0] + 1)
    )
    z = max(near, key=lambda z: (from_measured(plan, z), -abs(z - middle[0])))
    return View(box, (z, middle[1], middle[2]))


def main_plane(plan: Plan) -> Plane:
    """The orientation in which the restoration shows most."""
    return "xz" if plan.scale[0] > 1 else "xy"


def from_measured(plan: Plan, z: int) -> float:
    """Sections between output section z and the middle of the nearest measured one."""
    place = (z - plan.centre[0]) / plan.scale[0]
    nearest = min(max(round(place), 0), plan.measured_shape[0] - 1)
    return abs(place - nearest) * plan.scale[0]


def title(plan: Plan, name: str) -> str:
    """The name of a volume in the report."""
    if name == "interpolated":
        return baseline(plan).removeprefix("the ").capitalize()
    return {"measured": "Input", "labels": "Reference labels"}.get(name, name.capitalize())


def nearest_measured(plan: Plan, measured: Measured, box: Box) -> Pixels:
    """The input on the output's voxels: for every voxel of `box` the nearest measured one."""
    support = plan.interpolation_support(box)
    voxels = measured.read(support)
    if voxels.dtype.kind == "f":
        voxels = np.nan_to_num(voxels, nan=plan.intensity.low)
    for axis in range(3):
        place = (np.arange(box.start[axis], box.stop[axis]) - plan.centre[axis]) / plan.scale[axis]
        index = np.clip(
            np.floor(place + 0.5).astype(int), support.start[axis], support.stop[axis] - 1
        )
        voxels = voxels.take(index - support.start[axis], axis)
    return voxels


def read(sample: Sample, shown: View) -> Panels:
    """Read the sections of a view from every volume."""
    return {plane: volumes(sample, shown.section(plane), plane) for plane in PLANES}


def volumes(sample: Sample, section: Box, plane: Plane) -> dict[str, Pixels]:
    """Grey values (rows, columns) of one section in every volume: the input where its voxels are not
    the output's, interpolated, restored, and the reference if there is one.
    """
    tile = sample.read(section)
    voxels: dict[str, Pixels] = {}
    if max(sample.plan.scale) > 1:
        voxels["measured"] = nearest_measured(sample.plan, sample.measured, section)
    voxels |= {"interpolated": tile.interpolated, "restored": tile.restored}
    if tile.reference is not None:
        voxels["reference"] = tile.reference
    axis = PLANES.index(plane)
    return {name: volume.squeeze(axis) for name, volume in voxels.items()}
