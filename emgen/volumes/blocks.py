"""Results of blocks on disk, until they are stitched: one Zarr chunk for every block and field.

blocks/0-999.zarr/mean/c.17.0.0.0       block 17; a chunk is written whole or not at all
blocks/0-999.zarr/std/c.17.0.0.0        only with more than one sample

A store holds a fixed range of blocks, whichever jobs do them: they may be shared out otherwise at the next start. Which
blocks are done is written in the run's ledger, not here.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr
from zarr.storage import MemoryStore

from emgen.errors import EmgenError
from emgen.geometry import Box, Zyx
from emgen.volumes.stamp import Stamp, clear, compared, replace_with, secured
from emgen.volumes.volume import blosc

PER_STORE = 1000
"""Blocks of a store: a folder holds no more files than that."""
# A block of zeros is a result like any other: its chunk must be there. Said of every array that is opened, because
# zarr's configuration is one for the whole process, and blocks are written by several threads.
ZEROS_TOO: Any = {"write_empty_chunks": True}


@dataclass(frozen=True)
class BlockStores:
    """The results of a run's blocks: for every block and field one array (z, y, x), written atomically.

    Several threads and processes may write different blocks at once.

    Attributes:
        folder: of the stores.
        key: hash of everything the voxels depend on.
        shape: voxels (z, y, x) of the largest outer box; smaller blocks are padded to it.
        fields: name and dtype of each result.
    """

    folder: Path
    key: str
    shape: Zyx
    fields: dict[str, npt.DTypeLike]

    def store(self, index: int) -> Path:
        """The store that block `index` of the grid belongs to."""
        first = index - index % PER_STORE
        return self.folder / f"{first}-{first + PER_STORE - 1}.zarr"

    def files(self, index: int) -> dict[str, Path]:
        """The file of each field of a block."""
        name = f"c.{index % PER_STORE}.0.0.0"
        store = self.store(index)
        return {field: store / field / name for field in self.fields}

    def prepare(self, index: int) -> None:
        """See to it that the store of a block is there, and that its metadata are whole.

        All of them follow from the plan, so what is damaged is written anew, and several processes may do so at once.
        """
        for path in self.damaged_metadata(self.store(index)):
            text = self._metadata[str(path.relative_to(self.store(index)))]
            replace_with(path, text)

    def existing(self) -> dict[int, Path]:
        """The stores that are there, each under the number of its first block."""
        stores = {int(path.name.split("-")[0]): path for path in self.folder.glob("*-*.zarr")}
        return {first: stores[first] for first in sorted(stores)}

    def damaged_metadata(self, store: Path) -> list[Path]:
        """Metadata files of a store that are missing, or do not hold what they must."""
        return [
            store / name
            for name, text in self._metadata.items()
            if not (store / name).is_file() or (store / name).read_bytes() != text
        ]

    def write(self, index: int, voxels: dict[str, npt.NDArray[Any]]) -> tuple[Stamp, ...]:
        """Store every field of a block, and return when it is safe on the disk.

        Args:
            index: of the block in the grid; its store was prepared.
            voxels: an array (z, y, x) for each field, none larger than `shape`.

        Returns:
            The stamp of the file of each field.

        Raises:
            EmgenError: what was written is not there.
            OSError: it cannot be written.
        """
        stamps = []
        for name, path in self.files(index).items():
            padding = [(0, n - m) for n, m in zip(self.shape, voxels[name].shape, strict=True)]
            clear(path)
            self._array(index, name)[index % PER_STORE] = np.pad(voxels[name], padding)
            stamp = secured(path)
            if stamp is None:
                raise EmgenError(
                    f"{path} was written without an error, but no such file is there; "
                    "check the disk or file system, and that no other program removes files; then run again: "
                    "blocks that are done stay"
                )
            stamps.append(stamp)
        return tuple(stamps)

    def read(self, field: str, index: int, box: Box) -> npt.NDArray[Any]:
        """Voxels of one field of a block.

        Args:
            field: its name.
            index: of the block in the grid.
            box: counted from the start of the block's outer box.
        """
        return np.asarray(self._array(index, field)[(index % PER_STORE, *box.slices)])

    def damage(
        self, index: int, stamps: tuple[Stamp | None, ...], thorough: bool = False
    ) -> str | None:
        """What is wrong with the files of a block, None if they hold what was written.

        Args:
            index: of the block in the grid.
            stamps: of its files, as `write` gave them.
            thorough: they are read even where size and time are those of the stamp.
        """
        return compared(self.files(index).values(), stamps, thorough)[0]

    def _array(self, index: int, name: str) -> zarr.Array[Any]:
        path = str(self.store(index) / name)
        return zarr.open_array(path, mode="r+").with_config(ZEROS_TOO)

    @cached_property
    def _metadata(self) -> dict[str, bytes]:
        """Every metadata file of a store, by its path in it."""
        files: dict[str, Any] = {}
        group = zarr.open_group(MemoryStore(files), mode="w", zarr_format=3)
        group.attrs["key"] = self.key
        for name, dtype in self.fields.items():
            group.create_array(
                name,
                shape=(PER_STORE, *self.shape),
                chunks=(1, *self.shape),
                dtype=np.dtype(dtype),
                compressors=blosc(),
                fill_value=0,
                # one file a block, and no folders around it
                chunk_key_encoding={"name": "default", "separator": "."},
            )
        return {name: buffer.to_bytes() for name, buffer in files.items()}
