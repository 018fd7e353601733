"""OME-Zarr image metadata to and from JSON, versions 0.4 and 0.5. No input, no output.

The specification: https://ngff.openmicroscopy.org/0.5/ . A level that averages f voxels of level 0
has its first voxel centre at (f - 1) / 2 level-0 voxels, which the translation says.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from emgen.geometry import VoxelSize, Zyx
from emgen.volumes.units import nanometres

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
        axes: names of the array's axes; the last three are z, y, x.
    """

    version: str
    levels: tuple[Level, ...]
    axes: tuple[str, ...]

    @property
    def leading(self) -> int:
        """How many axes stand before z, y, x (time, channel)."""
        return len(self.axes) - 3


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


def read(attributes: Json, where: str) -> Image:
    """What the group attributes of an image say.

    Args:
        attributes: of the group, as JSON.
        where: its path, for messages.

    Raises:
        ValueError: not an OME-Zarr image, no z, y, x at the end of the axes, or no scale.
    """
    body = attributes.get("ome", attributes)
    multiscales = body.get("multiscales")
    if not multiscales:
        raise ValueError(f"{where} has no OME-Zarr `multiscales`: it is not an OME-Zarr image")
    first = multiscales[0]
    version = str(body.get("version", first.get("version", "0.4")))
    axes = tuple(str(axis["name"] if isinstance(axis, dict) else axis) for axis in first["axes"])
    if axes[-3:] != ("z", "y", "x"):
        raise ValueError(
            f"{where} has axes {', '.join(axes)}; emgen needs a 3-D image whose last three axes are z, y, x"
        )
    units = [axis.get("unit") if isinstance(axis, dict) else None for axis in first["axes"][-3:]]
    nm = [_nanometres(unit, where) for unit in units]
    whole = first.get("coordinateTransformations", [])
    levels = tuple(_level(dataset, whole, nm, where) for dataset in first["datasets"])
    return Image(version, levels, axes)


def _level(dataset: Json, whole: list[Json], nm: list[float], where: str) -> Level:
    scale, translation = [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]
    scaled = False
    for transformation in [*dataset.get("coordinateTransformations", []), *whole]:
        if transformation["type"] == "scale":
            factors = transformation["scale"][-3:]
            scale = [s * f for s, f in zip(scale, factors, strict=True)]
            translation = [t * f for t, f in zip(translation, factors, strict=True)]
            scaled = True
        elif transformation["type"] == "translation":
            shifts = transformation["translation"][-3:]
            translation = [t + d for t, d in zip(translation, shifts, strict=True)]
    if not scaled:
        raise ValueError(
            f"{where}, level {dataset['path']}: no scale, so the voxel size is unknown"
        )
    sizes = [s * unit for s, unit in zip(scale, nm, strict=True)]
    first = [t * unit for t, unit in zip(translation, nm, strict=True)]
    return Level(str(dataset["path"]), VoxelSize(*sizes), (first[0], first[1], first[2]))


def _nanometres(unit: object, where: str) -> float:
    try:
        nm = nanometres(unit)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if nm is None:
        raise ValueError(
            f"{where}: the axes have no unit, so the voxel size is unknown; "
            'add "unit": "nanometer" to the axes, or import the data again with --voxel-size'
        )
    return nm
