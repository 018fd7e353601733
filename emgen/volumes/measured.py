"""What is restored: a volume on disk, or an array in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from emgen.geometry import Box, VoxelSize, Zyx


class Measured(Protocol):
    """The input of a restoration; `emgen.volumes.volume.Volume` and `emgen.arrays.Array` are two.

    Attributes:
        path: where it is, for messages.
        shape: measured voxels (z, y, x).
        dtype: of the stored grey values.
        voxel: size of a measured voxel in nm.
        translation: centre of the first voxel in nm (z, y, x).
    """

    @property
    def path(self) -> str: ...
    @property
    def shape(self) -> Zyx: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    @property
    def voxel(self) -> VoxelSize: ...
    @property
    def translation(self) -> tuple[float, float, float]: ...
    def read(self, box: Box) -> npt.NDArray[Any]:
        """The stored grey values of a box inside the volume, shape `box.shape`."""
        ...

    def absent(self, box: Box) -> npt.NDArray[np.bool_] | None:
        """Which voxels of a box were not measured, whatever is stored there; None where no such thing is known."""
        ...


@dataclass(frozen=True)
class Overlay:
    """A measured volume of which something else is read, or more is known: its voxels lie where the volume's do.

    Attributes:
        volume: below.
    """

    volume: Measured

    @property
    def path(self) -> str:
        return self.volume.path

    @property
    def shape(self) -> Zyx:
        return self.volume.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.volume.dtype

    @property
    def voxel(self) -> VoxelSize:
        return self.volume.voxel

    @property
    def translation(self) -> tuple[float, float, float]:
        return self.volume.translation

    @property
    def chunk(self) -> Zyx | None:
        """Voxels of a unit that is decoded as a whole, None where any voxel can be had by itself."""
        return getattr(self.volume, "chunk", None)

    def read(self, box: Box) -> npt.NDArray[Any]:
        """The grey values of a box inside the volume, shape `box.shape`."""
        return self.volume.read(box)

    def absent(self, box: Box) -> npt.NDArray[np.bool_] | None:
        """Which voxels of a box were not measured, whatever is stored there; None where no such thing is known."""
        return self.volume.absent(box)
