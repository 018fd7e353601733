"""What the attributes of an HDF5 data set say about its axes, voxel size and place, by the programs that write them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

from emgen.errors import EmgenError
from emgen.volumes.sources.axes import Axes
from emgen.volumes.sources.foreign import nanometres

# attributes with a voxel size, one number an axis, and their unit where no other attribute says it: Fiji's, funlib's,
# CREMI's
SIZES = {"element_size_um": "um", "voxel_size": "nm", "resolution": "nm"}
BIGDATAVIEWER = re.compile(r"/t[0-9]+/(s[0-9]+)/([0-9]+)/cells")
NAMES = {"t": "t", "time": "t", "c": "c", "channel": "c", "z": "z", "y": "y", "x": "x"}


@dataclass(frozen=True)
class Place:
    """Voxel size and centre of the first voxel in nm (z, y, x), and what to know about them."""

    sizes: tuple[float | None, ...] = ()
    first: tuple[float, float, float] = (0.0, 0.0, 0.0)
    notes: tuple[str, ...] = ()


def axis_names(data: Any, where: str) -> list[str] | None:
    """Names of a data set's axes, first the slowest; None where nobody says them.

    Raises:
        EmgenError: two attributes say otherwise.
    """
    said = {}
    if tags := _axistags(data, where):
        said["axistags"] = [str(tag.get("key", "?")) for tag in tags]
    if names := _texts(data.attrs.get("axis_names")):
        # funlib marks channels with ^
        said["axis_names"] = [name.rstrip("^") for name in names]
    labels = [dimension.label for dimension in data.dims]
    if all(label.strip().lower() in NAMES for label in labels):
        said["DIMENSION_LABELS"] = labels
    called = {
        key: [NAMES.get(name.strip().lower(), name.strip().lower()) for name in names]
        for key, names in said.items()
    }
    first = next(iter(called.values()), None)
    if any(names != first for names in called.values()):
        raise EmgenError(
            f"{where}: {' and '.join(called)} name its axes differently ({list(called.values())}); expected one order"
        )
    return first


def place_of(data: Any, axes: Axes, where: str) -> Place:
    """Voxel size and place of a data set.

    Raises:
        EmgenError: they are no numbers, one for each axis.
    """
    notes: list[str] = []
    sizes = _sizes(data, axes, where, notes)
    factors = bigdataviewer_factors(data)
    if factors is not None and not sizes:
        notes.append(
            f"{where} is level {'x'.join(f'{f:g}' for f in factors)} (z, y, x) of a BigDataViewer file, whose voxel size is in "
            "the XML beside it"
        )
    if "MATLAB_class" in data.attrs:
        notes.append(
            f"{where} was saved by MATLAB, which stores axes in reverse: look whether x and y are exchanged"
        )
    return Place(tuple(sizes), _first(data, axes, where, notes), tuple(notes))


def bigdataviewer_factors(data: Any) -> list[float] | None:
    """How many voxels of the finest level one of this level is long (z, y, x); None of other writers' data."""
    named = BIGDATAVIEWER.fullmatch(data.name)
    if named is None:
        return None
    levels = data.file.get(f"{named[1]}/resolutions")
    if not isinstance(levels, h5py.Dataset) or levels.ndim != 2 or int(named[2]) >= levels.shape[0]:
        return None
    return [float(f) for f in levels[int(named[2])][::-1]]


def _sizes(data: Any, axes: Axes, where: str, notes: list[str]) -> list[float | None]:
    if tags := _axistags(data, where):
        lengths = [tag.get("resolution") or 0 for tag in tags]
        units = [str(tag.get("unit") or tag.get("units") or "") for tag in tags]
        pairs = axes.pick(list(zip(lengths, units, strict=True)), (0, ""))
        if all(length for length, _ in pairs):
            sizes = [nanometres(length, unit) for length, unit in pairs]
            if None not in sizes:
                return sizes
            notes.append(f"{where}: the resolution in its axistags has no unit and is not used")
    for name, unit in SIZES.items():
        if name in data.attrs:
            values = _numbers(data, name, axes, where)
            units = _units(data, axes, unit if name != "element_size_um" else None)
            return [
                nanometres(value, each or unit) for value, each in zip(values, units, strict=True)
            ]
    return []


def _first(data: Any, axes: Axes, where: str, notes: list[str]) -> tuple[float, float, float]:
    """Centre of the first voxel: CREMI's and funlib's offset, in the unit of the voxel size."""
    if "offset" not in data.attrs:
        return (0.0, 0.0, 0.0)
    values = _numbers(data, "offset", axes, where, absent=0.0)
    units = _units(data, axes, "nm")
    z, y, x = (nanometres(v, each or "nm") for v, each in zip(values, units, strict=True))
    if z is None or y is None or x is None:
        notes.append(f"{where}: its offset has no unit of length and is not used")
        return (0.0, 0.0, 0.0)
    return (z, y, x)


def _units(data: Any, axes: Axes, unit: str | None) -> list[str]:
    """The unit of each of z, y, x."""
    stated = None
    if unit is not None:
        stated = _texts(data.attrs.get("units", data.attrs.get("unit")))
    if not stated:
        return [""] * 3
    if len(stated) == 1:
        return stated * 3
    if len(stated) == axes.count:
        return [str(each) for each in axes.pick(stated, "")]
    # of the axes in space alone
    return stated if len(stated) == 3 else [""] * 3


def _numbers(
    data: Any, name: str, axes: Axes, where: str, absent: float | None = None
) -> list[float | None]:
    """An attribute with a number for each axis, or for each axis in space: those of z, y, x."""
    try:
        values = [float(value) for value in np.ravel(data.attrs[name])]
    except (TypeError, ValueError):
        values = []
    if len(values) == axes.count:
        picked = axes.pick(values, absent)
    elif len(values) == 3:
        picked = _in_order(values, axes)
    else:
        picked = []
    if not picked or any(v is not None and not math.isfinite(v) for v in picked):
        raise EmgenError(
            f"{where}: its attribute {name} is {str(data.attrs[name])[:60]}; expected one number for each axis"
        )
    return picked


def _in_order(values: Sequence[float], axes: Axes) -> list[Any]:
    """Three values in the order in which z, y and x follow one another in the array, as (z, y, x)."""
    order = sorted(
        range(3),
        key=lambda i: (-1, axes.y, axes.x)[i] if axes.z is None else (axes.z, axes.y, axes.x)[i],
    )
    sizes: list[Any] = [None] * 3
    for value, axis in zip(values, order, strict=True):
        sizes[axis] = value
    return sizes


def _axistags(data: Any, where: str) -> list[dict[str, Any]]:
    """vigra's and ilastik's description of each axis."""
    stated = data.attrs.get("axistags")
    if stated is None:
        return []
    try:
        tags = json.loads(stated)["axes"]
    except (ValueError, KeyError, TypeError, RecursionError):
        tags = None
    if not isinstance(tags, list) or not all(isinstance(tag, dict) for tag in tags):
        raise EmgenError(
            f"{where}: its axistags are damaged ({str(stated)[:60]}); remove the attribute, or export again"
        )
    return tags


def _texts(value: Any) -> list[str]:
    """An attribute of one or several texts."""
    if value is None:
        return []
    if isinstance(value, str | bytes):
        value = [value]
    try:
        items = list(np.ravel(np.asarray(value, dtype=object)))
    except ValueError:
        return []
    return [
        item.decode(errors="replace") if isinstance(item, bytes) else str(item) for item in items
    ]
