"""What the report shows of the volumes: sections, enlarged crops, differences, objects, spread."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from emgen.geometry import Box, Zyx, zyx
from emgen.qc import figures
from emgen.qc.sample import Sample, baseline, supported
from emgen.run.plan import Plan
from emgen.volumes.volume import Volume

FIELD = 256  # output voxels a side that are shown around the middle
ZOOM = 64
AXES = {"xy": 0, "xz": 1, "yz": 2}

Plane = npt.NDArray[Any]
Panels = dict[str, dict[str, Plane]]


def title(plan: Plan, name: str) -> str:
    """What a volume is called."""
    if name == "interpolated":
        return baseline(plan).removeprefix("the ").capitalize()
    return {"measured": "Input", "labels": "Reference labels"}.get(name, name.capitalize())


@dataclass(frozen=True)
class View:
    """The part of the output that is shown.

    Attributes:
        box: the voxels of the xz and yz panels and, in y and x, of the xy panel.
        at: the sections shown (z, y, x), in output voxels.
    """

    box: Box
    at: Zyx

    def cut(self, axis: int) -> Box:
        """The section across an axis: one voxel thick."""
        start, stop = list(self.box.start), list(self.box.stop)
        start[axis], stop[axis] = self.at[axis], self.at[axis] + 1
        return Box(zyx(start), zyx(stop))


def view(plan: Plan) -> View:
    """Around the middle of the volume, at the section that is farthest from a measured one."""
    start = zyx([max(0, (n - FIELD) // 2) for n in plan.shape])
    box = Box(start, zyx([a + FIELD for a in start])).clip(plan.shape)
    part = supported(plan)
    middle = [(a + b) // 2 for a, b in zip(part.start, part.stop, strict=True)]
    near = range(
        max(0, middle[0] - plan.scale[0]), min(plan.shape[0], middle[0] + plan.scale[0] + 1)
    )
    z = max(near, key=lambda each: (from_measured(plan, each), -abs(each - middle[0])))
    return View(box, (z, middle[1], middle[2]))


def main_plane(plan: Plan) -> str:
    """The plane in which the restoration shows most."""
    return "xz" if plan.scale[0] > 1 else "xy"


def from_measured(plan: Plan, z: int) -> float:
    """Sections between output section z and the middle of the nearest measured one."""
    place = (z - plan.centre[0]) / plan.scale[0]
    nearest = min(max(round(place), 0), plan.measured_shape[0] - 1)
    return abs(place - nearest) * plan.scale[0]


def nearest(plan: Plan, measured: Volume, box: Box) -> Plane:
    """The input on the output's voxels: the measured voxel nearest to each of `box`."""
    support = plan.interpolation_support(box)
    voxels = measured.read(support)
    for axis in range(3):
        place = (np.arange(box.start[axis], box.stop[axis]) - plan.centre[axis]) / plan.scale[axis]
        index = np.clip(
            np.floor(place + 0.5).astype(int), support.start[axis], support.stop[axis] - 1
        )
        voxels = voxels.take(index - support.start[axis], axis)
    return voxels


def panels(sample: Sample, seen: View) -> Panels:
    """Grey values of every section shown, by plane and volume."""
    return {plane: _volumes(sample, seen.cut(axis), axis) for plane, axis in AXES.items()}


def _volumes(sample: Sample, box: Box, axis: int) -> dict[str, Plane]:
    tile = sample.read(box)
    voxels: dict[str, Plane] = {}
    if max(sample.plan.scale) > 1:
        voxels["measured"] = nearest(sample.plan, sample.measured, box)
    voxels |= {"interpolated": tile.interpolated, "restored": tile.restored}
    if tile.reference is not None:
        voxels["reference"] = tile.reference
    return {name: volume.squeeze(axis) for name, volume in voxels.items()}


def _pixel(plan: Plan, plane: str) -> tuple[float, float]:
    row_axis, column_axis = (k for k in range(3) if k != AXES[plane])
    sizes = tuple(plan.voxel)
    return sizes[row_axis], sizes[column_axis]


def sections(plan: Plan, shown: Panels, seen: View) -> list[tuple[str, list[Markup]]]:
    """Rows of the first figure: one per volume, its three planes."""
    letters = seen.box.shape[2] * plan.voxel.x / 20
    end = (
        None
        if plan.extrapolated is None
        else (plan.extrapolated.start[0] - seen.box.start[0]) * plan.voxel.z
    )
    rows = []
    for number, name in enumerate(shown["xy"]):
        row_of = []
        for plane, volumes in shown.items():
            mark = end if plane != "xy" else None
            pixels = figures.grey(volumes[name], plan.intensity.low, plan.intensity.high)
            row_of.append(
                figures.panel(
                    pixels,
                    _pixel(plan, plane),
                    f"{title(plan, name)}, {plane}",
                    bar=number == 0 and plane == "xy",
                    mark=mark,
                    text=letters,
                )
            )
        rows.append((title(plan, name), row_of))
    return rows


def zoom(plan: Plan, volumes: dict[str, Plane]) -> list[tuple[str, Markup]]:
    """Crops of one plane where the interpolated input has most contrast: the result has no say."""
    y, x = _most_contrast(volumes["interpolated"])
    plane = main_plane(plan)
    return [
        (
            title(plan, name),
            figures.panel(
                figures.grey(
                    pixels[y : y + ZOOM, x : x + ZOOM], plan.intensity.low, plan.intensity.high
                ),
                _pixel(plan, plane),
                f"{title(plan, name)}, enlarged",
                bar=number == 0,
            ),
        )
        for number, (name, pixels) in enumerate(volumes.items())
    ]


def _most_contrast(pixels: Plane) -> tuple[int, int]:
    height, width = pixels.shape
    corners = [
        (y, x)
        for y in range(0, max(1, height - ZOOM + 1), ZOOM // 4)
        for x in range(0, max(1, width - ZOOM + 1), ZOOM // 4)
    ]
    return max(
        corners, key=lambda at: float(np.std(pixels[at[0] : at[0] + ZOOM, at[1] : at[1] + ZOOM]))
    )


def differences(plan: Plan, volumes: dict[str, Plane]) -> dict[str, Any]:
    """Absolute differences from the reference in one plane, on one scale."""
    apart = {
        name: np.abs(volumes[name] - volumes["reference"]) for name in ("interpolated", "restored")
    }
    high = float(np.percentile(apart["interpolated"], 99.5))
    plane = main_plane(plan)
    maps = [
        (
            title(plan, name),
            f"{np.sqrt(np.mean(np.square(values))):.3g}",
            figures.panel(
                figures.heat(values, high),
                _pixel(plan, plane),
                f"{title(plan, name)} less reference",
            ),
        )
        for name, values in apart.items()
    ]
    return {"maps": maps, "scale": figures.colour_bar(high)}


def objects(sample: Sample, segments: Mapping[str, Plane]) -> dict[str, Any]:
    """Objects of the segmenter over the grey values they were found in, coloured alike."""
    plan, start = sample.plan, segments["start"]
    box = Box(zyx(start.tolist()), zyx(segments["stop"].tolist()))
    axis = box.shape.index(1)
    plane = next(name for name, across in AXES.items() if across == axis)
    grey = _volumes(sample, box, axis)
    owner = segments["labels" if "labels" in segments else "reference"]
    shown: list[tuple[str, Markup]] = []
    for name in ("labels", "reference", "interpolated", "restored"):
        if name not in segments:
            continue
        below = grey.get(name, grey["reference"])
        section = figures.grey(below, plan.intensity.low, plan.intensity.high)
        picture = figures.objects(section, segments[name], owner)
        nm, alt = _pixel(plan, plane), f"objects in {title(plan, name).lower()}"
        letters = picture.shape[1] * nm[1] / 30
        shown.append(
            (title(plan, name), figures.panel(picture, nm, alt, bar=not shown, text=letters))
        )
    return {"plane": plane, "at": start[axis], "panels": shown}


def spread(plan: Plan, deviation: Volume, seen: View) -> dict[str, Any]:
    """Maps of the standard deviation over posterior samples."""
    planes = dict.fromkeys(["xy", main_plane(plan)])
    values = {plane: deviation.read(seen.cut(AXES[plane])).squeeze(AXES[plane]) for plane in planes}
    high = max(float(np.percentile(each, 99.5)) for each in values.values())
    letters = seen.box.shape[2] * plan.voxel.x / 30
    maps: list[tuple[str, Markup]] = []
    for plane, each in values.items():
        nm, alt = _pixel(plan, plane), f"spread over samples, {plane}"
        picture = figures.panel(figures.heat(each, high), nm, alt, bar=not maps, text=letters)
        maps.append((plane, picture))
    return {"maps": maps, "scale": figures.colour_bar(high)}
