"""The header of an MRC file, in either order of bytes, as IMOD, SerialEM and others write it."""

from __future__ import annotations

import math
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from emgen.errors import EmgenError
from emgen.geometry import zyx

Order = Literal["<", ">"]
SIZE = 1024  # bytes
IMOD_STAMP = 1146047817  # "IMOD"
STAMPS: dict[bytes, Order] = {b"\x44\x44": "<", b"\x44\x41": "<", b"\x11\x11": ">"}
ORDERS: tuple[Order, Order] = ("<", ">")
MODES = range(128)
LARGEST = 2**24  # voxels along an axis that tell a header from nonsense
# bits that say what SerialEM keeps of each section, in this order, and their bytes
SERIALEM_FIELDS = {1: 2, 2: 6, 4: 4, 8: 2, 16: 2, 32: 4}
PIECES = 2
MAX_EXTENDED = 2**28  # bytes


@dataclass(frozen=True)
class Header:
    """What a header says.

    Attributes:
        order: "<" or ">".
        shape: sections, rows, columns.
        mode: type of the voxels.
        starts: number of the first column, row, section.
        intervals: along x, y, z.
        cell: its lengths along x, y, z in angstroms.
        angles: of the cell.
        axes: of columns, rows, sections; 1, 2, 3 are x, y, z.
        least: of the voxels, as the header has it.
        greatest: of the voxels.
        space_group: 0 for a stack of images, 1 for a volume, 401 and more for a stack of volumes.
        version: 20140 and more for the standard of 2014.
        imod: whether IMOD or SerialEM has written it.
        imod_flags: 1 signed bytes, 4 origin of the standard's sign, 16 two voxels in a byte.
        origin: of the first voxel in nm (z, y, x); zeros where it is not set.
        bytes: before the voxels.
        tiles: the most tiles of a montage that lie in one section; 0 where it is no montage.
        notes: what the user should know, in sentences.
    """

    order: Order
    shape: tuple[int, int, int]
    mode: int
    starts: tuple[int, int, int]
    intervals: tuple[int, int, int]
    cell: tuple[float, float, float]
    angles: tuple[float, float, float]
    axes: tuple[int, int, int]
    least: float
    greatest: float
    space_group: int
    version: int
    imod: bool
    imod_flags: int
    origin: tuple[float, float, float]
    bytes: int
    tiles: int
    notes: tuple[str, ...]


def read_header(path: str) -> Header:
    """The header of a file.

    Raises:
        EmgenError: it is too short, or no header of MRC.
    """
    with Path(path).open("rb") as file:
        raw = file.read(SIZE)
        if len(raw) < SIZE:
            raise EmgenError(
                f"{path} is damaged: it has {len(raw)} bytes, fewer than an MRC header"
            )
        order, notes = _order(path, raw)
        extended = _ints(raw, order, 92, 1)[0]
        if not 0 <= extended <= MAX_EXTENDED:
            raise EmgenError(
                f"{path} is damaged: its header says that {extended} bytes of extended header follow"
            )
        more = file.read(extended)
    columns, rows, sections, mode = _ints(raw, order, 0, 4)
    stamp, flags = _ints(raw, order, 152, 2)
    imod = stamp == IMOD_STAMP
    least, greatest = _floats(raw, order, 76, 2)
    return Header(
        order,
        (sections, rows, columns),
        mode,
        zyx(_ints(raw, order, 16, 3)),
        zyx(_ints(raw, order, 28, 3)),
        _three(raw, order, 40),
        _three(raw, order, 52),
        zyx(_ints(raw, order, 64, 3)),
        least,
        greatest,
        _ints(raw, order, 88, 1)[0],
        _ints(raw, order, 108, 1)[0],
        imod,
        flags if imod else 0,
        _origin(raw, order, imod, flags),
        SIZE + extended,
        _tiles(raw, order, more, sections),
        tuple(notes),
    )


def _order(path: str, raw: bytes) -> tuple[Order, list[str]]:
    """The order of bytes: what the stamp says if that makes sense, else what makes sense."""
    stamped = STAMPS.get(raw[212:214])
    sound = [order for order in ORDERS if _makes_sense(raw, order)]
    if not sound:
        raise EmgenError(
            f"{path} cannot be read as MRC: its header makes no sense in either order of bytes; it may be damaged, "
            "incomplete or not what its name says"
        )
    order = stamped if stamped in sound else sound[0]
    notes = []
    if stamped != order:
        notes.append(
            f"{path} has no machine stamp that fits; its bytes are read in the order that makes sense"
        )
    return order, notes


def _makes_sense(raw: bytes, order: str) -> bool:
    *size, mode = _ints(raw, order, 0, 4)
    axes = _ints(raw, order, 64, 3)
    return (
        all(0 < n <= LARGEST for n in size)
        and mode in MODES
        and all(0 <= axis <= 3 for axis in axes)
    )


def _origin(raw: bytes, order: str, imod: bool, flags: int) -> tuple[float, float, float]:
    """Centre of the first voxel (z, y, x) in nm; IMOD gave it the other sign, unless its flag says otherwise."""
    x, y, z = _floats(raw, order, 196, 3)
    if not all(map(math.isfinite, (x, y, z))):
        return (0.0, 0.0, 0.0)
    sign = -1 if imod and not flags & 4 else 1
    return (sign * z / 10, sign * y / 10, sign * x / 10)


def _tiles(raw: bytes, order: str, more: bytes, sections: int) -> int:
    """How many tiles SerialEM put at one z, by the coordinates of pieces in the extended header."""
    size, fields = struct.unpack_from(f"{order}hh", raw, 128)
    known = sum(n for bit, n in SERIALEM_FIELDS.items() if fields & bit)
    if not fields & PIECES or size != known or len(more) < size * sections:
        return 0
    at = SERIALEM_FIELDS[1] if fields & 1 else 0
    levels = [struct.unpack_from(f"{order}3h", more, k * size + at)[2] for k in range(sections)]
    most = max(Counter(levels).values(), default=0)
    return most if most > 1 else 0


def _ints(raw: bytes, order: str, at: int, count: int) -> tuple[int, ...]:
    return struct.unpack_from(f"{order}{count}i", raw, at)


def _three(raw: bytes, order: str, at: int) -> tuple[float, float, float]:
    first, second, third = _floats(raw, order, at, 3)
    return first, second, third


def _floats(raw: bytes, order: str, at: int, count: int) -> tuple[float, ...]:
    return struct.unpack_from(f"{order}{count}f", raw, at)
