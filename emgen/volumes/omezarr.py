"""OME-Zarr images, and their metadata as JSON, versions 0.4 and 0.5. No input, no output.

The specification: https://ngff.openmicroscopy.org/0.5/ . A level that averages f voxels of level 0
has its first voxel centre at (f - 1) / 2 level-0 voxels, which the translation says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from emgen.geometry import VoxelSize, Zyx

Json = dict[str, Any]


@dataclass(frozen=True)
class Level:
    """One resolution of an image.

    Attributes:
        path: of its array in the group.
        voxel: size of its voxels in nm.
        translation: centre of its first voxel in nm (z, y, x).
    """

    path: str
    voxel: VoxelSize
    translation: tuple[float, float, float]


@dataclass(frozen=True)
class Image:
    """What the metadata of an image says.

    Attributes:
        version: of OME-Zarr.
        levels: finest first.
        axes: names of the array's axes; z, y and x are among them.
        label: the voxels are object numbers.
    """

    version: str
    levels: tuple[Level, ...]
    axes: tuple[str, ...]
    label: bool = False


def level_of(
    path: str, voxel: VoxelSize, factors: Zyx, origin: Sequence[float] = (0.0, 0.0, 0.0)
) -> Level:
    """The level that averages voxels of level 0.

    Args:
        path: of its array.
        voxel: size of level 0 voxels in nm.
        factors: averaged voxels (z, y, x).
        origin: centre of the first voxel of level 0 in nm (z, y, x).
    """
    first = tuple(o + (f - 1) / 2 * size for o, f, size in zip(origin, factors, voxel, strict=True))
    return Level(path, voxel.scaled(factors), (first[0], first[1], first[2]))


def write(
    name: str,
    levels: Sequence[Level],
    version: str,
    window: tuple[float, float, float, float] | None,
    label: bool = False,
) -> Json:
    """Group attributes of an image or, with `label`, of a label image.

    Args:
        name: shown by viewers.
        levels: finest first.
        version: "0.4" or "0.5".
        window: (min, start, end, max) of the display in stored units; none for labels.
        label: say `image-label` instead of a display.
    """
    multiscale: Json = {
        "name": name,
        "axes": [{"name": a, "type": "space", "unit": "nanometer"} for a in "zyx"],
        "datasets": [_dataset(level) for level in levels],
        "type": "mode" if label else "mean",
    }
    body: Json = {"multiscales": [multiscale]}
    if window is not None:
        body["omero"] = _display(name, window)
    if label:
        body["image-label"] = {}
    if version == "0.5":
        return {"ome": {"version": "0.5", **body}}
    multiscale["version"] = "0.4"
    if label:
        body["image-label"]["version"] = "0.4"
    return body


def _dataset(level: Level) -> Json:
    return {
        "path": level.path,
        "coordinateTransformations": [
            {"type": "scale", "scale": list(level.voxel)},
            {"type": "translation", "translation": list(level.translation)},
        ],
    }


def _display(name: str, window: tuple[float, float, float, float]) -> Json:
    """How viewers show it: one grey channel with this window."""
    channel = {
        "active": True,
        "color": "FFFFFF",
        "label": name,
        "window": dict(zip(("min", "start", "end", "max"), window, strict=True)),
    }
    return {"channels": [channel], "rdefs": {"model": "greyscale"}}
