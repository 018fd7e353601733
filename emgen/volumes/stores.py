"""What lies between a volume's arrays and the disk: bytes come whole, or as an error, never as something else."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from zarr.abc.store import ByteRequest, RangeByteRequest, Store, SuffixByteRequest
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import LocalStore, WrapperStore

from emgen.volumes.links import is_inside

Missing = Literal["refuse", "blank"]

METADATA = frozenset(("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata"))


RIGHTS = (
    "you have no right to read it, or nothing is there (stores that may not be listed say the same of both). S3 takes "
    "rights from AWS_PROFILE or ~/.aws/credentials, HTTP takes headers from ~/.config/fsspec/conf.json"
)


class ChunkFault(ValueError):
    """A chunk that cannot be what was written."""


class MissingChunk(ChunkFault):
    """A chunk that is not there, where none may be missing."""


class CheckedStore(WrapperStore[Store]):
    """A store to read from, in which nothing is taken for an empty chunk that may be a fault.

    By the specification a chunk that is not there holds the fill value. So a copy that broke off is a volume with
    black boxes in it, and so is one in which a chunk is a folder.
    """

    def __init__(
        self, store: Store, missing: Missing = "blank", denied: list[str] | None = None
    ) -> None:
        """Wrap a store.

        Args:
            store: where the bytes come from.
            missing: what a chunk that is not there means: "blank" is the fill value, "refuse" a fault.
            denied: metadata that may not be read; filled as they are met.
        """
        super().__init__(store)
        self.missing = missing
        self.denied = [] if denied is None else denied

    def _with_store(self, store: Store) -> CheckedStore:
        return type(self)(store, self.missing, self.denied)

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        """The bytes of a key, None where there is no such key and that is no fault.

        Raises:
            ChunkFault: fewer bytes than were asked for, or a chunk is missing that may not be.
        """
        found = await self._fetch(key, prototype, byte_range)
        if found is None:
            self._look_at_missing(key)
            return None
        wanted = _length(byte_range)
        if wanted is not None and len(found) != wanted:
            raise ChunkFault(
                f"{key}: expected {wanted} bytes of a shard, found {len(found)}: it was cut, or is no shard"
            )
        return found

    async def get_partial_values(
        self,
        prototype: BufferPrototype,
        key_ranges: Iterable[tuple[str, ByteRequest | None]],
    ) -> list[Buffer | None]:
        """Several parts, each as by `get`."""
        return [await self.get(key, prototype, part) for key, part in key_ranges]

    async def _fetch(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None
    ) -> Buffer | None:
        if isinstance(self._store, LocalStore):
            _refuse_links(self._store.root, key)
        return await self._store.get(key, prototype, byte_range)

    def _look_at_missing(self, key: str) -> None:
        if key.rpartition("/")[2] in METADATA:
            return
        if isinstance(self._store, LocalStore):
            _refuse_other_things(self._store.root, key)
        if self.missing == "refuse":
            raise MissingChunk(f"chunk {key} is missing")


def _length(byte_range: ByteRequest | None) -> int | None:
    """How many bytes a request must give, None where that is not known."""
    if isinstance(byte_range, RangeByteRequest):
        return byte_range.end - byte_range.start
    return byte_range.suffix if isinstance(byte_range, SuffixByteRequest) else None


def _refuse_links(root: Path, key: str) -> None:
    """`ChunkFault` where links lead out of the folder of the volume: any file would be taken for voxels."""
    if not is_inside(root, root / key):
        raise ChunkFault(
            f"{key} is a link to a file outside {root}, which emgen does not follow; `cp -rL` copies a volume with what its "
            "links name"
        )


def _refuse_other_things(root: Path, key: str) -> None:
    """`ChunkFault` where a folder lies in place of a chunk, or a file in place of a folder above it."""
    place = root / key
    try:
        there = place.is_dir()
        above = next(folder for folder in place.parents if folder.exists())
    except OSError as error:
        raise ChunkFault(f"chunk {key} cannot be looked at: {error}") from None
    if there:
        raise ChunkFault(f"chunk {key} is a folder; expected a file")
    if not above.is_dir():
        raise ChunkFault(f"chunk {key} should lie in a folder, but {above.name} is a file")
