"""MRC, the format of electron tomography: https://www.ccpem.ac.uk/mrc_format/mrc2014.php"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import mrcfile
import mrcfile.utils
import numpy as np

from emgen.errors import EmgenError
from emgen.volumes.sources.foreign import Array, ForeignVolume, size_of, sliced, volume_shape

NAME, CONTAINER = "MRC", False
SUFFIXES = (".mrc", ".mrcs", ".rec", ".st", ".ali", ".map")
AXES = ((1, 2, 3), (0, 0, 0))  # x fastest; 0 where nobody has said so
IMOD_STAMP = 1146047817  # "IMOD" in the header: https://bio3d.colorado.edu/imod/doc/mrc_format.txt


def recognises(path: str) -> bool:
    """Whether it is a file that is named like MRC."""
    return "://" not in path and Path(path).suffix.lower() in SUFFIXES


def open_volume(path: str, dataset: str | None, resources: ExitStack) -> ForeignVolume:
    """Map a file into memory."""
    with mrcfile.open(path, header_only=True) as mrc:
        header, angstroms = mrc.header, mrc.voxel_size
        sizes = [float(angstroms[axis]) / 10 for axis in ("z", "y", "x")]
    axes = tuple(int(header[name]) for name in ("mapc", "mapr", "maps"))
    if axes not in AXES:
        raise EmgenError(
            f"{path} stores its axes in the order {axes}; expected x fastest (1, 2, 3): "
            "reorder it first"
        )
    data, notes = _mapped(path, header)
    if int(header.mode) == 0 and _unsigned(header):
        data = data.view(np.uint8)
    if sizes == [0.1, 0.1, 0.1]:
        notes.append(
            f"{path} says its voxels are 0.1 nm, which programs write when they do not know; "
            "--voxel-size sets the size"
        )
    # sizes are 0 where nobody has set them
    return ForeignVolume(
        path, volume_shape(data, path), data.dtype, size_of(sizes), sliced(data), notes=tuple(notes)
    )


def _mapped(path: str, header: Any) -> tuple[Array, list[str]]:
    """The data block of a file, and a sentence where more follows it.

    mrcfile would say the latter as a warning, and warnings are caught for all threads of a process at once.
    """
    dtype = mrcfile.utils.data_dtype_from_header(header)
    shape = mrcfile.utils.data_shape_from_header(header)
    start = header.nbytes + int(header.nsymbt)
    expected = start + int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    size = Path(path).stat().st_size
    if size < expected:
        raise EmgenError(
            f"{path} is damaged or incomplete: its header says {shape} voxels of {dtype.name}, {expected} bytes in "
            f"all, but it has {size}; copy it again"
        )
    notes = [f"{path} is {size - expected} bytes larger than expected"] if size > expected else []
    return np.memmap(path, dtype, mode="r", offset=start, shape=shape), notes


def _unsigned(header: Any) -> bool:
    """Whether mode 0 holds unsigned bytes: the standard signs them, older IMOD and SerialEM do not.

    IMOD stamps its files and says which.
    """
    extra = bytes(header.extra2)
    stamp, flags = (int.from_bytes(extra[at : at + 4], "little") for at in (40, 44))
    if stamp == IMOD_STAMP:
        return not flags & 1
    return float(header.dmax) > 127
