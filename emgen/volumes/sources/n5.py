"""N5: https://github.com/saalfeldlab/n5"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from emgen.errors import EmgenError
from emgen.geometry import Zyx, zyx
from emgen.volumes.opening import MOST_CHUNK_BYTES
from emgen.volumes.sources.axes import Axes, axes_of
from emgen.volumes.sources.chunks import Files, Folder, Layout, chunked, files_at
from emgen.volumes.sources.foreign import Array, ForeignVolume, only_dataset, plausible, size_of
from emgen.volumes.sources.n5_blocks import Block
from emgen.volumes.sources.n5_metadata import Place, axis_names, place_of
from emgen.volumes.sources.packed import UNPACK

NAME, CONTAINER = "N5", True
SCHEME = "n5://"
DTYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64")  # fmt: skip
ABOVE = 3  # groups above a data set that may describe it
MAX_ATTRIBUTES = 2**24  # bytes


def recognises(path: str) -> bool:
    """Whether it is a URL that says so, a folder that is named like N5, or one with `attributes.json`."""
    if "://" in path:
        return path.startswith(SCHEME)
    return Path(path).suffix.lower() == ".n5" or (Path(path) / "attributes.json").exists()


def open_volume(path: str, dataset: str | None, resources: ExitStack) -> ForeignVolume:
    """Open a data set of a container, the only one of three dimensions where none is named."""
    address = path.removeprefix(SCHEME).removeprefix("file://").rstrip("/")
    files, inside = files_at(address), (dataset or "").strip("/")
    if ".." in inside.split("/"):
        raise EmgenError(f"--dataset {inside} leads out of {address}; expected a path inside it")
    if isinstance(files, Folder) and not inside and "dimensions" not in _attributes(files, ""):
        inside = only_dataset(_datasets(Path(address)), address)
    own = _attributes(files, inside)
    if "dimensions" not in own:
        found = _datasets(Path(address)) if isinstance(files, Folder) else []
        raise EmgenError(f"{address} has no data set {inside}; found {', '.join(found) or 'none'}")
    where = f"{address}/{inside}" if inside else address
    # x is the first dimension of N5; arrays in memory have it last
    shape = plausible(_whole(own["dimensions"], "dimensions", where), where)[::-1]
    blocks = _whole(own.get("blockSize"), "blockSize", where)[::-1]
    if len(blocks) != len(shape) or 0 in shape:
        raise EmgenError(
            f"{where}: blocks of {blocks} voxels do not fit {shape} voxels (slowest axis first)"
        )
    if math.prod(blocks) * 8 > MOST_CHUNK_BYTES or 0 in blocks:
        raise EmgenError(
            f"{where} has blocks of {blocks} voxels; expected 1 voxel to {MOST_CHUNK_BYTES} bytes"
        )
    axes = axes_of(shape, axis_names(own, len(shape)), where)
    block = Block(where, axes, _dtype(own, where), blocks, *_compression(own, where))
    layout = Layout(where, axes.shape(shape), axes.shape(blocks), np.dtype(own["dataType"]))

    def load(index: Zyx) -> Array | None:
        name = _name(index, axes)
        data = files.read(f"{inside}/{name}" if inside else name)
        return None if data is None else block.voxels(data, layout.box(index).shape, name)

    there = (lambda: _there(Path(where), axes, layout.grid)) if isinstance(files, Folder) else None
    read, chunks = chunked(layout, load, there)
    place = place_of(_above(files, inside), where, len(shape)) or Place()
    return ForeignVolume(
        where,
        layout.shape,
        layout.dtype,
        size_of(axes.pick(place.sizes)) if place.sizes else None,
        read,
        origin=_three(axes.pick(place.first, 0.0)) if place.first else (0, 0, 0),
        notes=place.notes,
        chunks=chunks,
    )


def _three(values: Sequence[float]) -> tuple[float, float, float]:
    z, y, x = (float(v) for v in values)
    return z, y, x


def _datasets(folder: Path) -> list[str]:
    """Paths below a folder of all data sets of three dimensions or more."""
    paths = []
    for place, folders, _ in os.walk(folder):
        dimensions = _attributes(Folder(place), "").get("dimensions", [])
        if dimensions:
            # below are its chunks, perhaps millions
            folders.clear()
        if isinstance(dimensions, list) and len(dimensions) >= 3:
            paths.append(Path(place).relative_to(folder).as_posix())
    return sorted(paths)


def _attributes(files: Files, inside: str) -> dict[str, Any]:
    name = f"{inside}/attributes.json" if inside else "attributes.json"
    data = files.read(name) or b"{}"
    try:
        attributes = json.loads(data[:MAX_ATTRIBUTES])
    except (ValueError, RecursionError) as error:
        raise EmgenError(f"{files.where}/{name} is no JSON ({error}); it may be damaged") from None
    return attributes if isinstance(attributes, dict) else {}


def _above(files: Files, inside: str) -> list[tuple[str, dict[str, Any]]]:
    """A data set and the groups above it within the container, nearest first: the name below each, its attributes."""
    parts = [part for part in inside.split("/") if part]
    if not parts and isinstance(files, Folder):
        # the data set itself was given: its groups are the folders above
        folder = Path(files.where).resolve()
        steps = [folder, *folder.parents][: ABOVE + 1]
        return [
            (
                "" if step == folder else folder.relative_to(step).as_posix(),
                _attributes(Folder(str(step)), ""),
            )
            for step in steps
        ]
    found = []
    for count in range(len(parts), max(-1, len(parts) - ABOVE - 1), -1):
        attributes = _attributes(files, "/".join(parts[:count]))
        found.append(("/".join(parts[count:]), attributes))
    return found


def _whole(values: Any, name: str, where: str) -> tuple[int, ...]:
    if not isinstance(values, list) or not all(type(n) is int and n >= 0 for n in values):
        raise EmgenError(f"{where}: its {name} are {str(values)[:60]}; expected whole numbers")
    return tuple(values)


def _dtype(attributes: dict[str, Any], where: str) -> np.dtype[Any]:
    """The type of the voxels in the file, whose bytes lie in the order of networks."""
    name = attributes.get("dataType")
    if name not in DTYPES:
        raise EmgenError(
            f"{where} has voxels of type {str(name)[:40]}; expected one of {', '.join(DTYPES)}"
        )
    dtype: np.dtype[Any] = np.dtype(name).newbyteorder(">")
    return dtype


def _compression(attributes: dict[str, Any], where: str) -> tuple[str]:
    # the first version had the bare name under another key
    stated = attributes.get("compression", attributes.get("compressionType", "raw"))
    kind = stated.get("type") if isinstance(stated, dict) else stated
    if kind not in UNPACK:
        raise EmgenError(
            f"{where} is compressed with {str(kind)[:40]}; emgen reads {', '.join(UNPACK)}: "
            "save it with one of these"
        )
    return (str(kind),)


def _name(index: Zyx, axes: Axes) -> str:
    """The path of a block: its number along each dimension, x first."""
    numbers = [0] * axes.count
    for axis, i in zip((axes.z, axes.y, axes.x), index, strict=True):
        if axis is not None:
            numbers[axis] = i
    return "/".join(str(i) for i in reversed(numbers))


def _there(folder: Path, axes: Axes, grid: Zyx) -> Iterator[Zyx]:
    """The blocks in a folder."""

    def walk(place: Path, numbers: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        if len(numbers) == axes.count:
            yield numbers[::-1]
            return
        with os.scandir(place) as entries:
            names = [e.name for e in entries if e.name.isascii() and e.name.isdecimal()]
        for name in names:
            deeper = len(numbers) + 1 < axes.count
            if not deeper or (place / name).is_dir():
                yield from walk(place / name, (*numbers, int(name)))

    for numbers in walk(folder, ()):
        index = zyx(axes.pick(numbers, 0))
        others = sum(numbers) - sum(index)
        if others == 0 and all(i < n for i, n in zip(index, grid, strict=True)):
            yield index
