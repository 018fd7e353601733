"""HDF5, as ilastik, BigDataViewer, CREMI and funlib, Fiji and others write it."""

from __future__ import annotations

import math
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from emgen.errors import EmgenError
from emgen.geometry import Box
from emgen.volumes.opening import MOST_CHUNK_BYTES
from emgen.volumes.sources.axes import axes_of
from emgen.volumes.sources.foreign import (
    Array,
    Chunks,
    ForeignVolume,
    Read,
    only_dataset,
    plausible,
    size_of,
)
from emgen.volumes.sources.hdf5_attributes import axis_names, bigdataviewer_factors, place_of
from emgen.volumes.sources.hdf5_storage import check_storage

NAME, CONTAINER = "HDF5", True
SUFFIXES = (".h5", ".hdf5", ".hdf")
MAX_LISTED = 20  # data sets that a message names
MAX_LINKS = 16  # one behind the other
IMARIS = "DataSet/ResolutionLevel 0"


def recognises(path: str) -> bool:
    """Whether it is a file that is named like HDF5."""
    return "://" not in path and Path(path).suffix.lower() in SUFFIXES


def open_volume(path: str, dataset: str | None, resources: ExitStack) -> ForeignVolume:
    """Open a data set of an HDF5 file, the only one of three dimensions where none is named."""
    hdf5 = resources.enter_context(h5py.File(path, "r"))
    if IMARIS in hdf5:
        raise EmgenError(
            f"{path} is a file of Imaris, which pads its volumes: export it as TIFF or OME-TIFF"
        )
    name = dataset or only_dataset(_volumes(hdf5), path)
    data = _dataset(path, hdf5, name)
    where = f"{path}:{data.name}"
    _check_type(where, data)
    shape = plausible(data.shape, where)
    axes = axes_of(shape, axis_names(data, where), where)
    chunks = _chunks(where, data)
    place = place_of(data, axes, where)
    volume = ForeignVolume(
        where,
        axes.shape(shape),
        data.dtype,
        size_of(place.sizes) if place.sizes else None,
        axes.read(data),
        origin=place.first,
        notes=place.notes,
        chunks=chunks,
        greatest=_greatest(data),
    )
    if bigdataviewer_factors(data) is not None and data.dtype == np.int16:
        said = f"{where} is BigDataViewer's, whose signed 16-bit numbers are unsigned"
        return replace(
            volume,
            dtype=np.dtype("uint16"),
            fetch=_unsigned(volume.fetch),
            notes=(*volume.notes, said),
        )
    return volume


def _unsigned(read: Read) -> Read:
    def fetch(box: Box) -> Array:
        return read(box).astype(np.int16, copy=False).view(np.uint16)

    return fetch


def _greatest(data: Any) -> int | None:
    """As of `ForeignVolume`, by the HDF5 Image specification."""
    if not np.any(data.attrs.get("IMAGE_WHITE_IS_ZERO", 0)):
        return None
    if data.dtype.kind == "u":
        return int(np.iinfo(data.dtype).max)
    return -1 if data.dtype.kind == "i" else 0


def _volumes(hdf5: Any) -> list[str]:
    """Names of all data sets that may be a volume: three axes of more than one voxel, or three in all."""
    names: list[str] = []

    def collect(name: str, item: Any) -> None:
        if not isinstance(item, h5py.Dataset) or item.shape is None or item.ndim < 3:
            return
        if item.ndim == 3 or sum(n != 1 for n in item.shape) <= 3:
            names.append(name)

    hdf5.visititems(collect)
    return names


def _dataset(path: str, hdf5: Any, name: str) -> Any:
    """The data set of a name, in this file."""
    link = _link(hdf5, name)
    if isinstance(link, h5py.ExternalLink):
        raise EmgenError(
            f"{path}: {name} lies in another file, {link.filename}: import that one, data set {link.path}"
        )
    data = hdf5.get(name)
    if not isinstance(data, h5py.Dataset):
        found = _volumes(hdf5)
        listed = ", ".join(found[:MAX_LISTED]) or "none"
        raise EmgenError(f"{path} has no data set {name}; 3-D data sets in it: {listed}")
    return data


def _link(hdf5: Any, name: str, depth: int = 0) -> Any:
    """The first link to another file on the way to a data set, or None."""
    if depth > MAX_LINKS:
        return None
    at = ""
    for part in name.strip("/").split("/"):
        at = f"{at}/{part}"
        try:
            link = hdf5.get(at, getlink=True)
        except (KeyError, ValueError):
            return None
        if isinstance(link, h5py.ExternalLink):
            return link
        if isinstance(link, h5py.SoftLink):
            place = link.path
            if not place.startswith("/"):
                place = f"{at.rpartition('/')[0]}/{place}"
            if (behind := _link(hdf5, place, depth + 1)) is not None:
                return behind
    return None


def _check_type(where: str, data: Any) -> None:
    """Refuse what is not one number a voxel, before any of it is read: objects may be programs."""
    if data.shape is None or data.dtype.kind not in "iufb" or h5py.check_dtype(enum=data.dtype):
        raise EmgenError(
            f"{where} has entries of type {str(data.dtype)[:60]}; expected one number per voxel"
        )
    if data.attrs.get("IMAGE_SUBCLASS") in (b"IMAGE_TRUECOLOR", b"IMAGE_INDEXED"):
        raise EmgenError(f"{where} is a colour image; expected grey values: convert it to grey")


def _chunks(where: str, data: Any) -> Chunks | None:
    """Which chunks of a data set are there; None where it is in one piece."""
    check_storage(where, data)
    if data.chunks is None:
        return None
    if math.prod(data.chunks) * data.dtype.itemsize > MOST_CHUNK_BYTES:
        raise EmgenError(
            f"{where} has chunks of {data.chunks} voxels, more than {MOST_CHUNK_BYTES} bytes: rewrite it with "
            "smaller ones"
        )
    total = math.prod(-(-n // c) for n, c in zip(data.shape, data.chunks, strict=True))
    missing = max(0, total - int(data.id.get_num_chunks()))
    return Chunks(total, lambda: missing, float(np.ravel(data.fillvalue)[0]))
