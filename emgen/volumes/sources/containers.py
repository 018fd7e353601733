"""MRC, HDF5, N5 and Neuroglancer precomputed."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import h5py
import mrcfile
import numpy as np

from emgen.errors import EmgenError
from emgen.geometry import Box, VoxelSize, zyx
from emgen.volumes.sources.source import (
    Array,
    ForeignVolume,
    nanometres,
    size_of,
    sliced,
    volume_shape,
)
from emgen.volumes.volume import open_tensorstore


def open_mrc(file: Path, stack: ExitStack) -> ForeignVolume:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mrc = stack.enter_context(mrcfile.mmap(file, mode="r"))
    data, header = mrc.data, mrc.header
    if (axes := tuple(int(header[name]) for name in ("mapc", "mapr", "maps"))) not in (
        (1, 2, 3),
        (0, 0, 0),
    ):
        raise EmgenError(
            f"{file} stores its axes in the order {axes}; expected x fastest (1, 2, 3): "
            "reorder it first"
        )
    if int(header.mode) == 0 and _mrc_unsigned(header):
        data = data.view(np.uint8)
    # angstrom; 0 where nobody has set it
    sizes = [float(mrc.voxel_size[axis]) / 10 for axis in ("z", "y", "x")]
    notes = [f"{file}: {warning.message}" for warning in caught]
    if sizes == [0.1, 0.1, 0.1]:
        notes.append(
            f"{file} says its voxels are 0.1 nm, which programs write when they do not know; "
            "--voxel-size sets the size"
        )
    return ForeignVolume(
        str(file),
        volume_shape(data, file),
        data.dtype,
        size_of(sizes),
        sliced(data),
        notes=tuple(notes),
    )


def _mrc_unsigned(header: Any) -> bool:
    """Whether mode 0 holds unsigned bytes: the standard signs them, older IMOD and SerialEM do not.

    IMOD stamps its files and says which: https://bio3d.colorado.edu/imod/doc/mrc_format.txt
    """
    extra = bytes(header.extra2)
    stamp, flags = (int.from_bytes(extra[at : at + 4], "little") for at in (40, 44))
    if stamp == 1146047817:
        return not flags & 1
    return float(header.dmax) > 127


def open_hdf5(file: Path, dataset: str | None, stack: ExitStack) -> ForeignVolume:
    hdf5 = stack.enter_context(h5py.File(file, "r"))
    found: dict[str, h5py.Dataset] = {}

    def collect(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim == 3:
            found[name] = item

    hdf5.visititems(collect)
    data = hdf5.get(dataset or _only(found, str(file)))
    if not isinstance(data, h5py.Dataset):
        raise EmgenError(
            f"{file} has no data set {dataset}; 3-D data sets in it: {', '.join(found) or 'none'}"
        )
    voxel = None
    for name, unit in (("resolution", 1.0), ("element_size_um", 1e3)):
        if voxel is None and name in data.attrs:
            voxel = size_of([float(size) * unit for size in np.ravel(data.attrs[name])])
    return ForeignVolume(
        f"{file}:{data.name}", volume_shape(data, file), data.dtype, voxel, sliced(data)
    )


def open_n5(folder: Path, dataset: str | None) -> ForeignVolume:
    if dataset is None and "dimensions" not in _n5_attributes(folder):
        dataset = _only(_n5_datasets(folder), str(folder))
    path = folder / (dataset or "")
    if "dimensions" not in _n5_attributes(path):
        raise EmgenError(
            f"{folder} has no data set {dataset}; found {', '.join(_n5_datasets(folder)) or 'none'}"
        )
    source = tensorstore_volume("n5", str(path))
    return replace(source, voxel=source.voxel or _n5_voxel(path))


def _n5_datasets(folder: Path) -> list[str]:
    found = []
    for place, folders, _ in os.walk(folder):
        dimensions = _n5_attributes(Path(place)).get("dimensions", [])
        if dimensions:
            # below are its chunks, perhaps millions
            folders.clear()
        if len(dimensions) == 3:
            found.append(Path(place).relative_to(folder).as_posix())
    return sorted(found)


def _n5_attributes(folder: Path) -> dict[str, Any]:
    file = folder / "attributes.json"
    attributes = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    return attributes if isinstance(attributes, dict) else {}


def _n5_voxel(path: Path) -> VoxelSize | None:
    """From `pixelResolution` (x, y, z) of the data set or its group, times `downsamplingFactors`.

    A bare `resolution` is not used: some programs write it z first, some x first.
    """
    own = _n5_attributes(path)
    resolution = own.get("pixelResolution", _n5_attributes(path.parent).get("pixelResolution"))
    if not isinstance(resolution, dict):
        return None
    dimensions, factors = (
        resolution.get("dimensions", []),
        own.get("downsamplingFactors", (1, 1, 1)),
    )
    sizes = [
        nanometres(d * f, str(resolution.get("unit")))
        for d, f in zip(dimensions, factors, strict=True)
    ]
    return size_of(sizes[::-1])


def open_url(url: str, dataset: str | None) -> ForeignVolume:
    kind, _, rest = url.partition("://")
    if kind == "precomputed" and dataset is None:
        return tensorstore_volume("precomputed", rest)
    if kind == "n5":
        return tensorstore_volume("n5", f"{rest.rstrip('/')}/{dataset}" if dataset else rest)
    raise EmgenError(
        f'{url}: put "precomputed://" or "n5://" before the address, to say what is there'
    )


def tensorstore_volume(kind: Literal["n5", "precomputed"], path: str) -> ForeignVolume:
    data, voxel = open_tensorstore(kind, path)
    shape = volume_shape(data, path)
    offset = zyx(data.origin) if len(data.shape) == 3 else (0, 0, 0)

    def read(box: Box) -> Array:
        return np.asarray(sliced(data)(box.shift(offset)))

    return ForeignVolume(path, shape, np.dtype(data.dtype.numpy_dtype), voxel, read, offset=offset)


def _only(found: Sequence[str] | dict[str, Any], where: str) -> str:
    names = list(found)
    if len(names) != 1:
        listed = (
            f"one of {', '.join(names)}: choose with --dataset"
            if names
            else "none: name one with --dataset"
        )
        raise EmgenError(f"{where}: expected one 3-D data set, found {listed}")
    return names[0]
