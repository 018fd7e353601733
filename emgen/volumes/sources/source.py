"""What every foreign format is turned into: a `ForeignVolume`, read lazily by boxes."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emgen.errors import EmgenError
from emgen.geometry import Box, VoxelSize, Zyx, zyx
from emgen.volumes.omezarr import NANOMETRES

Array = npt.NDArray[Any]
Read = Callable[[Box], Array]

UNITS = {
    **NANOMETRES,
    **dict.fromkeys(("\N{GREEK SMALL LETTER MU}m", "\\u00B5m", "micron", "microns"), 1e3),
    **dict.fromkeys(("\N{LATIN CAPITAL LETTER A WITH RING ABOVE}", "\N{ANGSTROM SIGN}", "A"), 0.1),
    "pm": 1e-3,
    "cm": 1e7,
    "m": 1e9,
    "inch": 2.54e7,
}


@dataclass(frozen=True)
class ForeignVolume:
    """A volume in a foreign format, nothing of it read yet.

    Attributes:
        where: its path, for messages.
        shape: voxels (z, y, x).
        dtype: as in the file.
        voxel: what the file says, or None.
        fetch: the voxels of a box, as the format's library gives them.
        whole_sections: part of a section costs as much to read as the whole of it.
        offset: of the first voxel from the origin, in voxels.
        notes: what the user should know, in sentences.
    """

    where: str
    shape: Zyx
    dtype: np.dtype[Any]
    voxel: VoxelSize | None
    fetch: Read
    whole_sections: bool = False
    offset: Zyx = (0, 0, 0)
    notes: tuple[str, ...] = ()

    def read(self, box: Box) -> Array:
        """The voxels of a box inside the volume.

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


def volume_shape(data: Any, where: str | Path) -> Zyx:
    """Shape (z, y, x) of a 3-D array, or of a 2-D one as a single section."""
    shape = tuple(data.shape)
    if len(shape) not in (2, 3):
        raise EmgenError(
            f"{where} has shape {shape}; expected one 3-D volume (z, y, x): "
            "export the part that you mean"
        )
    if len(shape) == 3 and shape[2] in (3, 4) and shape[2] < min(shape[:2]):
        raise EmgenError(
            f"{where} has shape {shape}, a colour image by the look of it; "
            "expected grey values (z, y, x)"
        )
    return zyx(shape if len(shape) == 3 else (1, *shape))


def sliced(data: Any) -> Read:
    """Boxes of a 3-D array, or of a 2-D one as a single section."""
    if len(data.shape) == 2:
        return lambda box: np.asarray(data[box.slices[1:]])[None]
    return lambda box: np.asarray(data[box.slices])


def nanometres(size: Any, unit: str) -> float | None:
    return None if size is None or unit.strip() not in UNITS else float(size) * UNITS[unit.strip()]


def size_of(sizes: Sequence[float | None]) -> VoxelSize | None:
    """A voxel size, or None where one of the three is missing or is no positive number."""
    known = [size for size in sizes if size is not None and math.isfinite(size) and size > 0]
    return VoxelSize(*known) if len(sizes) == len(known) == 3 else None


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
