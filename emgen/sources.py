"""Volumes in other formats, read lazily: TIFF, folders of sections, MRC, HDF5, N5, precomputed.

`open_source` looks at names and headers only; `Source.read(box)` then reads what a box needs.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
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

from emgen.errors import EmgenError
from emgen.geometry import Box, VoxelSize, Zyx, zyx
from emgen.omezarr import NANOMETRES
from emgen.volume import open_foreign

Array = npt.NDArray[Any]
Read = Callable[[Box], Array]

TIFF = (".tif", ".tiff", ".btf", ".tf8")
SECTIONS = (".png", ".tif", ".tiff")
MRC = (".mrc", ".mrcs", ".rec", ".st", ".ali", ".map")
HDF5 = (".h5", ".hdf5", ".hdf")
UNITS = {
    **NANOMETRES,
    **dict.fromkeys(("\N{GREEK SMALL LETTER MU}m", "\\u00B5m", "micron", "microns"), 1e3),
    **dict.fromkeys(("\N{LATIN CAPITAL LETTER A WITH RING ABOVE}", "\N{ANGSTROM SIGN}", "A"), 0.1),
    "pm": 1e-3,
    "cm": 1e7,
    "m": 1e9,
    "inch": 2.54e7,
}


@dataclass(frozen=True)
class Source:
    """A volume in a foreign format, nothing of it read yet.

    Attributes:
        where: its path, for messages.
        shape: voxels (z, y, x).
        dtype: as in the file.
        voxel: what the file says, or None.
        fetch: the voxels of a box, as the format's library gives them.
        whole_sections: part of a section costs as much to read as the whole of it.
        offset: of the first voxel from the origin, in voxels.
        notes: what the user should know, in sentences.
    """

    where: str
    shape: Zyx
    dtype: np.dtype[Any]
    voxel: VoxelSize | None
    fetch: Read
    whole_sections: bool = False
    offset: Zyx = (0, 0, 0)
    notes: tuple[str, ...] = ()

    def read(self, box: Box) -> Array:
        """The voxels of a box inside the volume.

        Raises:
            EmgenError: they cannot be read or decoded.
        """
        with _reading(self.where):
            voxels = self.fetch(box)
        if voxels.shape != box.shape:
            raise EmgenError(
                f"{self.where}: expected voxels of shape {box.shape}, found {voxels.shape}; "
                "it may be damaged"
            )
        return voxels


@contextmanager
def open_source(path: str, dataset: str | None = None) -> Iterator[Source]:
    """Open a volume in a foreign format.

    Raises:
        EmgenError: missing, damaged, of an unknown format, or not one 3-D volume.
    """
    with ExitStack() as stack:
        with _reading(path):
            source = _open(path, dataset, stack)
        if 0 in source.shape:
            raise EmgenError(f"{path} holds no voxels: its shape is {source.shape}")
        yield source


def _open(path: str, dataset: str | None, stack: ExitStack) -> Source:
    if "://" in path:
        return _url(path, dataset)
    file = Path(path)
    if not file.exists():
        raise EmgenError(f"there is nothing at {path}; expected a file or a folder")
    suffix = file.suffix.lower()
    if suffix in HDF5:
        return _hdf5(file, dataset, stack)
    if suffix == ".n5" or (file.is_dir() and (file / "attributes.json").exists()):
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
        f"{path}: emgen does not know the format {suffix or 'of a file without a suffix'}; "
        "it reads TIFF, folders of PNG or TIFF sections, MRC, HDF5, N5 and precomputed: "
        "export the data as one of these"
    )


def _folder(folder: Path, stack: ExitStack) -> Source:
    if (folder / "info").is_file():
        return _foreign("precomputed", str(folder))
    if any((folder / name).exists() for name in ("zarr.json", ".zgroup", ".zarray", ".zattrs")):
        raise EmgenError(
            f"{folder} is Zarr already; emgen works on OME-Zarr as it is, without an import"
        )
    files = [f for f in folder.iterdir() if f.is_file() and not f.name.startswith(".")]
    sections = sorted((f for f in files if f.suffix.lower() in SECTIONS), key=natural)
    if not sections:
        raise EmgenError(
            f"the folder {folder} has no sections in it; "
            f"expected files ending in {', '.join(SECTIONS)}"
        )
    source = _sections(sections, stack)
    others = len(files) - len(sections)
    notes = ([f"{others} other files in {folder} are left out"] if others else []) + _gaps(sections)
    return replace(source, where=str(folder), notes=(*source.notes, *notes))


def natural(file: Path) -> list[Any]:
    """Sorting key: numbers in a name by their value, so that 2 comes before 10.

    >>> [p.name for p in sorted([Path("s10.png"), Path("s2.png")], key=natural)]
    ['s2.png', 's10.png']
    """
    return [
        int(part) if part.isdigit() else part.lower() for part in re.split(r"(\d+)", file.name)
    ] + [file.name]


def _gaps(sections: Sequence[Path]) -> list[str]:
    """A sentence where the numbers in the names jump: a missing section shifts all that follow."""
    numbers = [int(found[-1]) for file in sections if (found := re.findall(r"\d+", file.stem))]
    if len(numbers) != len(sections) or len(numbers) < 3:
        return []
    steps = np.diff(numbers)
    usual = int(np.median(steps))
    return [
        f"section numbers jump from {numbers[i]} to {numbers[i + 1]} "
        f"({sections[i].name}, {sections[i + 1].name}): is one missing?"
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
                f"{usual[0][0]} x {usual[0][1]} pixels of {usual[1].name}; all must be alike: "
                "crop, pad or remove it"
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
                raise EmgenError(
                    f"{file} has {tiff.shape[0]} pages; expected one section per file in a folder"
                )
            return tiff.shape[1:], tiff.dtype
        with Image.open(file) as image:
            dtype = {
                "L": "uint8",
                "I;16": "uint16",
                "I;16B": "uint16",
                "I": "int32",
                "1": "bool",
            }.get(image.mode)
            if dtype is None:
                raise EmgenError(
                    f"{file} is a colour image ({image.mode}); expected grey values: "
                    "convert it to grey"
                )
            return (image.height, image.width), np.dtype(dtype)


def _section(file: Path) -> Array:
    with _reading(str(file)):
        if file.suffix.lower() in TIFF:
            with ExitStack() as stack:
                tiff = _tiff(file, stack)
                return np.asarray(tiff.read(Box.whole(tiff.shape))[0])
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
    """Any TIFF: a stack in one piece is mapped, others are read page by page."""
    problems = stack.enter_context(_tifffile_errors())
    tiff = stack.enter_context(tifffile.TiffFile(file))
    series = tiff.series
    # a file cut short only loses its last pages without an exception
    if problems:
        raise EmgenError(f"{file} is damaged or incomplete: {problems[0]}")
    if len(series) != 1:
        shapes = ", ".join("x".join(str(n) for n in each.shape) for each in series[:5])
        raise EmgenError(
            f"{file} holds {len(series)} images of different kinds ({shapes}); expected one stack"
        )
    stack_of = series[0]
    shape, notes = _tiff_shape(file, stack_of.axes, stack_of.shape)
    voxel = _ome_voxel(tiff) if tiff.is_ome else _imagej_voxel(tiff) if tiff.is_imagej else None
    if tiff.pages.first.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        notes.append(
            f"{file} counts from white to black; the numbers are kept, so it will look inverted"
        )
    dtype = np.dtype(tiff.byteorder + stack_of.dtype.str[1:])
    if stack_of.dataoffset is not None and stack_of.keyframe.is_memmappable:
        mapped = np.memmap(file, dtype, mode="r", offset=stack_of.dataoffset, shape=shape)
        return Source(str(file), shape, dtype, voxel, _sliced(mapped), notes=tuple(notes))
    pages = stack_of.pages
    missing = [k for k in range(len(pages)) if pages[k] is None]
    if missing or len(pages) != shape[0]:
        raise EmgenError(
            f"{file} should have {shape[0]} sections, found {len(pages) - len(missing)}; "
            "is a file missing?"
        )

    def section(k: int) -> Array:
        page: Any = pages[k]
        try:
            return np.asarray(page.asarray()).reshape(shape[1:])
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            name = page.compression.name
            raise EmgenError(
                f"{file} is compressed with {name}; `pip install imagecodecs` to read it"
            ) from None

    read = _by_sections(section, shape, stack_of.dtype)
    return Source(
        str(file), shape, stack_of.dtype, voxel, read, whole_sections=True, notes=tuple(notes)
    )


def _tiff_shape(file: Path, axes: str, shape: Sequence[int]) -> tuple[Zyx, list[str]]:
    if "S" in axes:
        raise EmgenError(
            f"{file} is a colour image (axes {axes}); expected grey values: convert it to grey"
        )
    if axes == "YX":
        return zyx((1, *shape)), []
    # Z, or what tifffile calls pages without a meaning
    if len(axes) == 3 and axes[1:] == "YX" and axes[0] in "ZQI":
        return zyx(shape), []
    # many programs save sections as time points or channels; up to four may be detectors or colours
    if (
        len(axes) == 3
        and axes[1:] == "YX"
        and (axes[0] == "T" or (axes[0] == "C" and shape[0] > 4))
    ):
        kind = {"T": "time points", "C": "channels"}[axes[0]]
        return zyx(shape), [f"{file} calls its sections {kind}; they are taken as z"]
    raise EmgenError(
        f"{file} has axes {axes} of lengths {tuple(shape)}; expected one stack of sections "
        "(z, y, x): export the channel or time point you mean"
    )


@contextmanager
def _tifffile_errors() -> Iterator[list[str]]:
    """What tifffile says about parts that it could not read; it says so in its log only."""
    found: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            message = record.getMessage()
            if record.levelno >= logging.ERROR and any(
                part in message for part in ("page", "series", "value offset")
            ):
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
        _nanometres(pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "um"))
        for axis in "ZYX"
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
    if (axes := tuple(int(header[name]) for name in ("mapc", "mapr", "maps"))) not in (
        (1, 2, 3),
        (0, 0, 0),
    ):
        raise EmgenError(
            f"{file} stores its axes in the order {axes}; expected x fastest (1, 2, 3): "
            "reorder it first"
        )
    if int(header.mode) == 0 and _mrc_unsigned(header):
        data = data.view(np.uint8)
    # angstrom; 0 where nobody has set it
    sizes = [float(mrc.voxel_size[axis]) / 10 for axis in ("z", "y", "x")]
    notes = [f"{file}: {warning.message}" for warning in caught]
    if sizes == [0.1, 0.1, 0.1]:
        notes.append(
            f"{file} says its voxels are 0.1 nm, which programs write when they do not know; "
            "--voxel-size sets the size"
        )
    return Source(
        str(file), _shape(data, file), data.dtype, _size(sizes), _sliced(data), notes=tuple(notes)
    )


def _mrc_unsigned(header: Any) -> bool:
    """Whether mode 0 holds unsigned bytes: the standard signs them, older IMOD and SerialEM do not.

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
        raise EmgenError(
            f"{file} has no data set {dataset}; 3-D data sets in it: {', '.join(found) or 'none'}"
        )
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
        raise EmgenError(
            f"{folder} has no data set {dataset}; found {', '.join(_n5_datasets(folder)) or 'none'}"
        )
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
    dimensions, factors = (
        resolution.get("dimensions", []),
        own.get("downsamplingFactors", (1, 1, 1)),
    )
    sizes = [
        _nanometres(d * f, str(resolution.get("unit")))
        for d, f in zip(dimensions, factors, strict=True)
    ]
    return _size(sizes[::-1])


def _url(url: str, dataset: str | None) -> Source:
    kind, _, rest = url.partition("://")
    if kind == "precomputed" and dataset is None:
        return _foreign("precomputed", rest)
    if kind == "n5":
        return _foreign("n5", f"{rest.rstrip('/')}/{dataset}" if dataset else rest)
    raise EmgenError(
        f'{url}: put "precomputed://" or "n5://" before the address, to say what is there'
    )


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
        listed = (
            f"one of {', '.join(names)}: choose with --dataset"
            if names
            else "none: name one with --dataset"
        )
        raise EmgenError(f"{where}: expected one 3-D data set, found {listed}")
    return names[0]


def _shape(data: Any, where: str | Path) -> Zyx:
    """Shape (z, y, x) of a 3-D array, or of a 2-D one as a single section."""
    shape = tuple(data.shape)
    if len(shape) not in (2, 3):
        raise EmgenError(
            f"{where} has shape {shape}; expected one 3-D volume (z, y, x): "
            "export the part that you mean"
        )
    if len(shape) == 3 and shape[2] in (3, 4) and shape[2] < min(shape[:2]):
        raise EmgenError(
            f"{where} has shape {shape}, a colour image by the look of it; "
            "expected grey values (z, y, x)"
        )
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
            f"{where} cannot be read ({type(error).__name__}: {reason}); "
            "it may be damaged, incomplete or not what its name says"
        ) from error
