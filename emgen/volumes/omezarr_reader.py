"""What OME-Zarr metadata say, versions 0.1 to 0.5. No input, no output.

The specifications: https://ngff.openmicroscopy.org/ . Every field that changes which voxels there are, their order,
size, unit, place or sign is used, or the image is refused with a sentence.

    version   axes                       size of voxels
    0.1, 0.2  always t, c, z, y, x       not said
    0.3       names                      not said
    0.4, 0.5  names, types and units     scale and translation of each level, and of the whole image
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from emgen.errors import EmgenError
from emgen.geometry import VoxelSize
from emgen.volumes.fields import Field, shortened
from emgen.volumes.omezarr import Image, Json, Level
from emgen.volumes.units import nanometres

VERSIONS = r"0\.[1-5](\.\d+)?"
FIXED_AXES = ("t", "c", "z", "y", "x")  # of 0.1 and 0.2
ASK = "set input.voxel_size (z, y, x in nm)"
# groups that hold images and are none
CONTAINERS = {
    "plate": "a plate of many images; name one of them, such as {where}/A/1/0",
    "well": "a well of several images; name one of them, such as {where}/0",
    "labels": "a group of label images; name the image that you mean",
}
Shift = tuple[float, float, float]


@dataclass(frozen=True)
class _Axis:
    name: str
    kind: str | None
    unit: Field | None


@dataclass(frozen=True)
class _Placed:
    """A level in the metadata's units: size of its voxels (None: not said) and centre of the first, z, y, x."""

    path: str
    scale: Shift | None
    shift: Shift


def read(attributes: Json, where: str, voxel: VoxelSize | None = None) -> Image:
    """What the group attributes of an image say.

    Args:
        attributes: of the group, as JSON.
        where: its path, for messages.
        voxel: size of the finest level's voxels in nm, where it is known better than by the file. Of the metadata's
            sizes only how the levels lie to each other is used then.

    Raises:
        EmgenError: not an OME-Zarr image of versions 0.1 to 0.5, or damaged, without z, y and x, mirrored, several
            images, or of an unknown voxel size.
    """
    top = Field(attributes, where)
    images = [_image(body, voxel) for body in (top["ome"], top) if body and "multiscales" in body]
    if not images:
        raise EmgenError(_no_image(top))
    if any(replace(each, version=images[0].version) != images[0] for each in images):
        raise EmgenError(
            f"{where} describes its image twice, as OME-Zarr {images[0].version} and as {images[1].version}, and the "
            "two differ; remove the one that is out of date"
        )
    return images[0]


def fitted(image: Image, axes: int) -> Image:
    """An image of version 0.1 or 0.2 with the last of the five axes, as many as its array has; any other as it is.

    The specification gives arrays of these versions five axes, and some writers left out time and channel.
    """
    if image.version in ("0.1", "0.2") and image.axes == FIXED_AXES and axes in (3, 4):
        return replace(image, axes=FIXED_AXES[-axes:])
    return image


def series(root: Json, listed: Json, where: str) -> list[str] | None:
    """Paths of the images below the root of what bioformats2raw wrote; None for any other group.

    Args:
        root: attributes of the group.
        listed: attributes of the group OME in it; empty where there is none.
        where: path of the root, for messages.

    Raises:
        EmgenError: the metadata are damaged.
    """
    top, group = Field(root, where), Field(listed, f"{where}/OME")
    body = top["ome"] or top
    if "bioformats2raw.layout" not in body or "multiscales" in body or "plate" in body:
        return None
    names = (group["ome"] or group)["series"]
    return [name.text() for name in names] if names else []


def _no_image(top: Field) -> str:
    body = top["ome"] or top
    for key, words in CONTAINERS.items():
        if key in body:
            return f"{top.where} is {words.format(where=top.where)}"
    return f"{top.where} has no OME-Zarr `multiscales`: it is not an OME-Zarr image"


def _image(body: Field, voxel: VoxelSize | None) -> Image:
    several = body["multiscales"].items()
    if len(several) != 1:
        raise EmgenError(
            f"{body.where} describes {len(several)} images in its `multiscales`; expected one: make a group of the one "
            "that you mean"
            if several
            else f"{body.where} has empty `multiscales`: it is not an OME-Zarr image"
        )
    image = several[0]
    version = _version(body, image)
    axes = _axes(image, version)
    places = _places([axis.name for axis in axes], body.where)
    for axis in (axes[i] for i in places):
        if axis.kind not in (None, "space"):
            raise EmgenError(
                f"{body.where}: axis {axis.name} is of type {shortened(axis.kind)}; z, y and x must be of type space"
            )
    whole = _transformations(image)
    datasets = image["datasets"].items()
    if not datasets:
        raise image["datasets"].fault("a list of levels")
    placed = [_placed(each, whole, places, len(axes), voxel is None) for each in datasets]
    if voxel is None:
        nm = _nanometres([axes[i] for i in places], body.where)
        levels = _measured(placed, nm, body.where)
    else:
        levels = _given(placed, voxel, body.where)
    _refuse_finer_levels(levels, body.where)
    return Image(version, levels, tuple(axis.name for axis in axes), "image-label" in body)


def _version(body: Field, image: Field) -> str:
    said = body["version"] or image["version"]
    if not said:
        return "0.5" if body.place else "0.4"
    version = str(said.value) if isinstance(said.value, float) else said.text()
    if not re.fullmatch(VERSIONS, version):
        raise EmgenError(
            f"{body.where} is OME-Zarr {shortened(version)}; emgen reads 0.1 to 0.5: save it as 0.5"
        )
    return version[:3]


def _axes(image: Field, version: str) -> list[_Axis]:
    if "axes" not in image and version in ("0.1", "0.2"):
        return [_Axis(name, None, None) for name in FIXED_AXES]
    axes = []
    for axis in image["axes"].items():
        if isinstance(axis.value, str):
            axes.append(_Axis(axis.text().lower(), None, None))
        else:
            kind = axis["type"].text() if "type" in axis else None
            axes.append(_Axis(axis["name"].text().lower(), kind, axis["unit"]))
    return axes


def _places(names: Sequence[str], where: str) -> tuple[int, int, int]:
    """Where z, y and x stand among the axes."""
    if len(set(names)) != len(names) or not {"z", "y", "x"} <= set(names):
        raise EmgenError(
            f"{where} has axes {shortened(', '.join(names))}; emgen needs a 3-D image with one axis each of the names "
            "z, y and x"
        )
    return names.index("z"), names.index("y"), names.index("x")


def _transformations(described: Field) -> list[Field]:
    transformations = described["coordinateTransformations"]
    return transformations.items() if transformations else []


def _placed(
    dataset: Field,
    whole: list[Field],
    places: tuple[int, int, int],
    axes: int,
    needed: bool,
) -> _Placed:
    """One level; `needed` says whether its scale must be known."""
    path = dataset["path"].text()
    scale: list[float] = [1.0, 1.0, 1.0]
    shift: list[float] = [0.0, 0.0, 0.0]
    known = False
    for transformation in (*_transformations(dataset), *whole):
        kind = transformation["type"].text()
        if kind not in ("scale", "translation", "identity"):
            raise EmgenError(
                f"{dataset.where}, level {shortened(path)}: emgen does not know the coordinate transformation "
                f"{shortened(kind)}; expected scale and translation: resample the volume to a straight grid"
            )
        if kind == "identity":
            continue
        if kind not in transformation:
            if "path" in transformation and not needed:
                continue
            raise EmgenError(
                f"{dataset.where}, level {shortened(path)}: its {kind} is not in the metadata"
                f"{' but in another file' if 'path' in transformation else ''}, which emgen does not read; {ASK}"
            )
        numbers = transformation[kind].numbers(axes)
        chosen = [numbers[i] for i in places]
        if kind == "translation":
            shift = [s + n for s, n in zip(shift, chosen, strict=True)]
            continue
        if min(chosen) < 0:
            raise EmgenError(
                f"{dataset.where}, level {shortened(path)}: the scale {chosen} (z, y, x) mirrors an axis; emgen reads "
                "no mirrored volumes: turn the voxels round and make the scale positive"
            )
        if min(chosen) == 0:
            if needed:
                raise EmgenError(
                    f"{dataset.where}, level {shortened(path)}: the scale {chosen} (z, y, x) gives voxels without a "
                    f"size; {ASK}"
                )
            return _Placed(path, None, (0.0, 0.0, 0.0))
        known = True
        scale = [s * n for s, n in zip(scale, chosen, strict=True)]
        shift = [s * n for s, n in zip(shift, chosen, strict=True)]
    if not known and needed:
        raise EmgenError(
            f"{dataset.where}, level {shortened(path)}: no scale, so the voxel size is unknown; {ASK}"
        )
    return _Placed(path, _three(scale) if known else None, _three(shift))


def _three(values: Sequence[float]) -> Shift:
    z, y, x = values
    return z, y, x


def _nanometres(axes: Sequence[_Axis], where: str) -> Shift:
    """Nanometres per unit of z, y and x."""
    lengths = []
    for axis in axes:
        try:
            nm = nanometres(axis.unit.value if axis.unit else None)
        except ValueError as error:
            raise EmgenError(f"{where}, axis {axis.name}: {error}; {ASK}") from None
        if nm is None:
            raise EmgenError(
                f"{where}: axis {axis.name} has no unit, so the voxel size is unknown; {ASK}"
            )
        lengths.append(nm)
    return _three(lengths)


def _measured(placed: Sequence[_Placed], nm: Shift, where: str) -> tuple[Level, ...]:
    """The levels as the metadata place them."""
    levels = []
    for each in placed:
        assert each.scale is not None  # refused before
        sizes = [s * unit for s, unit in zip(each.scale, nm, strict=True)]
        shift = [t * unit for t, unit in zip(each.shift, nm, strict=True)]
        levels.append(_level(each.path, sizes, shift, where))
    return tuple(levels)


def _given(placed: Sequence[_Placed], voxel: VoxelSize, where: str) -> tuple[Level, ...]:
    """The levels, where the size of the finest was given: without those of which the metadata say no size."""
    finest = placed[0].scale
    if finest is None:
        return (Level(placed[0].path, voxel, (0.0, 0.0, 0.0)),)
    levels = []
    for each in placed:
        if each.scale is not None:
            sizes = [s / f * v for s, f, v in zip(each.scale, finest, voxel, strict=True)]
            # a place counts in the same wrong unit as the size
            shift = [t / f * v for t, f, v in zip(each.shift, finest, voxel, strict=True)]
            levels.append(_level(each.path, sizes, shift, where))
    return tuple(levels)


def _level(path: str, sizes: Sequence[float], shift: Sequence[float], where: str) -> Level:
    if not all(map(math.isfinite, (*sizes, *shift))) or min(sizes) <= 0:
        raise EmgenError(
            f"{where}, level {shortened(path)}: sizes or places of voxels {sizes}, {shift} nm (z, y, x) are no numbers; "
            f"{ASK}"
        )
    return Level(path, VoxelSize(*sizes), _three(shift))


def _refuse_finer_levels(levels: Sequence[Level], where: str) -> None:
    finest = levels[0]
    for level in levels[1:]:
        if any(s < f * 0.99 for s, f in zip(level.voxel, finest.voxel, strict=True)):
            raise EmgenError(
                f"{where}: level {shortened(level.path)} ({level.voxel}) is finer than the first, "
                f"{shortened(finest.path)} ({finest.voxel}); expected the finest level first"
            )
