"""Volumes on disk as OME-Zarr.

A `Volume` is one level of an OME-Zarr image. It is read by any box and written by whole write units
(shards, or chunks where there are none): two processes that write parts of one unit would lose
voxels without an error, so `Volume.write` refuses such a box.
"""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import numpy.typing as npt
import zarr
from numcodecs import Blosc
from zarr.codecs import BloscCodec

from emgen.errors import EmgenError
from emgen.geometry import Box, VoxelSize, Zyx, zyx
from emgen.volumes import omezarr

Array = npt.NDArray[Any]
Ngff = Literal["0.4", "0.5"]


@dataclass(frozen=True)
class Volume:
    """One level of a 3-D OME-Zarr image.

    Attributes:
        path: the image group, a folder or a URL.
        level: path of the level in the group ("0" is the finest of what emgen writes).
        voxel: size of this level's voxels in nm.
        translation: centre of its first voxel in nm (z, y, x).
        levels: paths of all levels, finest first.
        attributes: all attributes of the image group.
    """

    path: str
    level: str
    voxel: VoxelSize
    translation: tuple[float, float, float]
    levels: tuple[str, ...]
    attributes: dict[str, Any]
    array: zarr.Array[Any]

    @property
    def shape(self) -> Zyx:
        return zyx(self.array.shape[-3:])

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.array.dtype)

    @property
    def chunk(self) -> Zyx:
        """Voxels that are decoded as a whole."""
        return zyx(self.array.chunks[-3:])

    @property
    def write_unit(self) -> Zyx:
        """The write unit in voxels: the shard, or the chunk of an array without shards."""
        return zyx((self.array.shards or self.array.chunks)[-3:])

    @classmethod
    def open(cls, path: str | Path, level: int = 0, mode: Literal["r", "r+"] = "r") -> Volume:
        """Open a level of an OME-Zarr 0.4 or 0.5 image.

        Raises:
            EmgenError: nothing there, not an OME-Zarr image, or not three-dimensional.
        """
        where = str(path)
        group = _open_group(where, mode)
        attributes = dict(group.attrs)
        try:
            image = omezarr.read(attributes, where)
            described = image.levels[level]
            array = cast("zarr.Array[Any]", group[described.path])
        except ValueError as error:
            raise EmgenError(str(error)) from None
        except IndexError:
            raise EmgenError(f"{where} has no level {level}; expected one of its levels") from None
        except KeyError:
            raise EmgenError(
                f"{where}: the metadata names level {described.path!r}, but no such array is there; "
                "the copy may be incomplete"
            ) from None
        shape = array.shape
        if len(shape) != len(image.axes) or any(n != 1 for n in shape[: image.leading]):
            raise EmgenError(
                f"{where} has shape {shape} along axes {', '.join(image.axes)}; expected one 3-D image "
                "(z, y, x). Export the channel or time point you mean to a volume of its own"
            )
        return cls(
            path=where,
            level=described.path,
            voxel=described.voxel,
            translation=described.translation,
            levels=tuple(each.path for each in image.levels),
            attributes=attributes,
            array=array,
        )

    @classmethod
    def create(
        cls,
        path: str | Path,
        shape: Sequence[int],
        dtype: npt.DTypeLike,
        voxel: VoxelSize,
        *,
        ngff: Ngff = "0.5",
        chunk: Sequence[int] = (64, 64, 64),
        shard: Sequence[int] = (128, 128, 128),
        factors: Sequence[Zyx] = ((1, 1, 1),),
        origin: tuple[float, float, float] = (0.0, 0.0, 0.0),
        window: tuple[float, float, float, float] | None = None,
        attributes: dict[str, Any] | None = None,
        label: bool = False,
    ) -> Volume:
        """Create an empty image with all its levels and return the finest.

        Args:
            path: must not exist.
            shape: voxels of level 0 (z, y, x).
            dtype: of the stored voxels.
            voxel: size of level 0 voxels in nm.
            ngff: "0.5" (Zarr 3, sharded) or "0.4" (Zarr 2, `shard` is not used).
            chunk: voxels of a chunk.
            shard: voxels of a shard, multiples of the chunk.
            factors: of every level against level 0; the first is (1, 1, 1).
            origin: centre of the first voxel of level 0 in nm.
            window: display range (min, start, end, max) in stored units.
            attributes: further group attributes, for instance under "emgen".
            label: a label image.

        Raises:
            EmgenError: something is at `path` already, or the disk refuses.
        """
        where = Path(path)
        if where.exists():
            raise EmgenError(
                f"{where} exists already; emgen never overwrites a volume: remove it or choose another name"
            )
        levels = [omezarr.level_of(str(i), voxel, f, origin) for i, f in enumerate(factors)]
        name = where.name.removesuffix(".zarr").removesuffix(".ome")
        metadata = omezarr.write(name, levels, ngff, window, label) | (attributes or {})
        try:
            with _whole_or_not_at_all(where) as partial:
                group = zarr.open_group(
                    str(partial),
                    mode="w",
                    zarr_format=3 if ngff == "0.5" else 2,
                    attributes=metadata,
                )
                for level, factor in zip(levels, factors, strict=True):
                    size = [-(-n // f) for n, f in zip(shape, factor, strict=True)]
                    _create_array(group, level.path, size, np.dtype(dtype), ngff, chunk, shard)
        except OSError as error:
            raise EmgenError(f"{where} cannot be created: {error.strerror or error}") from error
        return cls.open(where, mode="r+")

    def read(self, box: Box) -> Array:
        """The voxels of a box inside the volume, shape `box.shape`.

        Raises:
            EmgenError: a chunk cannot be read or decoded.
        """
        self._check(box)
        leading = (0,) * (self.array.ndim - 3)
        try:
            return np.asarray(self.array[cast(Any, (*leading, *box.slices))])
        except Exception as error:
            raise EmgenError(
                f"{self.path}, level {self.level}: voxels {box.start} to {box.stop} cannot be read "
                f"({type(error).__name__}: {error}); the file may be damaged or incomplete"
            ) from error

    def write(self, box: Box, voxels: Array) -> None:
        """Write a box of whole write units (the last ones may be cut by the volume's end).

        Raises:
            ValueError: the box cuts a write unit, or the voxels have another shape.
        """
        self._check(box)
        if voxels.shape != box.shape:
            raise ValueError(f"expected voxels of shape {box.shape}, found {voxels.shape}")
        starts_whole = all(a % u == 0 for a, u in zip(box.start, self.write_unit, strict=True))
        ends_whole = all(
            b % u == 0 or b == n
            for b, u, n in zip(box.stop, self.write_unit, self.shape, strict=True)
        )
        if not (starts_whole and ends_whole):
            raise ValueError(
                f"voxels {box.start} to {box.stop} cut a write unit of {self.write_unit} voxels: "
                "another process may own the rest of it, and one of the two would lose its voxels"
            )
        self.array[box.slices] = voxels

    def _check(self, box: Box) -> None:
        if not Box.whole(self.shape).contains(box):
            raise ValueError(
                f"voxels {box.start} to {box.stop} are outside the volume {self.shape}"
            )


def _open_group(where: str, mode: Literal["r", "r+"]) -> zarr.Group:
    remote = "://" in where
    if not remote and not Path(where).exists():
        raise EmgenError(
            f"there is no volume at {where}; expected an OME-Zarr image (a folder or a URL)"
        )
    try:
        return zarr.open_group(where, mode=mode)
    except json.JSONDecodeError as error:
        raise EmgenError(f"{where}: the Zarr metadata is damaged ({error})") from None
    except Exception as error:
        raise EmgenError(
            f"{where} cannot be opened as OME-Zarr ({type(error).__name__}: {error}); "
            "other formats: `emgen import` makes an OME-Zarr of TIFF, MRC, HDF5, N5 and precomputed"
        ) from None


@contextmanager
def _whole_or_not_at_all(where: Path) -> Iterator[Path]:
    """A hidden folder beside a path, renamed to it at the end, or removed where that is not reached."""
    partial = where.with_name(f".{where.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        yield partial
        partial.rename(where)
    except OSError:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def blosc() -> BloscCodec:
    """The compression of all voxels: zstd without shuffle."""
    # zstd 1 without shuffle: as small as level 3 on EM and three times as fast; shuffling makes 8-bit EM larger
    return BloscCodec(cname="zstd", clevel=1, shuffle="noshuffle")


def _create_array(
    group: zarr.Group,
    name: str,
    shape: Sequence[int],
    dtype: np.dtype[Any],
    ngff: Ngff,
    chunk: Sequence[int],
    shard: Sequence[int],
) -> None:
    common: dict[str, Any] = {
        "shape": tuple(shape),
        "chunks": tuple(chunk),
        "dtype": dtype,
        "fill_value": 0,
    }
    if ngff == "0.5":
        group.create_array(
            name,
            **common,
            shards=tuple(shard),
            compressors=blosc(),
            dimension_names=["z", "y", "x"],
        )
    else:
        compressor = Blosc(cname="zstd", clevel=1, shuffle=Blosc.NOSHUFFLE)
        separator = {"name": "v2", "separator": "/"}
        group.create_array(
            name, **common, compressors=compressor, chunk_key_encoding=cast(Any, separator)
        )


def bytes_of(shape: Sequence[int], dtype: npt.DTypeLike) -> int:
    """Uncompressed bytes of an array."""
    return math.prod(shape) * np.dtype(dtype).itemsize
