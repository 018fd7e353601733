"""TIFF, and folders of TIFF or PNG sections."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile
from PIL import Image

from emgen.errors import EmgenError
from emgen.geometry import Box, VoxelSize, Zyx, zyx
from emgen.volumes.sources.containers import tensorstore_volume
from emgen.volumes.sources.source import (
    Array,
    ForeignVolume,
    Read,
    nanometres,
    reading,
    size_of,
    sliced,
)

TIFF = (".tif", ".tiff", ".btf", ".tf8")
SECTIONS = (".png", ".tif", ".tiff")


def open_folder(folder: Path, stack: ExitStack) -> ForeignVolume:
    if (folder / "info").is_file():
        return tensorstore_volume("precomputed", str(folder))
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
    source = open_sections(sections, stack)
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
    if np.count_nonzero(steps != usual) > len(steps) / 2:
        # patches of many places are named after where they come from, not counted
        return []
    return [
        f"section numbers jump from {numbers[i]} to {numbers[i + 1]} "
        f"({sections[i].name}, {sections[i + 1].name}): is one missing?"
        for i in np.flatnonzero(steps != usual)[:3]
    ]


def open_sections(files: Sequence[Path], stack: ExitStack) -> ForeignVolume:
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
    read = by_sections(lambda k: _section(files[k]), voxels, dtype)
    return ForeignVolume(str(files[0]), voxels, dtype, None, read, whole_sections=True)


def _header(file: Path) -> tuple[tuple[int, int], np.dtype[Any]]:
    """Shape (y, x) and type of a section."""
    with reading(str(file)):
        if file.suffix.lower() in TIFF:
            with ExitStack() as stack:
                tiff = open_tiff(file, stack)
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
    with reading(str(file)):
        if file.suffix.lower() in TIFF:
            with ExitStack() as stack:
                tiff = open_tiff(file, stack)
                return np.asarray(tiff.read(Box.whole(tiff.shape))[0])
        with Image.open(file) as image:
            return np.asarray(image)


def by_sections(section: Callable[[int], Array], shape: Zyx, dtype: np.dtype[Any]) -> Read:
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


def open_tiff(file: Path, stack: ExitStack) -> ForeignVolume:
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
        return ForeignVolume(str(file), shape, dtype, voxel, sliced(mapped), notes=tuple(notes))
    pages = stack_of.pages
    missing = [k for k in range(len(pages)) if pages[k] is None]
    whole = len(pages) == 1 and not missing and np.prod(stack_of.keyframe.shape) == np.prod(shape)
    if not whole and (missing or len(pages) != shape[0]):
        raise EmgenError(
            f"{file} should have {shape[0]} sections, found {len(pages) - len(missing)}; "
            "is a file missing?"
        )

    once: list[Array] = []

    def section(k: int) -> Array:
        # some programs put all sections of a small stack into one compressed page
        page: Any = pages[0 if whole else k]
        try:
            if whole and not once:
                once.append(np.asarray(page.asarray()).reshape(shape))
            return once[0][k] if whole else np.asarray(page.asarray()).reshape(shape[1:])
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            name = page.compression.name
            raise EmgenError(
                f"{file} is compressed with {name}; `pip install imagecodecs` to read it"
            ) from None

    read = by_sections(section, shape, stack_of.dtype)
    return ForeignVolume(
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
        nanometres(pixels.get(f"PhysicalSize{axis}"), pixels.get(f"PhysicalSize{axis}Unit", "um"))
        for axis in "ZYX"
    ]
    return size_of(sizes)


def _imagej_voxel(tiff: tifffile.TiffFile) -> VoxelSize | None:
    """From `spacing` and the resolution tags, which count pixels per `unit`.

    The resolution tags of other TIFF files are about printing (72 dots per inch) and never used.
    """
    metadata, tags = tiff.imagej_metadata or {}, tiff.pages.first.tags
    unit = str(metadata.get("unit", ""))
    sizes = [nanometres(metadata.get("spacing"), unit)]
    for name in ("YResolution", "XResolution"):
        count, length = tags[name].value if name in tags else (0, 1)
        sizes.append(nanometres(length / count if count else None, unit))
    return size_of(sizes)
