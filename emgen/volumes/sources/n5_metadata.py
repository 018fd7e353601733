"""What the attributes of an N5 data set and of its groups say about axes, voxel size and place.

Programs write this in four ways: n5-viewer and BigDataViewer (`pixelResolution`, `downsamplingFactors`, `scales`),
OpenOrganelle (`transform`, `multiscales`), Neuroglancer (`resolution` with `units`), and bare numbers of which nobody
says the order or the unit. The last are not used, and that is said.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from emgen.errors import EmgenError
from emgen.volumes.sources.foreign import nanometres

Attributes = dict[str, Any]
UNUSED = ("resolution", "offset", "pixelResolution", "voxelSize", "voxel_size", "translate")


@dataclass(frozen=True)
class Place:
    """Where the voxels of a data set lie, one value for each of its axes, slowest first.

    Attributes:
        sizes: of a voxel in nm; None where it is not known.
        first: centre of the first voxel in nm.
        notes: what the user should know, in sentences.
    """

    sizes: tuple[float | None, ...] = ()
    first: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()


def axis_names(own: Attributes, count: int) -> list[str] | None:
    """Names of a data set's axes, slowest first; None where nobody says them."""
    transform = own.get("transform")
    if isinstance(transform, dict) and _names(transform.get("axes"), count):
        return _slowest_first(transform["axes"], transform)
    # in Neuroglancer's, as in N5's own order, x comes first
    return list(reversed(own["axes"])) if _names(own.get("axes"), count) else None


def _names(axes: Any, count: int) -> TypeGuard[list[str]]:
    named = isinstance(axes, list) and len(axes) == count and all(isinstance(a, str) for a in axes)
    return named and all(a.strip() for a in axes)


def _slowest_first(values: Sequence[Any], transform: Attributes) -> list[Any]:
    """OpenOrganelle counts as numpy does unless it says "F"."""
    order = str(transform.get("order", transform.get("ordering", "C"))).upper()
    return list(reversed(values)) if order == "F" else list(values)


def place_of(above: Sequence[tuple[str, Attributes]], where: str, count: int) -> Place | None:
    """Where the voxels of a data set lie.

    Args:
        above: the data set and its groups, nearest first, each with the data set's name below it.
        where: the data set, for messages.
        count: its axes.

    Raises:
        EmgenError: what is said makes no sense.
    """
    own = above[0][1]
    for name, attributes in above:
        if transform := _transform(name, attributes):
            return _by_transform(transform, where, count)
    factors = _factors(above, where, count)
    for _, attributes in above:
        sizes = _pixel_resolution(attributes, count) or _resolution(attributes, count)
        if sizes is not None:
            fine = [size for size in sizes if size is not None]
            first = [(f - 1) / 2 * s for f, s in zip(factors, fine, strict=False)]
            coarse = tuple(
                None if size is None else size * f for size, f in zip(sizes, factors, strict=True)
            )
            notes = (
                [f"{where}: its offset has no unit and is not used"] if own.get("offset") else []
            )
            return Place(
                coarse[::-1],
                tuple(first[::-1]) if len(first) == count else (),
                tuple(notes),
            )
    unused = [name for name in UNUSED if name in own]
    return Place(
        notes=tuple(
            f"{where}: its {name} is not used, because programs differ about the order and the unit"
            for name in unused
        )
    )


def _transform(name: str, attributes: Attributes) -> Attributes | None:
    if not name:
        own = attributes.get("transform")
        return own if isinstance(own, dict) and "scale" in own else None
    scales = attributes.get("multiscales")
    described = scales[0] if isinstance(scales, list) and scales else {}
    datasets = described.get("datasets", []) if isinstance(described, dict) else []
    for dataset in datasets if isinstance(datasets, list) else []:
        if isinstance(dataset, dict) and dataset.get("path") == name:
            transform = dataset.get("transform")
            return transform if isinstance(transform, dict) and "scale" in transform else None
    return None


def _by_transform(transform: Attributes, where: str, count: int) -> Place:
    scale, shift = transform["scale"], transform.get("translate", [0] * count)
    units = transform.get("units")
    if not (_numbers(scale, count) and _numbers(shift, count)):
        raise EmgenError(
            f"{where}: its transform has scale {str(scale)[:60]} and translate {str(shift)[:60]}; expected "
            f"{count} numbers each"
        )
    if not _names(units, count):
        return Place(notes=(f"{where}: its transform has no units and is not used",))
    pairs = [
        (nanometres(s, u), nanometres(t, u)) for s, t, u in zip(scale, shift, units, strict=True)
    ]
    pairs = _slowest_first(pairs, transform)
    return Place(
        tuple(size for size, _ in pairs), tuple(0.0 if at is None else at for _, at in pairs)
    )


def _factors(above: Sequence[tuple[str, Attributes]], where: str, count: int) -> list[float]:
    """How many voxels of the finest level one of this level is long, x first."""
    own = above[0][1].get("downsamplingFactors")
    if _numbers(own, count):
        return [float(f) for f in own]
    for name, attributes in above[1:]:
        scales = attributes.get("scales", attributes.get("downsamplingFactors"))
        level = re.fullmatch(r"s([0-9]{1,3})", name.rpartition("/")[2])
        if level is None or not isinstance(scales, list):
            continue
        if not all(isinstance(each, list) for each in scales):
            continue
        number = int(level[1])
        if number >= len(scales) or not _numbers(scales[number], count):
            raise EmgenError(
                f"{where}: the scales of its group have no {count} numbers for level {number}; expected one entry a level"
            )
        return [float(f) for f in scales[number]]
    return [1.0] * count


def _pixel_resolution(attributes: Attributes, count: int) -> list[float | None] | None:
    stated = attributes.get("pixelResolution")
    if not isinstance(stated, dict) or not _numbers(stated.get("dimensions"), count):
        return None
    return [nanometres(d, str(stated.get("unit"))) for d in stated["dimensions"]]


def _resolution(attributes: Attributes, count: int) -> list[float | None] | None:
    sizes, units = attributes.get("resolution"), attributes.get("units")
    if not _numbers(sizes, count) or not _names(units, count):
        return None
    return [nanometres(s, u) for s, u in zip(sizes, units, strict=True)]


def _numbers(values: Any, count: int) -> TypeGuard[list[float]]:
    return (
        isinstance(values, list)
        and len(values) == count
        and all(type(v) in (int, float) and math.isfinite(v) for v in values)
    )
