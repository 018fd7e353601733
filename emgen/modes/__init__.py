"""What a restoration mode is: one file each, of the name that `restore.mode` gives it.

`emgen/config/restore.py` lists the names; everything that depends on the mode is in the class that its file calls
`MODE`, a `emgen.modes.mode.Mode`.
"""

from __future__ import annotations

from importlib import import_module
from typing import cast

from emgen.config.restore import Restore
from emgen.geometry import VoxelSize, Zyx
from emgen.modes.mode import Mode
from emgen.physics.psf import Kernel


def mode(
    restore: Restore, measured_shape: Zyx, measured_voxel: VoxelSize, psf: Kernel | None = None
) -> Mode:
    """The mode that the settings name, on a measured volume.

    Args:
        restore: the settings.
        measured_shape: voxels of the input (z, y, x).
        measured_voxel: their size in nm.
        psf: point spread function (y, x) to deblur, None where the mode has none or it is still to be fitted.

    Raises:
        EmgenError: settings that do not fit the mode, or have no effect with it.
    """
    return kind(restore)(restore, measured_shape, measured_voxel, psf)


def kind(restore: Restore) -> type[Mode]:
    """The mode that the settings name, of no volume yet."""
    return cast(type[Mode], import_module(f"emgen.modes.{restore.mode}").MODE)
