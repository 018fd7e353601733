"""A measured volume, and where it holds nothing: outside of a mask of its tissue, and in chunks that are not there."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emgen.errors import EmgenError
from emgen.geometry import Box
from emgen.volumes.measured import Overlay
from emgen.volumes.missing_chunks import missing_boxes
from emgen.volumes.volume import Volume


@dataclass(frozen=True)
class MaskedVolume(Overlay):
    """A measured volume of which it is known where nothing was measured.

    Attributes:
        volume: that was measured.
        mask: on its voxels; 0 where there is no tissue, None where nobody marked it.
        chunks: whether chunks that are not there hold no data.
    """

    volume: Volume
    mask: Volume | None
    chunks: bool = False

    def absent(self, box: Box) -> npt.NDArray[np.bool_] | None:
        """Which voxels of a box the mask, or the file itself, says hold nothing."""
        absent = np.zeros(box.shape, bool) if self.mask is None else self.mask.read(box) == 0
        for part in missing_boxes(self.volume, box) if self.chunks else ():
            absent[part.relative_to(box).slices] = True
        return absent


def open_mask(path: str, volume: Volume) -> Volume:
    """The mask of a volume.

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
    return mask
