"""Volumes on disk as OME-Zarr.

A `Volume` is one level of an OME-Zarr image. It is read by any box and written by whole write units
(shards, or chunks where there are none): two processes that write parts of one unit would lose
voxels without an error, so `Volume.write` refuses such a box.
"""

from __future__ import annotations

import itertools
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
from emgen.volumes.opening import Mode, open_level
from emgen.volumes.stores import Missing, MissingChunk

Array = npt.NDArray[Any]

MOST_TRIED = 500  # files that are looked at to name the one that cannot be read
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
        array: of the level.
        places: where z, y and x stand among the array's axes; the others have one entry.
        label: the voxels are object numbers.
    """

    path: str
    level: str
    voxel: VoxelSize
    translation: tuple[float, float, float]
    levels: tuple[str, ...]
    attributes: dict[str, Any]
    array: zarr.Array[Any]
    places: Zyx = (0, 1, 2)
    label: bool = False

    @property
    def shape(self) -> Zyx:
        return self._of(self.array.shape)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(self.array.dtype)

    @property
    def chunk(self) -> Zyx:
        """Voxels that are decoded as a whole."""
        return self._of(self.array.chunks)

    @property
    def write_unit(self) -> Zyx:
        """The write unit in voxels: the shard, or the chunk of an array without shards."""
        return self._of(self.array.shards or self.array.chunks)

    @classmethod
    def open(
        cls,
        path: str | Path,
        level: int = 0,
        mode: Mode = "r",
        voxel: VoxelSize | None = None,
        missing: Missing = "blank",
    ) -> Volume:
        """Open a level of an OME-Zarr image.

        Args:
            path: folder or URL of the image group, or of what bioformats2raw wrote with one image in it.
            level: 0 is the finest.
            mode: "r", or "r+" to write.
            voxel: size of the finest level's voxels in nm, if it is not what the metadata say.
            missing: what chunks mean that are not there: "blank", that their voxels have the fill value, or "refuse",
                that the volume is damaged; they are met when they are read.

        Raises:
            EmgenError: nothing there, not an OME-Zarr image of versions 0.1 to 0.5, damaged, of an unknown voxel size,
                or not three-dimensional.
        """
        opened = open_level(str(path), level, mode, voxel, missing)
        described = opened.image.levels[level]
        return cls(
            path=opened.where,
            level=described.path,
            voxel=described.voxel,
            translation=described.translation,
            levels=tuple(each.path for each in opened.image.levels),
            attributes=opened.attributes,
            array=opened.array,
            places=zyx([opened.image.axes.index(axis) for axis in "zyx"]),
            label=opened.image.label,
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
        try:
            return self._voxels(box)
        except EmgenError:
            raise
        except MissingChunk as error:
            raise EmgenError(
                f"{self.path}, level {self.level}: {error}, in voxels {box.start} to {box.stop} (z, y, x). A copy may have "
                "broken off: copy the volume again. If what is missing is blank, set `input: {missing_chunks: blank}`"
            ) from None
        except PermissionError as error:
            raise EmgenError(
                f"{self.path}, level {self.level}: you have no right to read {error.filename}; ask whose it is for it"
            ) from None
        except Exception as error:
            raise EmgenError(
                f"{self.path}, level {self.level}: voxels {box.start} to {box.stop} cannot be read: "
                f"{self._unreadable(box)} ({type(error).__name__}: {error}); it may be damaged or incomplete: copy it again"
            ) from error

    def _voxels(self, box: Box) -> Array:
        wanted: list[int | slice] = [0] * self.array.ndim
        for place, part in zip(self.places, box.slices, strict=True):
            wanted[place] = part
        # axes as the array has them; the i-th of z, y, x is the ranks[i]-th of those that are left
        ranks = np.argsort(np.argsort(self.places))
        return np.ascontiguousarray(
            np.asarray(self.array[cast(Any, tuple(wanted))]).transpose(ranks)
        )

    def _unreadable(self, box: Box) -> str:
        """Name of the first file that keeps a box from being read."""
        ranges = [
            range(a // u, -(-b // u))
            for a, b, u in zip(box.start, box.stop, self.write_unit, strict=True)
        ]
        for numbers in itertools.islice(itertools.product(*ranges), MOST_TRIED):
            start = zyx([n * u for n, u in zip(numbers, self.write_unit, strict=True)])
            part = Box(start, zyx([a + u for a, u in zip(start, self.write_unit, strict=True)]))
            try:
                self._voxels(part.intersect(box))
            except Exception:
                coordinates = [0] * self.array.ndim
                for place, number in zip(self.places, numbers, strict=True):
                    coordinates[place] = number
                return f"{self.level}/{self.array.metadata.encode_chunk_key(tuple(coordinates))}"
        return "one of its files"

    def absent(self, box: Box) -> npt.NDArray[np.bool_] | None:
        """None: the file says of no voxel that it was not measured."""
        return None

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

    def _of(self, numbers: Sequence[int]) -> Zyx:
        """Of one number for each axis of the array, those of z, y and x."""
        return zyx([numbers[place] for place in self.places])

    def _check(self, box: Box) -> None:
        if not Box.whole(self.shape).contains(box):
            raise ValueError(
                f"voxels {box.start} to {box.stop} are outside the volume {self.shape}"
            )


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
