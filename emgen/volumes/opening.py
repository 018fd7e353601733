"""Opening OME-Zarr images: groups, attributes and arrays, and every fault of theirs in one sentence."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import zarr
from zarr.errors import NodeNotFoundError
from zarr.storage import LocalStore

from emgen.errors import EmgenError
from emgen.geometry import VoxelSize
from emgen.volumes import omezarr_reader
from emgen.volumes.fields import shortened
from emgen.volumes.guarded import guarded
from emgen.volumes.omezarr import Image, Json
from emgen.volumes.stores import RIGHTS, CheckedStore, Missing

Mode = Literal["r", "r+"]
FORMATS: tuple[Literal[3], Literal[2]] = (3, 2)  # of Zarr, the newer first

# What one array may have. Larger numbers are damage or an attack: memory is asked for by them before a voxel is read.
LONGEST_AXIS = 2**24
MOST_VOXELS = 2**55
MOST_CHUNK_BYTES = 2**31  # uncompressed, of a chunk; of a shard, chunks are read by themselves
MOST_CHUNKS_IN_SHARD = 2**20  # their index has 16 MB then, and is read for each of them
REAL_NUMBERS = "iuf"  # kinds of numpy types that are one real number a voxel


@dataclass(frozen=True)
class Opened:
    """A level of an image, open.

    Attributes:
        where: path or URL of the image group; below the given one where that was the root of a conversion.
        image: what its metadata say.
        attributes: all attributes of the group.
        array: of the level.
    """

    where: str
    image: Image
    attributes: Json
    array: zarr.Array[Any]


def open_level(
    where: str,
    level: int,
    mode: Mode,
    voxel: VoxelSize | None = None,
    missing: Missing = "blank",
) -> Opened:
    """Open a level of an OME-Zarr image.

    Args:
        where: folder or URL of the image group, or of the root of a conversion that holds one image.
        level: 0 is the finest.
        mode: "r", or "r+" to write.
        voxel: size of the finest voxels in nm, if it is not what the metadata say.
        missing: what chunks mean that are not there: their fill value, or a fault.

    Raises:
        EmgenError: nothing there, no OME-Zarr image of versions 0.1 to 0.5, damaged, or not one 3-D volume.
    """
    if "://" not in where and not Path(where).exists():
        seen = "" if Path(where).is_absolute() else f", as seen from {Path.cwd()}"
        raise EmgenError(
            f"there is no volume at {where}{seen}; expected an OME-Zarr image (a folder or a URL)"
        )
    with _one_sentence(where):
        groups = _groups(where, mode, missing)
        below = _only_series(groups, where)
        if below is not None:
            where = f"{where.rstrip('/')}/{below}"
            groups = _groups(where, mode, missing)
        group, image = _described(groups, where, voxel)
        if level >= len(image.levels):
            raise EmgenError(f"{where} has no level {level}; expected one of its levels")
        path = image.levels[level].path
        array = _array(group, path, where)
        image = omezarr_reader.fitted(image, array.ndim)
        _refuse_two_arrays(groups, group, array, where)
        _refuse_unreadable(array, image.axes, f"{where}, level {path}")
        if mode == "r+":
            # blank chunks are written too: a chunk that is not there was lost
            array = array.with_config({"write_empty_chunks": True})
        else:
            array = guarded(array, missing, f"{where}, level {path}")
    return Opened(where, image, dict(group.attrs), array)


@contextmanager
def _one_sentence(where: str) -> Iterator[None]:
    """Whatever zarr raises for damaged metadata becomes one message."""
    try:
        yield
    except EmgenError:
        raise
    except PermissionError as error:
        raise EmgenError(
            f"{where}: you have no right to read {error.filename}; ask whose it is for it"
        ) from None
    except json.JSONDecodeError as error:
        raise EmgenError(f"{where}: the Zarr metadata is damaged ({error})") from None
    except Exception as error:
        reason = " ".join(str(error).split())[:300]
        raise EmgenError(
            f"{where} cannot be opened as OME-Zarr ({type(error).__name__}: {reason}); the copy may be damaged or "
            "incomplete. Of TIFF, MRC, HDF5, N5 and precomputed, `emgen import` makes an OME-Zarr"
        ) from None


def _groups(where: str, mode: Mode, missing: Missing) -> list[zarr.Group]:
    """The group by its metadata of Zarr 3, of Zarr 2, or both."""
    groups = []
    store = _store(where, missing) if mode == "r" else where
    for zarr_format in FORMATS:
        # consolidated metadata are a copy, which may be older than what it was made of
        with suppress(NodeNotFoundError):
            groups.append(
                zarr.open_group(store, mode=mode, zarr_format=zarr_format, use_consolidated=False)
            )
    if not groups and isinstance(store, CheckedStore) and store.denied:
        raise EmgenError(
            f"{where} cannot be opened: {', '.join(store.denied)} may not be read: {RIGHTS}"
        )
    if not groups and _is_array(store):
        raise EmgenError(
            f"{where} is one array, perhaps a level of an image; name the folder above it"
        )
    if not groups:
        raise EmgenError(
            f"{where} cannot be opened as OME-Zarr: it has no Zarr metadata. Of TIFF, MRC, HDF5, N5 and precomputed, "
            "`emgen import` makes an OME-Zarr"
        )
    return groups


def _store(where: str, missing: Missing) -> CheckedStore:
    if "://" not in where:
        return CheckedStore(LocalStore(where, read_only=True), missing)
    # the libraries for the network take half a second
    from emgen.volumes.remote import remote_store

    return remote_store(where, missing)


def _is_array(where: CheckedStore | str) -> bool:
    for zarr_format in FORMATS:
        with suppress(NodeNotFoundError):
            zarr.open_array(where, mode="r", zarr_format=zarr_format)
            return True
    return False


def _only_series(groups: Sequence[zarr.Group], where: str) -> str | None:
    """Path of the only image below the root of what bioformats2raw wrote; None for any other group."""
    for group in groups:
        if omezarr_reader.series(dict(group.attrs), {}, where) is None:
            continue
        listed = group.get("OME")
        attributes = dict(listed.attrs) if isinstance(listed, zarr.Group) else {}
        names = omezarr_reader.series(dict(group.attrs), attributes, where)
        if names == []:
            # the list may be left out: images are then numbered from 0
            names = [str(k) for k in range(2) if str(k) in group]
        if names is not None and len(names) != 1:
            some = ", ".join(f"{where}/{name}" for name in names[:5])
            raise EmgenError(
                f"{where} holds {len(names)} images; expected one: name the one that you mean, such as {some}"
                if names
                else f"{where} should hold images that bioformats2raw numbered from 0, and holds none"
            )
        if names:
            return names[0]
    return None


def _described(
    groups: Sequence[zarr.Group], where: str, voxel: VoxelSize | None
) -> tuple[zarr.Group, Image]:
    """The group that describes an image, and the image."""
    images = []
    for group in groups:
        attributes = dict(group.attrs)
        if len(groups) == 1 or "ome" in attributes or "multiscales" in attributes:
            images.append((group, omezarr_reader.read(attributes, where, voxel)))
    if not images:
        raise EmgenError(f"{where} has no OME-Zarr `multiscales`: it is not an OME-Zarr image")
    (group, image), *others = images
    for _, other in others:
        if replace(other, version=image.version) != image:
            raise EmgenError(
                f"{where} has metadata of Zarr 2 and of Zarr 3 that describe different images ({image} and {other}); "
                "remove those that are out of date"
            )
    return group, image


def _array(group: zarr.Group, path: str, where: str) -> zarr.Array[Any]:
    try:
        array = group[path]
    except KeyError:
        raise EmgenError(
            f"{where}: the metadata names level {shortened(path)}, but no such array is there; the copy may be "
            "incomplete"
        ) from None
    if not isinstance(array, zarr.Array):
        raise EmgenError(f"{where}: level {shortened(path)} is a group; expected an array")
    return array


def _refuse_two_arrays(
    groups: Sequence[zarr.Group], chosen: zarr.Group, array: zarr.Array[Any], where: str
) -> None:
    """An array may have metadata of both formats if they say the same."""
    for group in groups:
        other = (
            group.get(array.path.removeprefix(group.path).lstrip("/"))
            if group is not chosen
            else None
        )
        if not isinstance(other, zarr.Array):
            continue
        first = (0,) * array.ndim
        if (array.shape, array.chunks, array.dtype, array.metadata.encode_chunk_key(first)) != (
            other.shape,
            other.chunks,
            other.dtype,
            other.metadata.encode_chunk_key((0,) * other.ndim),
        ):
            raise EmgenError(
                f"{where}, level {array.basename} has metadata of Zarr 2 and of Zarr 3 that describe different arrays; "
                "remove those that are out of date"
            )


def _refuse_unreadable(array: zarr.Array[Any], axes: Sequence[str], where: str) -> None:
    shape = array.shape
    if len(shape) != len(axes):
        raise EmgenError(
            f"{where} has shape {shape}, but its metadata names the axes {', '.join(axes)}; expected one axis each"
        )
    long = [f"{n} along {a}" for n, a in zip(shape, axes, strict=True) if n != 1 and a not in "zyx"]
    if long:
        raise EmgenError(
            f"{where} has shape {shape} along axes {', '.join(axes)}; expected one 3-D image (z, y, x), found "
            f"{', '.join(long)}. Export the channel or time point you mean to a volume of its own"
        )
    names = _dimension_names(array)
    if names is not None and sorted(names) == sorted(axes) and list(names) != list(axes):
        raise EmgenError(
            f"{where}: the image has axes {', '.join(axes)}, its array {', '.join(names)}; expected the same order: "
            "correct the one that is wrong"
        )
    if array.dtype.kind not in REAL_NUMBERS:
        raise EmgenError(
            f"{where} has voxels of type {shortened(str(array.dtype))}; expected an integer or floating-point type"
        )
    _refuse_absurd_numbers(array, where)


def _dimension_names(array: zarr.Array[Any]) -> list[str] | None:
    """Names of an array's own axes, None where it has none: of Zarr 3, or by xarray's convention for Zarr 2."""
    names = getattr(array.metadata, "dimension_names", None) or array.attrs.get("_ARRAY_DIMENSIONS")
    if isinstance(names, list | tuple) and all(isinstance(name, str) for name in names):
        return [str(name).lower() for name in names]
    return None


def _refuse_absurd_numbers(array: zarr.Array[Any], where: str) -> None:
    itemsize = array.dtype.itemsize
    shards = array.shards
    limits = [
        ("voxels along an axis", max(array.shape, default=0), LONGEST_AXIS),
        ("voxels", math.prod(array.shape), MOST_VOXELS),
        ("bytes of a chunk", math.prod(array.chunks) * itemsize, MOST_CHUNK_BYTES),
    ]
    if shards:
        inner = math.prod(s // c for s, c in zip(shards, array.chunks, strict=True))
        limits.append(("chunks in a shard", inner, MOST_CHUNKS_IN_SHARD))
    for what, found, most in limits:
        if found > most:
            raise EmgenError(
                f"{where} has {found} {what}; emgen reads at most {most}: the metadata may be damaged"
            )
    if min(*array.chunks, *(shards or (1,))) < 1:
        raise EmgenError(f"{where} has chunks of shape {array.chunks}; expected at least one voxel")
