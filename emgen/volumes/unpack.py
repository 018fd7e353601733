"""Compressed chunks, unpacked to exactly the bytes that were expected of them, or refused.

The libraries trust what a chunk says of itself: Blosc copies memory behind a chunk that was cut, and a chunk of 33 kB
may ask for a gigabyte. So its header is read here first, and no codec gets more memory than the chunk's voxels need.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numcodecs.blosc
import numcodecs.lz4
import numcodecs.zstd

ZSTD_BLOCK = 2**17  # bytes that a block of zstd unpacks to, at most
ZSTD_MAGIC = 0xFD2FB528
SLACK = 16  # times the expected bytes that a chunk without a stated size may ask for before it is measured
LZMA_MEMORY = 2**30  # bytes for the dictionary of LZMA


def unpack(codec: str, data: bytes, size: int) -> bytes:
    """A compressed chunk, unpacked.

    Args:
        codec: one of `KNOWN`.
        data: the whole chunk.
        size: bytes that it must unpack to.

    Raises:
        ValueError: it was cut, is something else, or unpacks to another number of bytes.
    """
    if not data:
        raise ValueError(f"it is empty; expected a chunk compressed with {codec}")
    try:
        unpacked = KNOWN[codec](data, size)
    except ValueError as error:
        raise ValueError(f"{error}{_page(data)}") from None
    except Exception as error:  # each library has its own
        raise ValueError(f"it is no {codec}, or was cut ({error}){_page(data)}") from None
    if len(unpacked) != size:
        raise ValueError(f"it unpacks to {len(unpacked)} bytes; expected {size}{_page(data)}")
    return unpacked


def _page(data: bytes) -> str:
    """What to add where the bytes are no chunk but an answer of a web server."""
    start = data[:64].lstrip().lower()
    return "; it is a web page" if start.startswith((b"<!doctype", b"<html", b"<?xml")) else ""


def _blosc(data: bytes, size: int) -> bytes:
    """https://github.com/Blosc/c-blosc/blob/main/README_CHUNK_FORMAT.rst"""
    if len(data) < 16:
        raise ValueError(f"it has {len(data)} bytes, less than the header of Blosc")
    flags = data[2]
    unpacked, _, stated = struct.unpack_from("<III", data, 4)
    if stated > len(data):
        raise ValueError(
            f"its header says {stated} bytes, it has {len(data)}: it was cut or is no chunk"
        )
    if unpacked != size:
        raise ValueError(f"its header says that it unpacks to {unpacked} bytes; expected {size}")
    if flags & 2 and stated != size + 16:
        raise ValueError(
            f"it is stored without compression in {stated} bytes; expected {size + 16}"
        )
    return bytes(numcodecs.blosc.decompress(data))


def _zstd(data: bytes, size: int) -> bytes:
    """https://datatracker.ietf.org/doc/html/rfc8878"""
    stated = _zstd_size(data)
    if (stated > size) if isinstance(stated, Bound) else (stated != size):
        raise ValueError(f"its header says that it unpacks to {int(stated)} bytes; expected {size}")
    return bytes(numcodecs.zstd.decompress(data))


class Bound(int):
    """The most bytes that something may have, where their number is not stated."""


def _zstd_size(data: bytes) -> int:
    """Bytes that a zstd frame unpacks to; a `Bound` divided by `SLACK` where it does not say."""
    (magic,) = struct.unpack_from("<I", data)
    if magic != ZSTD_MAGIC:
        raise ValueError("it does not begin as zstd does")
    descriptor = data[4]
    single = descriptor >> 5 & 1
    place = 6 - single + (0, 1, 2, 4)[descriptor & 3]
    kind = descriptor >> 6
    if kind == 0 and not single:
        return Bound(_zstd_blocks(data, place) // SLACK)
    length = (1, 2, 4, 8)[kind]
    if len(data) < place + length:
        raise ValueError("it was cut")
    return int.from_bytes(data[place : place + length], "little") + (256 if kind == 1 else 0)


def _zstd_blocks(data: bytes, place: int) -> int:
    """The most bytes that the blocks of a frame unpack to."""
    total, last = 0, 0
    while not last:
        if len(data) < place + 3:
            raise ValueError("it was cut")
        header = int.from_bytes(data[place : place + 3], "little")
        last, kind, length = header & 1, header >> 1 & 3, header >> 3
        # raw, one byte repeated, compressed
        total += length if kind < 2 else ZSTD_BLOCK
        place += 3 + (1 if kind == 1 else length)
    return total


def _lz4(data: bytes, size: int) -> bytes:
    (stated,) = struct.unpack_from("<I", data)
    if stated != size:
        raise ValueError(f"its header says that it unpacks to {stated} bytes; expected {size}")
    return bytes(numcodecs.lz4.decompress(data))


def _stream(make: Callable[[], Any], several: bool) -> Callable[[bytes, int], bytes]:
    """Unpack with a decompressor of Python's, never more than one byte beyond what was expected.

    Args:
        make: a decompressor.
        several: whether what is written one after the other counts as one.
    """

    def unpacked(data: bytes, size: int) -> bytes:
        parts, left = [], size + 1
        while data and left > 0:
            machine = make()
            part = machine.decompress(data, left)
            while not machine.eof and len(part) < left:
                more = machine.decompress(
                    getattr(machine, "unconsumed_tail", b""), left - len(part)
                )
                if not more:
                    break
                part += more
            parts.append(part)
            left -= len(part)
            if left > 0 and not machine.eof:
                raise ValueError("it was cut")
            data = machine.unused_data if several else b""
        return b"".join(parts)

    return unpacked


KNOWN: dict[str, Callable[[bytes, int], bytes]] = {
    "blosc": _blosc,
    "zstd": _zstd,
    "lz4": _lz4,
    "gzip": _stream(lambda: zlib.decompressobj(31), several=True),
    "zlib": _stream(zlib.decompressobj, several=False),
    "bz2": _stream(bz2.BZ2Decompressor, several=True),
    "lzma": _stream(lambda: lzma.LZMADecompressor(memlimit=LZMA_MEMORY), several=True),
}
"""Compressions by the names that Zarr gives them."""
