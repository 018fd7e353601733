"""MRC, the format of electron tomography: https://www.ccpem.ac.uk/mrc_format/mrc2014.php

And what IMOD and SerialEM make of it: https://bio3d.colorado.edu/imod/doc/mrc_format.txt
"""

from __future__ import annotations

import math
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from emgen.errors import EmgenError
from emgen.geometry import Box
from emgen.volumes.sources.axes import Axes
from emgen.volumes.sources.foreign import Array, ForeignVolume, Read, plausible, size_of
from emgen.volumes.sources.mrc_header import Header, read_header

NAME, CONTAINER = "MRC", False
SUFFIXES = (".mrc", ".mrcs", ".rec", ".st", ".ali", ".preali", ".bl", ".map", ".ccp4")
FOUR_BITS = 101  # mode of two voxels a byte
DTYPES = {0: "i1", 1: "i2", 2: "f4", 6: "u2", 7: "i4", 12: "f2", FOUR_BITS: "u1"}
NOT_READ = {3: "complex", 4: "complex", 16: "colour"}
STACK_OF_VOLUMES = 401  # space group
SAMPLES = 4  # sections that tell whether bytes are signed


def recognises(path: str) -> bool:
    """Whether it is a file that is named like MRC."""
    return "://" not in path and Path(path).suffix.lower() in SUFFIXES


def open_volume(path: str, dataset: str | None, resources: ExitStack) -> ForeignVolume:
    """Map a file into memory."""
    header = read_header(path)
    notes = list(header.notes)
    _check(path, header)
    data, more = _mapped(path, header)
    notes += more
    if header.mode == 0 and _unsigned(header, data):
        data = data.view(np.uint8)
    axes = _axes(path, header)
    shape = axes.shape(header.shape)
    voxel, about_size = _voxel(path, header, axes)
    origin = header.origin
    if not any(origin) and voxel is not None:
        # counted along columns, rows and sections
        origin = tuple(
            n * size for n, size in zip(axes.pick(header.starts[::-1]), voxel, strict=True)
        )
    return ForeignVolume(
        path,
        shape,
        data.dtype if header.mode != FOUR_BITS else np.dtype("uint8"),
        size_of(voxel) if voxel else None,
        _nibbles(data, header.shape[2], axes) if header.mode == FOUR_BITS else axes.read(data),
        origin=(origin[0], origin[1], origin[2]),
        notes=(*notes, *about_size),
    )


def _check(path: str, header: Header) -> None:
    """Refuse what is not one volume of real numbers on a right-angled grid."""
    plausible(header.shape, path)
    if header.mode not in DTYPES:
        kind = NOT_READ.get(header.mode, "of a kind that emgen does not know")
        raise EmgenError(
            f"{path} has voxels of mode {header.mode}, {kind}; expected real numbers (modes "
            f"{', '.join(map(str, DTYPES))})"
        )
    if header.space_group >= STACK_OF_VOLUMES:
        raise EmgenError(
            f"{path} is a stack of volumes (space group {header.space_group}) with shape {header.shape}; expected one: "
            "export the volume that you mean"
        )
    if any(angle not in (0, 90) for angle in header.angles):
        raise EmgenError(
            f"{path} has a cell with angles {', '.join(f'{a:g}' for a in header.angles)}; expected 90 degrees: "
            "resample it first"
        )
    if header.mode == 0 and header.imod_flags & 16:
        raise EmgenError(
            f"{path} has two voxels of 4 bits in each byte of mode 0; convert it first (IMOD: newstack -mode 1)"
        )
    if header.tiles:
        raise EmgenError(
            f"{path} holds tiles of a montage, {header.tiles} a section; blend them first (IMOD: blendmont)"
        )


def _mapped(path: str, header: Header) -> tuple[Array, list[str]]:
    """The data block of a file, and a sentence where more follows it."""
    depth, height, width = header.shape
    row = -(-width // 2) if header.mode == FOUR_BITS else width
    dtype = np.dtype(DTYPES[header.mode]).newbyteorder(header.order)
    section = height * row * dtype.itemsize
    expected = header.bytes + depth * section
    size = Path(path).stat().st_size
    if size < expected:
        raise EmgenError(
            f"{path} is damaged or incomplete: its header says {header.shape} voxels of mode {header.mode}, "
            f"{expected} bytes in all, but it has {size}; copy it again"
        )
    notes = []
    if size > expected:
        room = (size - expected) // section if section else 0
        notes.append(
            f"{path} is {size - expected} bytes larger than expected"
            + (f", room for {room} sections that its header does not count" if room else "")
        )
    shape = (depth, height, row)
    if 0 in shape:
        return np.zeros(shape, dtype), notes
    return np.memmap(path, dtype, mode="r", offset=header.bytes, shape=shape), notes


def _nibbles(data: Array, width: int, axes: Axes) -> Read:
    """How boxes are read of two voxels a byte, the lower half first."""

    def read(box: Box) -> Array:
        whole = [slice(None)] * 3
        for axis, part in zip((axes.z, axes.y, axes.x), box.slices, strict=True):
            if axis is not None:
                whole[axis] = part
        bytes_ = np.asarray(data[whole[0], whole[1]])
        pairs = np.stack([bytes_ & 15, bytes_ >> 4], -1)
        pixels = pairs.reshape(*bytes_.shape[:2], -1)[..., :width]
        return axes.turned(pixels[..., whole[2]])

    return read


def _axes(path: str, header: Header) -> Axes:
    """Which of sections, rows and columns are z, y and x."""
    # 1, 2, 3 are x, y, z; all are 0 where nobody has said so
    named = header.axes if any(header.axes) else (1, 2, 3)
    if sorted(named) != [1, 2, 3]:
        raise EmgenError(
            f"{path} says that its axes are {named}; expected 1, 2 and 3 in some order: it may be damaged"
        )
    z, y, x = (2 - named.index(number) for number in (3, 2, 1))
    return Axes(z, y, x, 3)


def _voxel(path: str, header: Header, axes: Axes) -> tuple[list[float] | None, list[str]]:
    """Voxel size (z, y, x) in nm, as far as the header knows it, and what to know about it."""
    depth = axes.shape(header.shape)[0]
    sizes = [
        cell / intervals / 10 if intervals > 0 else 0.0
        for cell, intervals in zip(header.cell[::-1], header.intervals[::-1], strict=True)
    ]
    if not all(math.isfinite(size) and size > 0 for size in sizes):
        # sizes are 0 where nobody has set them
        return None, []
    if header.intervals[2] == 1 and depth > 1:
        whole, part = sizes[0], sizes[0] / depth
        return None, [
            f"{path} calls itself a stack of images, which have no z; its cell is {whole:g} nm deep, which would be "
            f"{part:g} nm a section, with pixels of {sizes[1]:g} x {sizes[2]:g} nm (y, x)"
        ]
    if np.allclose(sizes, 0.1):
        return sizes, [
            f"{path} says its voxels are 0.1 nm, which programs write when they do not know; "
            "--voxel-size sets the size"
        ]
    return sizes, []


def _unsigned(header: Header, data: Array) -> bool:
    """Whether mode 0 holds unsigned bytes: the standard signs them, older IMOD and SerialEM do not.

    IMOD stamps its files and says which. Without a stamp the extremes in the header tell; where these are not
    known, the voxels: read with the wrong sign, grey values jump by 256.
    """
    if header.imod:
        return not header.imod_flags & 1
    if header.least < 0 <= header.greatest:
        return False
    if header.greatest > 127:
        return True
    if header.version >= 20140 or 0 in data.shape:
        return False
    chosen = np.linspace(0, data.shape[0] - 1, SAMPLES).astype(int)
    jumps = (
        [
            float(np.abs(np.diff(data[chosen].view(kind).astype(np.int16), axis=-1)).mean())
            for kind in (np.int8, np.uint8)
        ]
        if data.shape[2] > 1
        else [0.0, 0.0]
    )
    return jumps[1] < jumps[0]
