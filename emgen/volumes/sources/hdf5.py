"""HDF5."""

from __future__ import annotations

import math
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from emgen.errors import EmgenError
from emgen.volumes.opening import MOST_CHUNK_BYTES
from emgen.volumes.sources.foreign import (
    ForeignVolume,
    only_dataset,
    size_of,
    sliced,
    volume_shape,
)
from emgen.volumes.sources.hdf5_parts import refuse_other_files, refuse_other_places

NAME, CONTAINER = "HDF5", True
SUFFIXES = (".h5", ".hdf5", ".hdf")
# attributes of a data set with its voxel size (z, y, x), and their nanometres per unit: CREMI's, and Fiji's
VOXEL_SIZES = {"resolution": 1.0, "element_size_um": 1e3}


def recognises(path: str) -> bool:
    """Whether it is a file that is named like HDF5."""
    return "://" not in path and Path(path).suffix.lower() in SUFFIXES


def open_volume(path: str, dataset: str | None, resources: ExitStack) -> ForeignVolume:
    """Open a data set of an HDF5 file, the only one of three dimensions where none is named."""
    hdf5 = resources.enter_context(h5py.File(path, "r"))
    volumes: list[str] = []

    def collect(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim == 3:
            volumes.append(name)

    hdf5.visititems(collect)
    data = hdf5.get(dataset or only_dataset(volumes, path))
    if not isinstance(data, h5py.Dataset):
        raise EmgenError(
            f"{path} has no data set {dataset}; 3-D data sets in it: {', '.join(volumes) or 'none'}"
        )
    refuse_other_files(hdf5, data.name if dataset is None else dataset, path)
    refuse_other_places(data)
    chunk = math.prod(data.chunks or (0,)) * data.dtype.itemsize
    if chunk > MOST_CHUNK_BYTES:
        raise EmgenError(
            f"{path}:{data.name} is stored in chunks of {data.chunks} voxels, {chunk / 1e9:.3g} GB each, which must be held at "
            f"once; expected at most {MOST_CHUNK_BYTES / 1e9:.3g} GB: store it in smaller chunks (h5repack -l CHUNK=64x64x64)"
        )
    voxel = None
    for name, unit in VOXEL_SIZES.items():
        if voxel is None and name in data.attrs:
            voxel = size_of([float(size) * unit for size in np.ravel(data.attrs[name])])
    return ForeignVolume(
        f"{path}:{data.name}", volume_shape(data, path), data.dtype, voxel, sliced(data)
    )
