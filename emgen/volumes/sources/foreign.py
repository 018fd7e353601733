"""What every other format is read as: a `ForeignVolume`, of which boxes are read when they are needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from emgen.errors import EmgenError
from emgen.geometry import Box, VoxelSize, Zyx
from emgen.volumes import units
from emgen.volumes.opening import LONGEST_AXIS, MOST_VOXELS

Array = npt.NDArray[Any]
Read = Callable[[Box], Array]


@dataclass(frozen=True)
class Chunks:
    """Which chunks of a volume are there.

    Attributes:
        total: chunks that it consists of.
        missing: how many are known not to be there: all of them on a disk, those met so far elsewhere.
        fill: the value of voxels in missing chunks.
    """

    total: int
    missing: Callable[[], int]
    fill: float = 0


@dataclass(frozen=True)
class ForeignVolume:
    """A volume in another format than OME-Zarr, of which no voxel has been read yet.

    Attributes:
        where: its path, for messages.
        shape: voxels (z, y, x).
        dtype: as in the file.
        voxel: voxel size in nm that the file says, or None.
        fetch: reads the voxels of a box, as the format's library gives them.
        whole_sections: part of a section costs as much to read as the whole of it.
        offset: of the first voxel from the origin, in voxels (z, y, x).
        origin: centre of the first voxel in nm (z, y, x), on top of `offset`.
        notes: what the user should know, in sentences.
        chunks: which of its chunks are there, where it consists of chunks.
        lost: sections that are missing, counted in the stack with them; they are not in `shape`.
        doubt: why its sections may not be one stack in this order, or nothing.
        greatest: the value that means black where zero means white; None where zero means black.
        format: module of `emgen.volumes.sources` that opened it.
    """

    where: str
    shape: Zyx
    dtype: np.dtype[Any]
    voxel: VoxelSize | None
    fetch: Read
    whole_sections: bool = False
    offset: tuple[float, float, float] = (0, 0, 0)
    origin: tuple[float, float, float] = (0, 0, 0)
    notes: tuple[str, ...] = ()
    chunks: Chunks | None = None
    lost: tuple[int, ...] = ()
    doubt: str = ""
    greatest: int | None = None
    format: str = ""

    def read(self, box: Box) -> Array:
        """The voxels of a box inside the volume, shape `box.shape`.

        Raises:
            EmgenError: they cannot be read or decoded.
        """
        with reading(self.where):
            voxels = self.fetch(box)
        if voxels.shape != box.shape:
            raise EmgenError(
                f"{self.where}: expected voxels of shape {box.shape}, found {voxels.shape}; "
                "it may be damaged"
            )
        return voxels


class Format(Protocol):
    """A format: a module beside this one with these three names.

    Attributes:
        NAME: for messages, such as "MRC".
        CONTAINER: whether one file or folder may hold several volumes, of which `dataset` names one.
    """

    NAME: str
    CONTAINER: bool

    def recognises(self, path: str) -> bool:
        """Whether a path or URL is of this format, by names only: no voxel is read."""
        ...

    def open_volume(self, path: str, dataset: str | None, resources: ExitStack) -> ForeignVolume:
        """Open it by its headers.

        Args:
            path: file, folder or URL that `recognises` accepts.
            dataset: inside a container; None where there are none, or to choose the only one.
            resources: closes what must stay open until the last voxel is read.

        Raises:
            EmgenError: not one 3-D volume of grey values.
            Exception: whatever the format's library raises; it becomes one message.
        """
        ...


def plausible(shape: Sequence[int], where: str | Path, what: str = "voxels") -> tuple[int, ...]:
    """A shape as a header has it, checked before anything of this size is asked for.

    Raises:
        EmgenError: no shape of a volume.
    """
    found = tuple(shape)
    whole = all(isinstance(n, int | np.integer) and not isinstance(n, bool) for n in found)
    if not (
        whole and all(0 <= n <= LONGEST_AXIS for n in found) and math.prod(found) <= MOST_VOXELS
    ):
        listed = " x ".join(str(n)[:20] for n in found[:6])
        raise EmgenError(
            f"{where} says that it has {listed} {what}, which cannot be: its header is damaged"
        )
    return tuple(int(n) for n in found)


def sliced(data: Any) -> Read:
    """How boxes of a 3-D array are read, or of a 2-D one as a single section."""
    if len(data.shape) == 2:
        return lambda box: np.asarray(data[box.slices[1:]])[None]
    return lambda box: np.asarray(data[box.slices])


def by_sections(section: Callable[[int], Array], shape: Zyx, dtype: np.dtype[Any]) -> Read:
    """How boxes are read of a volume that is decoded section by section.

    Args:
        section: gives the pixels (y, x) of section k.
        shape: voxels of the volume.
        dtype: of its voxels.
    """

    def read(box: Box) -> Array:
        voxels = np.empty(box.shape, dtype)
        _, rows, columns = box.slices
        for k in range(box.start[0], box.stop[0]):
            plane = section(k)
            if plane.shape != shape[1:]:
                raise EmgenError(f"section {k} has shape {plane.shape}; expected {shape[1:]}")
            voxels[k - box.start[0]] = plane[rows, columns]
        return voxels

    return read


def nanometres(size: Any, unit: str) -> float | None:
    """A length in nm, or None without a length or with an unknown unit."""
    try:
        nm = units.nanometres(unit)
    except ValueError:
        return None
    return None if size is None or nm is None else float(size) * nm


def size_of(sizes: Sequence[float | None]) -> VoxelSize | None:
    """A voxel size, or None where one of the three is missing or is no positive number."""
    lengths = [size for size in sizes if size is not None and math.isfinite(size) and size > 0]
    return VoxelSize(*lengths) if len(sizes) == len(lengths) == 3 else None


def only_dataset(names: Sequence[str], where: str | Path) -> str:
    """The name of the only volume in a container.

    Raises:
        EmgenError: there are several, or none.
    """
    if len(names) == 1:
        return names[0]
    listed = (
        f"one of {', '.join(names)}: choose with --dataset"
        if names
        else "none: name one with --dataset"
    )
    raise EmgenError(f"{where}: expected one 3-D data set, found {listed}")


@contextmanager
def reading(where: str) -> Iterator[None]:
    """Whatever a format's library raises becomes one message."""
    try:
        yield
    except EmgenError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise EmgenError(
            f"{where} cannot be read ({type(error).__name__}: {reason}); "
            "it may be damaged, incomplete or not what its name says"
        ) from error
