"""Volumes in other formats to OME-Zarr.

    source -> rows of shards -> hidden folder beside the target -> levels -> renamed to the target

Voxels are kept exactly; only float64 is rounded, to float32. What a format does not say is asked
for, never guessed.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emgen.errors import EmgenError
from emgen.geometry import Box, VoxelSize, Zyx, zyx
from emgen.volumes import pyramid
from emgen.volumes.inputs import refuse_absurd_voxel
from emgen.volumes.intensity import HIGH, LOW
from emgen.volumes.partial import work_folder
from emgen.volumes.sources import STRICT, Allowed, ForeignVolume, open_foreign
from emgen.volumes.volume import Ngff, Volume

Array = npt.NDArray[Any]

MEMORY = 512 * 2**20  # bytes of voxels read at once
THREADS = 4  # that make levels: each needs the memory of eight write units
# type of an image in its file: type as which it is stored, of which viewers know all; labels become unsigned
STORED = {
    "uint8": "uint8",
    "uint16": "uint16",
    "int16": "int16",
    "uint32": "uint32",
    "int32": "int32",
    "float32": "float32",
    "int8": "int16",
    "uint64": "uint32",
    "int64": "int32",
    "float16": "float32",
    "float64": "float32",
}


def import_volume(
    path: str,
    target: Path,
    *,
    voxel: VoxelSize | None = None,
    dataset: str | None = None,
    ngff: Ngff = "0.5",
    chunk: Zyx = (64, 64, 64),
    shard: Zyx = (128, 128, 128),
    label: bool = False,
    allowed: Allowed = STRICT,
    memory: int = MEMORY,
    say: Callable[[str], None] = lambda sentence: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Volume:
    """Make an OME-Zarr of a volume in another format.

    Args:
        path: file, folder or URL.
        target: must not exist; appears under this name only when it is complete.
        voxel: voxel size in nm; needed where the format has none, wins over what the format says.
        dataset: the volume inside an HDF5 file, an N5 container or a precomputed volume (its scale).
        ngff: version of OME-Zarr.
        chunk: voxels (z, y, x) of a chunk.
        shard: voxels (z, y, x) of a shard, whole multiples of the chunk.
        label: the voxels are object numbers, not grey values.
        allowed: what of the source may be missing, unsure or inverted.
        memory: bytes of voxels read at once (at least one row of shards).
        say: called with each sentence for the user.
        progress: called with the voxels done and their total.

    Raises:
        EmgenError: the source is missing, damaged or not one 3-D volume of real numbers, its voxel
            size is unknown, the target exists, or the disk refuses.
    """
    _check_target(target, chunk, shard)
    with open_foreign(path, dataset, allowed) as source:
        for sentence in source.notes:
            say(sentence)
        size, sentences = _voxel_size(source, voxel)
        dtype = stored_dtype(source.dtype, label, source.where)
        if dtype != source.dtype.newbyteorder("="):
            sentences.append(f"{source.dtype.name} voxels become {dtype.name}")
        for sentence in sentences:
            say(sentence)
        create = partial(
            Volume.create,
            shape=source.shape,
            dtype=dtype,
            voxel=size,
            ngff=ngff,
            chunk=chunk,
            shard=shard,
            # averaging object numbers would invent objects
            factors=[zyx((1, 1, 1))] if label else pyramid.factors(source.shape, size),
            origin=_origin(source, size),
            window=None if label else _window(source, dtype),
            label=label,
        )
        try:
            # an interrupt waits for what the pool is writing: nothing comes after the clean-up
            with work_folder(target) as work, ThreadPoolExecutor(THREADS) as pool:
                volume = create(work / target.name)
                not_finite = _fill(volume, source, work, memory, pool, progress)
                for sentence in _left_open(source, not_finite):
                    say(sentence)
                for level in range(1, len(volume.levels)):
                    say(f"making level {level} of {len(volume.levels) - 1}")
                    pyramid.build_in(pool, volume.path, level)
                (work / target.name).rename(target)
        except OSError as error:
            raise EmgenError(f"{target} cannot be written: {error.strerror or error}") from error
    return Volume.open(target)


def stored_dtype(dtype: np.dtype[Any], label: bool, where: str = "the source") -> np.dtype[Any]:
    """The type as which voxels of a type are stored.

    >>> stored_dtype(np.dtype(">f8"), label=False)
    dtype('float32')

    Args:
        dtype: of the voxels in their file.
        label: whether they are object numbers.
        where: their path, for messages.

    Raises:
        EmgenError: boolean, complex or otherwise not one number per voxel; labels not integers.
    """
    if label and dtype.kind in "iu":
        return np.dtype(f"uint{dtype.itemsize * 8}")
    if label:
        raise EmgenError(
            f"{where} has {dtype.name} voxels; labels must be integers: "
            "leave out --label for an image"
        )
    if dtype.name not in STORED:
        raise EmgenError(
            f"{where} has {dtype.name} voxels; expected one integer or real number per voxel: "
            f"convert it to one of {', '.join(STORED)} first"
        )
    return np.dtype(STORED[dtype.name])


def convert(voxels: Array, dtype: np.dtype[Any], where: str = "the source") -> Array:
    """Voxels in the type as which they are stored; exact but for float64, which is rounded to float32.

    Raises:
        EmgenError: a value does not fit.
    """
    if dtype.kind in "iu" and not np.can_cast(voxels.dtype, dtype):
        low, high, limits = int(voxels.min()), int(voxels.max()), np.iinfo(dtype)
        if low < limits.min or high > limits.max:
            raise EmgenError(
                f"{where}: values from {low} to {high} do not fit into {dtype.name}; "
                "rescale an image first, and import object numbers (never negative) with --label"
            )
    try:
        with np.errstate(over="raise"):
            return voxels.astype(dtype, copy=False)
    except FloatingPointError:
        raise EmgenError(
            f"{where}: values up to {np.abs(voxels).max():g} do not fit into {dtype.name}; "
            "rescale them first"
        ) from None


def _check_target(target: Path, chunk: Zyx, shard: Zyx) -> None:
    # "s3://bucket" as a path is a folder "s3:"
    if len(target.parts) > 1 and not target.is_absolute() and target.parts[0].endswith(":"):
        raise EmgenError(
            f"the target must be a folder on this machine, not the address {target.parts[0]}//...: import to a disk, "
            "and copy the result"
        )
    if target.suffix != ".zarr":
        raise EmgenError(
            f'the target must be named like data.ome.zarr, so that viewers know it, not "{target}"'
        )
    if os.path.lexists(target):
        raise EmgenError(
            f"{target} exists already; emgen never overwrites a volume: "
            "remove it or choose another name"
        )
    if not target.parent.is_dir():
        raise EmgenError(
            f"the folder {target.parent} for {target.name} does not exist; make it first"
        )
    if any(c < 1 for c in chunk) or any(s < 1 or s % c for s, c in zip(shard, chunk, strict=True)):
        raise EmgenError(
            f"shard {shard} must be whole multiples of chunk {chunk} along z, y, x, both at least 1"
        )


def _voxel_size(source: ForeignVolume, given: VoxelSize | None) -> tuple[VoxelSize, list[str]]:
    """The size to use and, where the file says otherwise, a sentence about it."""
    said = source.voxel
    size = given or said
    if size is None:
        raise EmgenError(
            f"{source.where} does not say how large its voxels are, and emgen does not guess: "
            "give the size in nm, for example --voxel-size 40,4,4 (z,y,x)"
        )
    refuse_absurd_voxel(size, source.where, "give the size with --voxel-size (z,y,x in nm)")
    agree = said is None or np.allclose(tuple(said), tuple(size), rtol=1e-6, atol=0)
    return size, [] if agree else [
        f"the file says its voxels are {said}; --voxel-size wins: {size}"
    ]


def _origin(source: ForeignVolume, size: VoxelSize) -> tuple[float, float, float]:
    z, y, x = (n * s + o for n, s, o in zip(source.offset, size, source.origin, strict=True))
    return z, y, x


def _left_open(source: ForeignVolume, not_finite: int) -> list[str]:
    """Sentences about voxels that hold no grey value of tissue."""
    sentences = []
    if source.chunks is not None and (missing := source.chunks.missing()):
        sentences.append(
            f"{missing} of {source.chunks.total} chunks are not there; their voxels became {source.chunks.fill:g}"
        )
    if not_finite:
        share = 100 * not_finite / math.prod(source.shape)
        sentences.append(
            f"{not_finite} voxels ({share:.2g} %) are NaN or infinite; they are kept as they are"
        )
    return sentences


def _window(source: ForeignVolume, dtype: np.dtype[Any]) -> tuple[float, float, float, float]:
    """Display range (min, start, end, max) from the middle of a few sections."""
    depth, height, width = source.shape
    first, step = max(0, height // 2 - 512), -(-width // 1024)
    samples = []
    for k in sorted({int(k) for k in np.linspace(0, depth - 1, 5)}):
        band = Box((k, first, 0), (k + 1, min(height, first + 1024), width))
        samples.append(source.read(band)[..., ::step].astype(np.float64).ravel())
    values = np.concatenate(samples)
    values = values[np.isfinite(values)]
    low, start, end, high = (
        np.percentile(values, (0, LOW, HIGH, 100)) if values.size else (0.0, 0.0, 1.0, 1.0)
    )
    if dtype.kind in "iu" and dtype.itemsize < 4:
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    return float(low), float(start), float(max(end, start + 1e-6 * max(1, abs(start)))), float(high)


def _fill(
    volume: Volume,
    source: ForeignVolume,
    work: Path,
    memory: int,
    pool: Executor,
    progress: Callable[[int, int], None],
) -> int:
    """Write level 0, never more than `memory` bytes of it (or one row of write units) at once.

    Returns how many voxels are NaN or infinite.

    slab: one write unit high      bands of whole write units
    +-----------------------+      +-----------------------+
    |                       |      +-----------------------+
    |                       |  ->  +-----------------------+
    +-----------------------+      +-----------------------+
    """
    itemsize = max(source.dtype.itemsize, volume.dtype.itemsize)
    done, total, not_finite = 0, math.prod(source.shape), 0
    for slab in _cut(Box.whole(source.shape), axis=0, length=volume.write_unit[0]):
        depth, _, width = slab.shape
        rows = memory // (depth * width * itemsize) // volume.write_unit[1] * volume.write_unit[1]
        bands = _cut(slab, axis=1, length=max(rows, volume.write_unit[1]))
        with _spooled(source, slab, work, len(bands)) as ready:
            for band in bands:
                where = f"{source.where}, sections {band.start[0]} to {band.stop[0] - 1}"
                voxels = convert(ready.read(band), volume.dtype, where)
                for row in _cut(band, axis=1, length=volume.write_unit[1]):
                    part = voxels[row.relative_to(band).slices]
                    pool.submit(volume.write, row, part).result()
                    if volume.dtype.kind == "f":
                        not_finite += int(np.count_nonzero(~np.isfinite(part)))
                    done += row.size
                    progress(done, total)
    return not_finite


def _cut(box: Box, axis: int, length: int) -> list[Box]:
    pieces = []
    for at in range(box.start[axis], box.stop[axis], length):
        start, stop = list(box.start), list(box.stop)
        start[axis], stop[axis] = at, min(at + length, box.stop[axis])
        pieces.append(Box(zyx(start), zyx(stop)))
    return pieces


@contextmanager
def _spooled(source: ForeignVolume, slab: Box, work: Path, bands: int) -> Iterator[ForeignVolume]:
    """The source, its slab unpacked to disk where each band would decode whole sections again."""
    if bands == 1 or not source.whole_sections:
        yield source
        return
    first, (_, height, width) = slab.start[0], slab.shape
    # not mapped: mapped pages would count as memory of the process
    with tempfile.TemporaryFile(dir=work) as file:
        for section in _cut(slab, axis=0, length=1):
            file.write(source.read(section).tobytes())

        def fetch(box: Box) -> Array:
            voxels = np.empty(box.shape, source.dtype)
            for k, plane in enumerate(voxels, start=box.start[0] - first):
                file.seek((k * height + box.start[1]) * width * source.dtype.itemsize)
                file.readinto(memoryview(plane).cast("B"))  # bands are as wide as the volume
            return voxels

        yield replace(source, fetch=fetch)
