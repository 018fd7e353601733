"""Arrays to read from, with codecs that check each chunk before they unpack it (`emgen.volumes.unpack`)."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import zarr
from zarr.abc.codec import ArrayBytesCodec, BytesBytesCodec, Codec
from zarr.abc.numcodec import Numcodec
from zarr.codecs import BytesCodec, Crc32cCodec, ShardingCodec, TransposeCodec
from zarr.core.array import AsyncArray
from zarr.core.array_spec import ArraySpec
from zarr.core.buffer import Buffer, NDBuffer
from zarr.core.metadata import ArrayV2Metadata, ArrayV3Metadata

from emgen.errors import EmgenError
from emgen.volumes.stores import ChunkFault, Missing, MissingChunk
from emgen.volumes.unpack import KNOWN, unpack

CHECKSUM_BYTES = {"crc32": 4, "crc32c": 4, "adler32": 4, "fletcher32": 4}
# filters of Zarr 2 that change no type, or say to which
SAME_TYPE = ("shuffle", "bitround", *CHECKSUM_BYTES)
OTHER_TYPE = ("delta", "fixedscaleoffset", "quantize", "astype")


def guarded(array: zarr.Array[Any], missing: Missing, where: str) -> zarr.Array[Any]:
    """The same array, in which a damaged chunk is an error whatever its codec.

    Args:
        array: open to be read.
        missing: what chunks mean that are not there, see `emgen.volumes.stores.CheckedStore`.
        where: its path, for messages.

    Raises:
        EmgenError: it is compressed in a way that emgen does not read.
    """
    metadata = array.metadata
    changed: ArrayV2Metadata | ArrayV3Metadata
    if isinstance(metadata, ArrayV2Metadata):
        changed = _guarded_v2(metadata, where)
    else:
        changed = replace(metadata, codecs=_guarded(metadata.codecs, missing, where))
    inner = array.async_array
    return zarr.Array(
        AsyncArray(metadata=changed, store_path=inner.store_path, config=inner.config)
    )


@dataclass(frozen=True)
class Guarded(BytesBytesCodec):
    """A compression of Zarr 3 that unpacks to the bytes of a chunk and `more`, or not at all."""

    codec: BytesBytesCodec
    name: str
    more: int
    is_fixed_size = False

    async def _decode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer:
        itemsize = chunk_spec.dtype.to_native_dtype().itemsize
        size = math.prod(chunk_spec.shape) * itemsize + self.more
        unpacked = await asyncio.to_thread(_unpacked, self.name, chunk_bytes.to_bytes(), size)
        return chunk_spec.prototype.buffer.from_bytes(unpacked)

    async def _encode_single(self, chunk_bytes: Buffer, chunk_spec: ArraySpec) -> Buffer | None:
        return await self.codec._encode_single(chunk_bytes, chunk_spec)

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """Not known beforehand."""
        raise NotImplementedError

    def to_dict(self) -> dict[str, Any]:
        """As in the metadata."""
        return dict(self.codec.to_dict())


@dataclass(frozen=True)
class Present(ArrayBytesCodec):
    """The innermost codec of a shard in which no chunk may be missing."""

    codec: BytesCodec
    is_fixed_size = True

    async def decode(
        self, chunks_and_specs: Iterable[tuple[Buffer | None, ArraySpec]]
    ) -> Iterable[NDBuffer | None]:
        """The voxels of chunks; `MissingChunk` if one is not in its shard."""
        given = list(chunks_and_specs)
        if any(chunk is None for chunk, _ in given):
            raise MissingChunk("a chunk is missing in its shard")
        return await self.codec.decode(given)

    def evolve_from_array_spec(self, array_spec: ArraySpec) -> Self:
        """For the type of an array's voxels."""
        return replace(self, codec=self.codec.evolve_from_array_spec(array_spec))

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: ArraySpec) -> int:
        """As many bytes as the voxels have."""
        return self.codec.compute_encoded_size(input_byte_length, chunk_spec)

    def to_dict(self) -> dict[str, Any]:
        """As in the metadata."""
        return dict(self.codec.to_dict())


class GuardedV2:
    """A compression of Zarr 2 that unpacks to so many bytes, or not at all."""

    codec_id = "emgen.guarded"

    def __init__(self, codec: Numcodec, size: int) -> None:
        self.codec, self.size = codec, size

    def decode(self, buf: Any, out: Any = None) -> bytes:
        """The bytes of a chunk."""
        return _unpacked(self.codec.codec_id, np.asarray(buf).tobytes(), self.size)

    def encode(self, buf: Any) -> Any:
        """Compress a chunk."""
        return self.codec.encode(buf)

    def get_config(self) -> Any:
        """As in the metadata."""
        return self.codec.get_config()

    @classmethod
    def from_config(cls, config: Any) -> Self:
        """It is made of a codec, not of metadata."""
        raise NotImplementedError


def _unpacked(name: str, data: bytes, size: int) -> bytes:
    try:
        return unpack(name, data, size)
    except ValueError as error:
        raise ChunkFault(str(error)) from None


def _guarded(
    codecs: Sequence[Codec], missing: Missing, where: str, depth: int = 0
) -> tuple[Codec, ...]:
    changed: list[Codec] = []
    more, compressed = 0, False
    for codec in codecs:
        name = str(codec.to_dict()["name"]).removeprefix("numcodecs.")
        if isinstance(codec, ShardingCodec) and len(codecs) == 1 and depth < 2:
            changed.append(replace(codec, codecs=_guarded(codec.codecs, missing, where, depth + 1)))
        elif isinstance(codec, BytesCodec):
            changed.append(Present(codec) if depth and missing == "refuse" else codec)
        elif isinstance(codec, TransposeCodec) or (name == "shuffle" and not compressed):
            changed.append(codec)
        elif isinstance(codec, Crc32cCodec) or name in CHECKSUM_BYTES:
            changed.append(codec)
            more += CHECKSUM_BYTES[name]
        elif isinstance(codec, BytesBytesCodec) and name in KNOWN and not compressed:
            changed.append(Guarded(codec, name, more))
            compressed = True
        else:
            raise _unknown(name, where)
    return tuple(changed)


def _guarded_v2(metadata: ArrayV2Metadata, where: str) -> ArrayV2Metadata:
    size = _filtered_size(metadata, where)
    compressor = metadata.compressor
    if compressor is None:
        return metadata
    if compressor.codec_id not in KNOWN:
        raise _unknown(compressor.codec_id, where)
    return replace(metadata, compressor=GuardedV2(compressor, size))


def _filtered_size(metadata: ArrayV2Metadata, where: str) -> int:
    """Bytes of a chunk after its filters, before it is compressed."""
    dtype = metadata.dtype.to_native_dtype()
    count, itemsize, more = math.prod(metadata.chunks), dtype.itemsize, 0
    for place, codec in enumerate(metadata.filters or ()):
        name, config = codec.codec_id, codec.get_config()
        if name not in SAME_TYPE + OTHER_TYPE:
            raise _unknown(name, where)
        if name in OTHER_TYPE:
            stated = np.dtype(config.get("dtype") or config.get("decode_dtype"))
            if place == 0 and stated != dtype:
                raise EmgenError(
                    f"{where} has voxels of type {dtype}, but its filter {name} makes {stated} of them; expected the same"
                )
            itemsize = np.dtype(
                config.get("astype") or config.get("encode_dtype") or stated
            ).itemsize
        more += CHECKSUM_BYTES.get(name, 0)
    return count * itemsize + more


def _unknown(name: str, where: str) -> EmgenError:
    return EmgenError(
        f"{where} is stored with {name[:60]!r}, which emgen does not read (or not at this place); it reads chunks "
        f"compressed once with one of {', '.join(KNOWN)}: store the volume again with one of these"
    )
