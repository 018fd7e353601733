"""Files that name other files: what a volume from somebody else names must lie with it.

An OME-TIFF names its companions, HDF5 its external storage, precomputed its scales, and a folder may hold links. Each
could name any file of whoever reads it, whose bytes would then be taken for voxels and stand in a result.
"""

from __future__ import annotations

import os
from pathlib import Path

from emgen.errors import EmgenError


def inside(folder: str | Path, name: str | Path, where: str | Path) -> Path:
    """The path of a file that a volume names, which lies in the volume's folder, links followed.

    Args:
        folder: of the volume.
        name: as the volume gives it, relative to the folder.
        where: what names it, for messages.

    Raises:
        EmgenError: it lies elsewhere.
    """
    path = Path(folder) / name
    if not is_inside(folder, path):
        raise EmgenError(
            f"{where} names a file outside its folder: {name}. emgen follows no file there, for it could be any of yours; "
            f"copy it into {folder} and name it there (`cp -rL` copies a folder with what its links name)"
        )
    return path


def is_inside(folder: str | Path, path: str | Path) -> bool:
    """Whether a path lies in a folder, or is it, when all links are followed."""
    root = os.path.realpath(folder)
    found = os.path.realpath(path)
    return found == root or found.startswith(root.rstrip(os.sep) + os.sep)
