"""Unpacking of bytes of which the size is known beforehand: never more than that, and never less."""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from collections.abc import Callable

import numcodecs.blosc
import numcodecs.lz4
import numcodecs.zstd

LZ4_MAGIC, LZ4_RAW = b"LZ4Block", 0x10
LZ4_HEADER = struct.Struct("<8sBiii")  # magic, token, packed bytes, unpacked bytes, checksum


def gzip(data: bytes, most: int) -> bytes:
    """Of gzip or zlib, one member after the other."""
    whole = b""
    while data:
        unpacker = zlib.decompressobj(47)
        whole += unpacker.decompress(data, most + 1 - len(whole))
        if not unpacker.eof:
            raise ValueError(f"it ends too early, or is larger than {most} bytes")
        data = unpacker.unused_data
        if not data.startswith(b"\x1f\x8b"):
            break
    return whole


def bzip2(data: bytes, most: int) -> bytes:
    return _checked(bz2.BZ2Decompressor(), data, most)


def xz(data: bytes, most: int) -> bytes:
    return _checked(lzma.LZMADecompressor(memlimit=2**31), data, most)


def _checked(
    unpacker: bz2.BZ2Decompressor | lzma.LZMADecompressor, data: bytes, most: int
) -> bytes:
    whole = unpacker.decompress(data, most + 1)
    if not unpacker.eof:
        raise ValueError(f"it ends too early, or is larger than {most} bytes")
    return whole


def zstd(data: bytes, most: int) -> bytes:
    import imagecodecs

    return bytes(imagecodecs.zstd_decode(data, out=most + 1))


def brotli(data: bytes, most: int) -> bytes:
    import imagecodecs

    return bytes(imagecodecs.brotli_decode(data, out=most + 1))


def blosc(data: bytes, most: int) -> bytes:
    """Of one Blosc frame, whose header says both of its lengths."""
    if len(data) < 16:
        raise ValueError("it has no Blosc header")
    size, _, packed = struct.unpack_from("<iii", data, 4)
    if packed != len(data):
        raise ValueError(f"its Blosc header says {packed} bytes, but it has {len(data)}")
    if size > most:
        raise ValueError(f"its Blosc header says {size} bytes, more than {most}")
    return bytes(numcodecs.blosc.decompress(data))


def lz4(data: bytes, most: int) -> bytes:
    """Of the blocks that Java's LZ4BlockOutputStream writes."""
    parts, at, size = [], 0, 0
    while at < len(data):
        magic, token, packed, unpacked, _ = LZ4_HEADER.unpack_from(data, at)
        at += LZ4_HEADER.size
        size += unpacked
        if magic != LZ4_MAGIC or packed < 0 or unpacked < 0 or size > most:
            raise ValueError("it is no LZ4 block of the expected size")
        part = data[at : at + packed]
        if len(part) != packed:
            raise ValueError("it ends too early")
        if packed and token & 0xF0 != LZ4_RAW:
            part = numcodecs.lz4.decompress(struct.pack("<i", unpacked) + part)
        parts.append(part)
        at += packed
    return b"".join(parts)


UNPACK: dict[str, Callable[[bytes, int], bytes]] = {
    "raw": lambda data, most: data,
    "gzip": gzip,
    "bzip2": bzip2,
    "xz": xz,
    "zstd": zstd,
    "blosc": blosc,
    "lz4": lz4,
}
"""By N5's names of compressions."""


def unpacked(kind: str, data: bytes, size: int) -> bytes:
    """Exactly `size` bytes.

    Raises:
        ValueError: there are more or less of them, or they cannot be unpacked.
    """
    try:
        whole = UNPACK[kind](data, size)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"it cannot be unpacked ({type(error).__name__}: {error})") from error
    if len(whole) != size:
        raise ValueError(f"it has {len(whole)} bytes unpacked, expected {size}")
    return whole
