"""Volumes in other formats to OME-Zarr: TIFF, PNG and TIFF folders, MRC, HDF5, N5, precomputed.

    open_source -> Source: shape, dtype, voxel size, read(box)
    import_volume: a few shards' worth of voxels at a time -> hidden folder -> levels -> renamed to the target

Voxels are kept exactly; only float64 is rounded, to float32. What a format does not say is asked for, never guessed.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import h5py
import mrcfile
import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image

from emgen import pyramid
from emgen.errors import EmgenError
from emgen.geometry import Box, VoxelSize, Zyx, zyx
from emgen.intensity import HIGH, LOW
from emgen.omezarr import NANOMETRES
from emgen.volume import Ngff, Volume, open_foreign

Array = npt.NDArray[Any]
Read = Callable[[Box], Array]

MEMORY = 512 * 2**20  # bytes of voxels read at once
TIFF = (".tif", ".tiff", ".btf", ".tf8")
SECTIONS = (".png", ".tif", ".tiff")
MRC = (".mrc", ".mrcs", ".rec", ".st", ".ali", ".map")
HDF5 = (".h5", ".hdf5", ".hdf")
UNITS = {
    **NANOMETRES,
    **dict.fromkeys(("\N{GREEK SMALL LETTER MU}m", "\\u00B5m", "micron", "microns"), 1e3),
    **dict.fromkeys(("\N{LATIN CAPITAL LETTER A WITH RING ABOVE}", "\N{ANGSTROM SIGN}", "A"), 0.1),
    **{"pm": 1e-3, "cm": 1e7, "m": 1e9, "inch": 2.54e7},
}
# what an image's voxels are stored as; labels stay as they are, but unsigned
STORED = {
    **{name: name for name in ("uint8", "uint16", "int16", "uint32", "int32", "float32")},
    **{"int8": "int16", "int64": "int32", "uint64": "uint32", "float16": "float32", "float64": "float32"},
}


@dataclass(frozen=True)
class Source:
    """A volume in a foreign format, nothing of it read yet.

    Attributes:
        where: its path, for messages.
        shape: voxels (z, y, x).
        dtype: as in the file.
        voxel: what the file says, or None.
        read: the voxels of a box.
        whole_sections: part of a section costs as much to read as the whole of it.
        offset: of the first voxel from the origin, in voxels.
        notes: what the user should know, in sentences.
    """

    where: str
    shape: Zyx
    dtype: np.dtype[Any]
    voxel: VoxelSize | None
    read: Read
    whole_sections: bool = False
    offset: Zyx = (0, 0, 0)
    notes: tuple[str, ...] = ()


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
    memory: int = MEMORY,
    say: Callable[[str], None] = lambda sentence: None,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Volume:
    """Make an OME-Zarr of a volume in another format.

    Args:
        path: file, folder or URL.
        target: must not exist; appears under this name only when it is complete.
        voxel: voxel size in nm; needed where the format has none, and wins over what the format says.
        dataset: inside an HDF5 file or an N5 container.
        label: the voxels are object numbers, not grey values.
        memory: bytes of voxels read at once (at least one row of shards).
        say: called with each sentence for the user.
        progress: called with the voxels done and their total.

    Raises:
        EmgenError: the source is missing, damaged or not one 3-D volume of real numbers, its voxel size is
            unknown, the target exists, or the disk refuses.
    """
    _check_target(target, chunk, shard)
    with open_source(path, dataset) as source:
        size, sentences = _voxel_size(source, voxel)
        dtype = stored_dtype(source.dtype, label, source.where)
        if dtype != source.dtype.newbyteorder("="):
            sentences.append(f"{source.dtype.name} voxels become {dtype.name}")
        for sentence in (*source.notes, *sentences):
            say(sentence)
        try:
            with _work_folder(target) as work:
                # averaging object numbers would invent objects
                factors = [zyx((1, 1, 1))] if label else pyramid.factors(source.shape, size)
                volume = Volume.create(
                    work / target.name,
                    source.shape,
                    dtype,
                    size,
                    ngff=ngff,
                    chunk=chunk,
                    shard=shard,
                    factors=factors,
                    origin=_origin(source, size),
                    window=None if label else _window(source, dtype),
                    label=label,
                )
                _fill(volume, source, work, memory, progress)
                for level in range(1, len(factors)):
                    say(f"level {level} of {len(factors) - 1}")
                    pyramid.build(volume.path, level)
                (work / target.name).rename(target)
        except OSError as error:
            raise EmgenError(f"{target} cannot be written: {error.strerror or error}") from error
    return Volume.open(target)


@contextmanager
def open_source(path: str, dataset: str | None = None) -> Iterator[Source]:
    """Open a volume in a foreign format.

    Raises:
        EmgenError: missing, damaged, of an unknown format, or not one 3-D volume.
    """
    with ExitStack() as stack:
        with _reading(path):
            source = _open(path, dataset, stack)
        if 0 in source.shape or not 2 < len(source.shape) < 4:
            raise EmgenError(f"{path} holds no voxels: its shape is {source.shape}")
        yield source


def stored_dtype(found: np.dtype[Any], label: bool, where: str = "the source") -> np.dtype[Any]:
    """What voxels of a type are stored as.

    >>> stored_dtype(np.dtype(">f8"), label=False)
    dtype('float32')

    Raises:
        EmgenError: boolean, complex, or otherwise not one number per voxel; labels that are not integers.
    """
    if label and found.kind in "iu":
        return np.dtype(f"uint{found.itemsize * 8}")
    if label:
        raise EmgenError(f"{where} has {found.name} voxels; labels must be integers: leave out --label for an image")
    if found.name not in STORED:
        raise EmgenError(
            f"{where} has {found.name} voxels; expected one integer or real number per voxel: "
            f"convert it to one of {', '.join(STORED)} first"
        )
    return np.dtype(STORED[found.name])


def convert(voxels: Array, dtype: np.dtype[Any]) -> Array:
    """The voxels in their stored type; exact but for float64, which is rounded.

    Raises:
        EmgenError: a value does not fit.
    """
    if dtype.kind in "iu" and not np.can_cast(voxels.dtype, dtype):
        low, high, limits = int(voxels.min()), int(voxels.max()), np.iinfo(dtype)
        if low < limits.min or high > limits.max:
            hint = "object numbers need --label" if high > limits.max else "object numbers must not be negative"
            raise EmgenError(f"values from {low} to {high} do not fit into {dtype.name}; {hint}")
    try:
        with np.errstate(over="raise"):
            return voxels.astype(dtype, copy=False)
    except FloatingPointError:
        raise EmgenError(f"values up to {np.abs(voxels).max():g} do not fit into {dtype.name}; rescale them") from None


# ---- from source to target


def _check_target(target: Path, chunk: Zyx, shard: Zyx) -> None:
    if target.suffix != ".zarr":
        raise EmgenError(f'the target must be named like data.ome.zarr, so that viewers know it; found "{target}"')
    if os.path.lexists(target):
        raise EmgenError(f"{target} exists already; emgen never overwrites a volume: remove it or choose another name")
    if not target.parent.is_dir():
        raise EmgenError(f"the folder {target.parent} for {target.name} does not exist; make it first")
    if any(c < 1 for c in chunk) or any(s < 1 or s % c for s, c in zip(shard, chunk, strict=True)):
        raise EmgenError(f"shard {shard} must be whole multiples of chunk {chunk} along z, y, x, both at least 1")


def _voxel_size(source: Source, given: VoxelSize | None) -> tuple[VoxelSize, list[str]]:
    """The size to use and, where the file says otherwise, a sentence about it."""
    found = source.voxel
    if given is None and found is None:
        raise EmgenError(
            f"{source.where} does not say how large its voxels are, and emgen does not guess: "
            "give the size in nm, for example --voxel-size 40,4,4 (z,y,x)"
        )
    if given is None or found is None:
        return (given or found), []  # type: ignore[return-value]  # one of them is there
    if all(math.isclose(a, b, rel_tol=1e-6) for a, b in zip(given, found, strict=True)):
        return given, []
    return given, [f"the file says its voxels are {found}; --voxel-size wins: {given}"]


def _origin(source: Source, size: VoxelSize) -> tuple[float, float, float]:
    z, y, x = (n * s for n, s in zip(source.offset, size, strict=True))
    return z, y, x


def _window(source: Source, dtype: np.dtype[Any]) -> tuple[float, float, float, float]:
    """Display range (min, start, end, max) from the middle of a few sections."""
    depth, height, width = source.shape
    first, step = max(0, height // 2 - 512), -(-width // 1024)
    samples = []
    for k in sorted({int(k) for k in np.linspace(0, depth - 1, 5)}):
        band = Box((k, first, 0), (k + 1, min(height, first + 1024), width))
        samples.append(_read(source, band)[..., ::step].astype(np.float64).ravel())
    values = np.concatenate(samples)
    values = values[np.isfinite(values)]
    low, start, end, high = np.percentile(values, (0, LOW, HIGH, 100)) if values.size else (0.0, 0.0, 1.0, 1.0)
    if dtype.kind in "iu" and dtype.itemsize < 4:
        low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    return float(low), float(start), float(max(end, start + 1e-6 * max(1, abs(start)))), float(high)


def _fill(
    volume: Volume, source: Source, work: Path, memory: int, progress: Callable[[int, int], None]
) -> None:
    """Write level 0, never more than `memory` bytes of it (or one row of write units) at once.

        slab: one write unit high      bands of whole write units
        +-----------------------+      +-----------------------+
        |                       |      +-----------------------+
        |                       |  ->  +-----------------------+
        +-----------------------+      +-----------------------+
    """
    itemsize = max(source.dtype.itemsize, volume.dtype.itemsize)
    done, total = 0, math.prod(source.shape)
    for slab in _cut(Box.whole(source.shape), axis=0, length=volume.unit[0]):
        depth, _, width = slab.shape
        rows = memory // (depth * width * itemsize) // volume.unit[1] * volume.unit[1]
        bands = _cut(slab, axis=1, length=max(rows, volume.unit[1]))
        with _spooled(source, slab, work, len(bands)) as ready:
            for band in bands:
                try:
                    volume.write(band, convert(_read(ready, band), volume.dtype))
                except EmgenError as error:
                    raise EmgenError(f"{source.where}, sections {band.start[0]} to {band.stop[0] - 1}: {error}") from error
                done += band.size
                progress(done, total)


def _cut(box: Box, axis: int, length: int) -> list[Box]:
    pieces = []
    for at in range(box.start[axis], box.stop[axis], length):
        start, stop = list(box.start), list(box.stop)
        start[axis], stop[axis] = at, min(at + length, box.stop[axis])
        pieces.append(Box(zyx(start), zyx(stop)))
    return pieces


@contextmanager
def _spooled(source: Source, slab: Box, work: Path, bands: int) -> Iterator[Source]:
    """The source, its slab unpacked to disk where each band would decode all of its sections again."""
    if bands == 1 or not source.whole_sections:
        yield source
        return
    raw = work / "slab.raw"
    voxels = np.memmap(raw, source.dtype, mode="w+", shape=slab.shape)
    for section in _cut(slab, axis=0, length=1):
        voxels[section.relative_to(slab).slices] = _read(source, section)
    yield replace(source, read=lambda box: np.asarray(voxels[box.relative_to(slab).slices]))
    raw.unlink()


@contextmanager
def _work_folder(target: Path) -> Iterator[Path]:
    """A hidden folder beside the target, removed at the end whatever happens."""
    work = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".partial", dir=target.parent))
    try:
        yield work
    finally:
        # after Ctrl-C the writing threads may still put a last chunk there
        for pause in (0.0, 0.2, 1.0):
            time.sleep(pause)
            shutil.rmtree(work, ignore_errors=True)
            if not work.exists():
                break


def _read(source: Source, box: Box) -> Array:
    with _reading(source.where):
        voxels = source.read(box)
    if voxels.shape != box.shape:
        raise EmgenError(f"{source.where}: expected voxels of shape {box.shape}, found {voxels.shape}; it may be damaged")
    return voxels


@contextmanager
def _reading(where: str) -> Iterator[None]:
    """Whatever a format's library raises becomes one message."""
    try:
        yield
    except EmgenError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split())
        raise EmgenError(
            f"{where} cannot be read ({type(error).__name__}: {reason}); it may be damaged, incomplete or not what its name says"
        ) from error


# ---- the formats


def _open(path: str, dataset: str | None, stack: ExitStack) -> Source:
    if "://" in path:
        return _url(path, dataset)
    file = Path(path)
    if not file.exists():
        raise EmgenError(f"there is nothing at {path}; expected a file or a folder")
    suffix = file.suffix.lower()
    if suffix in HDF5:
        return _hdf5(file, dataset, stack)
    if file.is_dir() and (file / "attributes.json").exists() or suffix == ".n5":
        return _n5(file, dataset)
    if dataset is not None:
        raise EmgenError(f"--dataset is for HDF5 and N5; {path} is neither")
    if file.is_dir():
        return _folder(file, stack)
    if suffix in TIFF:
        return _tiff(file, stack)
    if suffix in MRC:
        return _mrc(file, stack)
    if suffix in SECTIONS:
        return _sections([file], stack)
    raise EmgenError(
        f"{path}: emgen does not know the format {suffix or 'of a file without a suffix'}; it reads TIFF, a folder of PNG "
        "or TIFF sections, MRC, HDF5, N5 and Neuroglancer precomputed: export the data as one of these"
    )


def _folder(folder: Path, stack: ExitStack) -> Source:
    if (folder / "info").is_file():
        return _foreign("precomputed", str(folder))
    if any((folder / name).exists() for name in ("zarr.json", ".zgroup", ".zarray", ".zattrs")):
        raise EmgenError(f"{folder} is Zarr already; emgen works on OME-Zarr as it is, so there is nothing to import")
    files = [f for f in folder.iterdir() if f.is_file() and not f.name.startswith(".")]
    sections = sorted((f for f in files if f.suffix.lower() in SECTIONS), key=natural)
    if not sections:
        raise EmgenError(f"the folder {folder} has no sections in it; expected files ending in {', '.join(SECTIONS)}")
    source = _sections(sections, stack)
    others = len(files) - len(sections)
    notes = ([f"{others} other files in {folder} are left out"] if others else []) + _gaps(sections)
    return replace(source, where=str(folder), notes=(*source.notes, *notes))


def natural(file: Path) -> list[Any]:
    """Sorting key: numbers in a name by their value, so that 2 comes before 10.

    >>> [p.name for p in sorted([Path("s10.png"), Path("s2.png")], key=natural)]
    ['s2.png', 's10.png']
    """
    return [int(part) if part.isdigit() else part.lower() for part in re.split(r"(\d+)", file.name)] + [file.name]


def _gaps(sections: Sequence[Path]) -> list[str]:
    """A sentence where the last numbers in the names jump: a missing section shifts all that follow."""
    numbers = [int(found[-1]) for file in sections if (found := re.findall(r"\d+", file.stem))]
    if len(numbers) != len(sections) or len(numbers) < 3:
        return []
    steps = np.diff(numbers)
    usual = int(np.median(steps))
    return [
        f"section numbers jump from {numbers[i]} to {numbers[i + 1]} ({sections[i].name}, {sections[i + 1].name}): "
        "is one missing?"
        for i in np.flatnonzero(steps != usual)[:3]
    ]


def _sections(files: Sequence[Path], stack: ExitStack) -> Source:
    """One image file per section, all of one shape and type."""
    # EM sections are larger than what Pillow takes for an attack
    stack.callback(setattr, Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    Image.MAX_IMAGE_PIXELS = None
    (shape, dtype), *others = headers = [_header(file) for file in files]
    for file, header in zip(files[1:], others, strict=True):
        if header != (shape, dtype):
            usual = max(headers, key=headers.count)
            odd, (found, kind) = (file, header) if header != usual else (files[0], headers[0])
            raise EmgenError(
                f"{odd} has {found[0]} x {found[1]} pixels of {kind.name}, the other sections have "
                f"{usual[0][0]} x {usual[0][1]} pixels of {usual[1].name}; all must be alike: crop, pad or remove it"
            )
    voxels = zyx((len(files), *shape))
    read = _by_sections(lambda k: _section(files[k]), voxels, dtype)
    return Source(str(files[0]), voxels, dtype, None, read, whole_sections=True)


def _header(file: Path) -> tuple[tuple[int, int], np.dtype[Any]]:
    """Shape (y, x) and type of a section."""
    with _reading(str(file)):
        if file.suffix.lower() in TIFF:
            with ExitStack() as stack:
                tiff = _tiff(file, stack)
            if tiff.shape[0] != 1:
                raise EmgenError(f"{file} has {tiff.shape[0]} pages; expected one section per file in a folder")
            return tiff.shape[1:], tiff.dtype
        with Image.open(file) as image:
            dtype = {"L": "uint8", "I;16": "uint16", "I;16B": "uint16", "I": "int32", "1": "bool"}.get(image.mode)
            if dtype is None:
                raise EmgenError(f"{file} is a colour image ({image.mode}); expected grey values: convert it to grey")
            return (image.height, image.width), np.dtype(dtype)


def _section(file: Path) -> Array:
    with _reading(str(file)):
        if file.suffix.lower() in TIFF:
            with ExitStack() as stack:
                tiff = _tiff(file, stack)
                return tiff.read(Box.whole(tiff.shape))[0]
        with Image.open(file) as image:
            return np.asarray(image)


def _by_sections(section: Callable[[int], Array], shape: Zyx, dtype: np.dtype[Any]) -> Read:
    def read(box: Box) -> Array:
        voxels = np.empty(box.shape, dtype)
        _, rows, columns = box.slices
        for k in range(box.start[0], box.stop[0]):
            plane = section(k)
            if plane.shape != shape[1:]:
                raise EmgenError(f"section {k} has shape {plane.shape}; expected {shape[1:]}")
            voxels[k - box.start[0]] = plane[rows, columns]
        return voxels

    return read


def _tiff(file: Path, stack: ExitStack) -> Source:
    """TIFF, BigTIFF, ImageJ and OME-TIFF: uncompressed stacks are mapped, others read page by page."""
    problems = stack.enter_context(_tifffile_errors())
    tiff = stack.enter_context(tifffile.TiffFile(file))
    series = tiff.series
    # a file cut short only loses its last pages without an exception
    if problems:
        raise EmgenError(f"{file} is damaged or incomplete: {problems[0]}")
    if len(series) != 1:
        shapes = ", ".join("x".join(str(n) for n in each.shape) for each in series[:5])
        raise EmgenError(f"{file} holds {len(series)} images of different kinds ({shapes}); expected one stack")
    stack_of = series[0]
    shape, notes = _tiff_shape(file, stack_of.axes, stack_of.shape)
    voxel = _ome_voxel(tiff) if tiff.is_ome else _imagej_voxel(tiff) if tiff.is_imagej else None
    if tiff.pages.first.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        notes.append(f"{file} counts from white to black; the numbers are kept, so it will look inverted")
    dtype = np.dtype(tiff.byteorder + stack_of.dtype.str[1:])
    if stack_of.dataoffset is not None and stack_of.keyframe.is_memmappable:
        mapped = np.memmap(file, dtype, mode="r", offset=stack_of.dataoffset, shape=shape)
        return Source(str(file), shape, dtype, voxel, _sliced(mapped), notes=tuple(notes))
    pages = stack_of.pages
    missing = [k for k in range(len(pages)) if pages[k] is None]
    if missing or len(pages) != shape[0]:
        raise EmgenError(f"{file} should have {shape[0]} sections, found {len(pages) - len(missing)}; is a file missing?")

    def section(k: int) -> Array:
        page = pages[k]
        try:
            return np.asarray(page.asarray()).reshape(shape[1:])
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            raise EmgenError(f"{file} is compressed with {page.compression.name}: `pip install imagecodecs`") from None

    read = _by_sections(section, shape, stack_of.dtype)
    return Source(str(file), shape, stack_of.dtype, voxel, read, whole_sections=True, notes=tuple(notes))


def _tiff_shape(file: Path, axes: str, shape: Sequence[int]) -> tuple[Zyx, list[str]]:
    if "S" in axes:
        raise EmgenError(f"{file} is a colour image (axes {axes}); expected grey values: convert it to grey")
    if axes == "YX":
        return zyx((1, *shape)), []
    # Z, or what tifffile calls pages without a meaning; many programs save sections as time points
    if len(axes) == 3 and axes[1:] == "YX" and axes[0] in "ZQIT":
        notes = [f"{file} calls its sections time points; they are taken as z"] if axes[0] == "T" else []
        return zyx(shape), notes
    raise EmgenError(
        f"{file} has axes {axes} of lengths {tuple(shape)}; expected one stack of sections (z, y, x): "
        "export the channel or time point you mean"
    )


@contextmanager
def _tifffile_errors() -> Iterator[list[str]]:
    """What tifffile says about pages and series that it could not read; it says so in its log only."""
    found: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            message = record.getMessage()
            if record.levelno >= logging.ERROR and ("page" in message or "series" in message):
                found.append(message)

    handler, logger = Collect(), logging.getLogger("tifffile")
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(handler)
    try:
        yield found
    finally:
        logger.removeHandler(handler)
        logger.propagate = propagate


def _ome_voxel(tiff: tifffile.TiffFile) -> VoxelSize | None:
    pixels = ElementTree.fromstring(tiff.ome_metadata or "<none/>").find(".//{*}Pixels")
    if pixels is None:
        return None
    # micrometres where the file names no unit: https://docs.openmicroscopy.org/ome-model/6.3.1/
    sizes = [
        _nanometres(pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "um")) for axis in "ZYX"
    ]
    return _size(sizes)


def _imagej_voxel(tiff: tifffile.TiffFile) -> VoxelSize | None:
    """From `spacing` and the resolution tags, which count pixels per `unit`.

    The resolution tags of other TIFF files are about printing (72 dots per inch) and never used.
    """
    metadata, tags = tiff.imagej_metadata or {}, tiff.pages.first.tags
    unit = str(metadata.get("unit", ""))
    sizes = [_nanometres(metadata.get("spacing"), unit)]
    for name in ("YResolution", "XResolution"):
        count, length = tags[name].value if name in tags else (0, 1)
        sizes.append(_nanometres(length / count if count else None, unit))
    return _size(sizes)


def _mrc(file: Path, stack: ExitStack) -> Source:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        mrc = stack.enter_context(mrcfile.mmap(file, mode="r"))
    data, header = mrc.data, mrc.header
    if (axes := tuple(int(header[name]) for name in ("mapc", "mapr", "maps"))) not in ((1, 2, 3), (0, 0, 0)):
        raise EmgenError(f"{file} stores its axes in the order {axes}; expected x fastest (1, 2, 3): reorder it first")
    if int(header.mode) == 0 and _mrc_unsigned(header):
        data = data.view(np.uint8)
    # angstrom; 0 where nobody has set it
    sizes = [float(mrc.voxel_size[axis]) / 10 for axis in ("z", "y", "x")]
    notes = [f"{file}: {warning.message}" for warning in caught]
    if sizes == [0.1, 0.1, 0.1]:
        notes.append(f"{file} says its voxels are 0.1 nm, which programs write when they do not know: --voxel-size sets it")
    return Source(str(file), _shape(data, file), data.dtype, _size(sizes), _sliced(data), notes=tuple(notes))


def _mrc_unsigned(header: Any) -> bool:
    """Whether mode 0 holds unsigned bytes: signed in the standard, unsigned in IMOD's and SerialEM's older files.

    IMOD stamps its files and says which: https://bio3d.colorado.edu/imod/doc/mrc_format.txt
    """
    extra = bytes(header.extra2)
    stamp, flags = (int.from_bytes(extra[at : at + 4], "little") for at in (40, 44))
    if stamp == 1146047817:
        return not flags & 1
    return float(header.dmax) > 127


def _hdf5(file: Path, dataset: str | None, stack: ExitStack) -> Source:
    hdf5 = stack.enter_context(h5py.File(file, "r"))
    found: dict[str, h5py.Dataset] = {}

    def collect(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.ndim == 3:
            found[name] = item

    hdf5.visititems(collect)
    data = hdf5.get(dataset or _only(found, str(file)))
    if not isinstance(data, h5py.Dataset):
        raise EmgenError(f"{file} has no data set {dataset}; 3-D data sets in it: {', '.join(found) or 'none'}")
    voxel = None
    for name, unit in (("resolution", 1.0), ("element_size_um", 1e3)):
        if voxel is None and name in data.attrs:
            voxel = _size([float(size) * unit for size in np.ravel(data.attrs[name])])
    return Source(f"{file}:{data.name}", _shape(data, file), data.dtype, voxel, _sliced(data))


def _n5(folder: Path, dataset: str | None) -> Source:
    if dataset is None and "dimensions" not in _n5_attributes(folder):
        dataset = _only(_n5_datasets(folder), str(folder))
    path = folder / (dataset or "")
    if "dimensions" not in _n5_attributes(path):
        raise EmgenError(f"{folder} has no data set {dataset}; found {', '.join(_n5_datasets(folder)) or 'none'}")
    source = _foreign("n5", str(path))
    return replace(source, voxel=source.voxel or _n5_voxel(path))


def _n5_datasets(folder: Path) -> list[str]:
    found = []
    for place, folders, _ in os.walk(folder):
        dimensions = _n5_attributes(Path(place)).get("dimensions", [])
        if dimensions:
            # below are its chunks, perhaps millions
            folders.clear()
        if len(dimensions) == 3:
            found.append(Path(place).relative_to(folder).as_posix())
    return sorted(found)


def _n5_attributes(folder: Path) -> dict[str, Any]:
    file = folder / "attributes.json"
    attributes = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    return attributes if isinstance(attributes, dict) else {}


def _n5_voxel(path: Path) -> VoxelSize | None:
    """From `pixelResolution` (x, y, z) of the data set or its group, times `downsamplingFactors`.

    A bare `resolution` is not used: some programs write it z first, some x first.
    """
    own = _n5_attributes(path)
    resolution = own.get("pixelResolution", _n5_attributes(path.parent).get("pixelResolution"))
    if not isinstance(resolution, dict):
        return None
    dimensions, factors = resolution.get("dimensions", []), own.get("downsamplingFactors", (1, 1, 1))
    sizes = [_nanometres(d * f, str(resolution.get("unit"))) for d, f in zip(dimensions, factors, strict=True)]
    return _size(sizes[::-1])


def _url(url: str, dataset: str | None) -> Source:
    kind, _, rest = url.partition("://")
    if kind == "precomputed" and dataset is None:
        return _foreign("precomputed", rest)
    if kind == "n5":
        return _foreign("n5", f"{rest.rstrip('/')}/{dataset}" if dataset else rest)
    raise EmgenError(f'{url}: put "precomputed://" or "n5://" before the address, to say what is there')


def _foreign(kind: Literal["n5", "precomputed"], path: str) -> Source:
    data, voxel = open_foreign(kind, path)
    shape = _shape(data, path)
    offset = zyx(data.origin) if len(data.shape) == 3 else (0, 0, 0)

    def read(box: Box) -> Array:
        return np.asarray(_sliced(data)(box.shift(offset)))

    return Source(path, shape, np.dtype(data.dtype.numpy_dtype), voxel, read, offset=offset)


def _only(found: Sequence[str] | dict[str, Any], where: str) -> str:
    names = list(found)
    if len(names) != 1:
        listed = f"one of {', '.join(names)}: choose with --dataset" if names else "none: name one with --dataset"
        raise EmgenError(f"{where}: expected one 3-D data set, found {listed}")
    return names[0]


def _shape(data: Any, where: str | Path) -> Zyx:
    """Shape (z, y, x) of a 3-D array, or of a 2-D one as a single section."""
    shape = tuple(data.shape)
    if len(shape) not in (2, 3):
        raise EmgenError(f"{where} has shape {shape}; expected one 3-D volume (z, y, x): export the part that you mean")
    if len(shape) == 3 and shape[2] in (3, 4) < shape[:2]:
        raise EmgenError(f"{where} has shape {shape}, a colour image by the look of it; expected grey values (z, y, x)")
    return zyx(shape if len(shape) == 3 else (1, *shape))


def _sliced(data: Any) -> Read:
    """Boxes of a 3-D array, or of a 2-D one as a single section."""
    if len(data.shape) == 2:
        return lambda box: np.asarray(data[box.slices[1:]])[None]
    return lambda box: np.asarray(data[box.slices])


def _nanometres(size: Any, unit: str) -> float | None:
    return None if size is None or unit.strip() not in UNITS else float(size) * UNITS[unit.strip()]


def _size(sizes: Sequence[float | None]) -> VoxelSize | None:
    """A voxel size, or None where one of the three is missing or is no positive number."""
    known = [size for size in sizes if size is not None and math.isfinite(size) and size > 0]
    return VoxelSize(*known) if len(sizes) == len(known) == 3 else None
