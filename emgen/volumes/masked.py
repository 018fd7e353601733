"""A volume and a mask of its tissue: together they are the input of a run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from emgen.errors import EmgenError
from emgen.geometry import Box, VoxelSize, Zyx
from emgen.volumes.volume import Volume


@dataclass(frozen=True)
class MaskedVolume:
    """A measured volume whose tissue somebody marked.

    Attributes:
        volume: that was measured.
        mask: on its voxels; 0 where there is no tissue.
    """

    volume: Volume
    mask: Volume

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

    def read(self, box: Box) -> npt.NDArray[Any]:
        """The stored grey values of a box inside the volume, shape `box.shape`."""
        return self.volume.read(box)

    def absent(self, box: Box) -> npt.NDArray[np.bool_] | None:
        """Which voxels of a box the mask, or the file itself, says nothing was measured at."""
        absent: npt.NDArray[np.bool_] = self.mask.read(box) == 0
        by_file = self.volume.absent(box)
        return absent if by_file is None else absent | by_file


def with_mask(volume: Volume, path: str) -> MaskedVolume:
    """A volume with the mask at a path.

    Raises:
        EmgenError: the mask cannot be opened, or does not lie on the voxels of the volume.
    """
    mask = Volume.open(path)
    if mask.shape != volume.shape:
        raise EmgenError(
            f"input.mask: {mask.path} has shape {mask.shape}, but the input {volume.shape}; expected one voxel of the "
            "mask for each voxel of the input"
        )
    if mask.dtype.kind not in "biu":
        raise EmgenError(
            f"input.mask: {mask.path} has voxels of type {mask.dtype}; expected integers, 0 where there is no tissue"
        )
    return MaskedVolume(volume, mask)
