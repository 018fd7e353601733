"""Results of a restore job on disk, until they are stitched: one Zarr chunk for every block and field.

blocks/3.zarr/mean/c/<block of the job>/0/0/0      a chunk is written whole or not at all
blocks/3.zarr/std/c/<block of the job>/0/0/0       only with more than one sample
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from emgen.errors import EmgenError
from emgen.geometry import Box, Zyx, zyx
from emgen.volumes.volume import blosc

# A block of zeros is a result like any other: its chunk must be there. Said of every array that is opened, because
# zarr's configuration is one for the whole process, and blocks are written by several threads.
ZEROS_TOO: Any = {"write_empty_chunks": True}


@dataclass(frozen=True)
class BlockStore:
    """The blocks of one restore job: for every block and field one array (z, y, x), written atomically.

    Several threads may write different blocks at once.

    Attributes:
        path: the folder.
        fields: names of the results, in the order in which those of a block are written: a block is done when
            its last field is there.
        shape: voxels (z, y, x) of the largest outer box; smaller blocks are padded to it.
    """

    path: Path
    fields: tuple[str, ...]
    shape: Zyx

    @classmethod
    def open(
        cls, path: Path, key: str, count: int, shape: Zyx, fields: dict[str, npt.DTypeLike]
    ) -> BlockStore:
        """Open the store made with this key, or begin it anew: results of another key are never mixed in.

        Args:
            path: the folder.
            key: hash of everything the voxels depend on.
            count: number of blocks.
            shape: voxels (z, y, x) of the largest outer box among them.
            fields: name and dtype of each result.
        """
        if _key(path) != key:
            shutil.rmtree(path, ignore_errors=True)
            group = zarr.open_group(str(path), mode="w", zarr_format=3)
            for name, dtype in fields.items():
                group.create_array(
                    name,
                    shape=(count, *shape),
                    chunks=(1, *shape),
                    dtype=np.dtype(dtype),
                    compressors=blosc(),
                    fill_value=0,
                )
            # the key comes last: a store without it was never finished being made
            group.attrs["key"] = key
        return cls(path, tuple(fields), shape)

    @classmethod
    def existing(cls, path: Path, key: str) -> BlockStore:
        """Open a store to read from it.

        Raises:
            EmgenError: there is none made with this key.
        """
        if _key(path) != key:
            raise EmgenError(f"{path} holds no results of this plan; run the restore job again")
        arrays = dict(zarr.open_group(str(path), mode="r").arrays())
        fields = tuple(sorted(arrays, reverse=True))
        return cls(path, fields, zyx(arrays[fields[0]].shape[1:]))

    def done(self, index: int) -> bool:
        """Whether block number `index` of the job has its result."""
        return self._chunk(self.fields[-1], index).exists()

    def write(self, index: int, voxels: dict[str, npt.NDArray[Any]]) -> None:
        """Store every field of block number `index` of the job.

        Args:
            index: counted from the job's first block.
            voxels: an array (z, y, x) for each field, none larger than the store's `shape`.

        Raises:
            EmgenError: what was written is not there.
            OSError: it cannot be written.
        """
        for name in self.fields:
            padding = [(0, n - m) for n, m in zip(self.shape, voxels[name].shape, strict=True)]
            self._array(name)[index] = np.pad(voxels[name], padding)
            if not self._chunk(name, index).exists():
                raise EmgenError(
                    f"{self._chunk(name, index)} was written without an error, but no such file is there; "
                    "check the disk or file system, and that no other program removes files; then run again: "
                    "blocks that are done stay"
                )

    def read(self, field: str, index: int, box: Box) -> npt.NDArray[Any]:
        """Voxels of one field of block number `index` of the job.

        Args:
            field: its name.
            index: counted from the job's first block.
            box: counted from the start of the block's outer box.

        Raises:
            EmgenError: the block has no result.
        """
        if not self.done(index):
            raise EmgenError(
                f"{self.path} has no result for its block {index}; run the restore job again"
            )
        return np.asarray(self._array(field)[(index, *box.slices)])

    def _array(self, name: str) -> zarr.Array[Any]:
        return zarr.open_array(str(self.path / name), mode="r+").with_config(ZEROS_TOO)

    def _chunk(self, name: str, index: int) -> Path:
        return self.path / name / "c" / str(index) / "0" / "0" / "0"


def _key(path: Path) -> str | None:
    """The key of a finished store; None where there is none, or something else."""
    if not path.exists():
        return None
    try:
        return str(zarr.open_group(str(path), mode="r").attrs["key"])
    except Exception:
        # whatever is wrong with it, it is not a finished store
        return None
