"""TIFF with one stack of sections: BigTIFF, ImageJ and OME-TIFF too."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from emgen.errors import EmgenError
from emgen.geometry import VoxelSize, Zyx, zyx
from emgen.volumes.sources.foreign import (
    Array,
    ForeignVolume,
    Read,
    by_sections,
    nanometres,
    size_of,
    sliced,
)

NAME, CONTAINER = "TIFF", False
SUFFIXES = (".tif", ".tiff", ".btf", ".tf8")
MAX_DETECTORS = 4  # up to so many channels may be detectors or colours; more are sections


def recognises(path: str) -> bool:
    """Whether it is a file that is named like TIFF."""
    return "://" not in path and Path(path).suffix.lower() in SUFFIXES and not Path(path).is_dir()


def open_volume(path: str, dataset: str | None, resources: ExitStack) -> ForeignVolume:
    """Open a TIFF: a stack in one piece is mapped, others are read page by page."""
    problems = resources.enter_context(_tifffile_errors())
    tiff = resources.enter_context(tifffile.TiffFile(path))
    series = _only_series(path, tiff, problems)
    shape, notes = _volume_shape(path, series.axes, series.shape)
    voxel = _ome_voxel(tiff) if tiff.is_ome else _imagej_voxel(tiff) if tiff.is_imagej else None
    if tiff.pages.first.photometric == tifffile.PHOTOMETRIC.MINISWHITE:
        notes.append(
            f"{path} counts from white to black; the numbers are kept, so it will look inverted"
        )
    if series.dataoffset is not None and series.keyframe.is_memmappable:
        dtype = np.dtype(tiff.byteorder + series.dtype.str[1:])
        mapped = np.memmap(path, dtype, mode="r", offset=series.dataoffset, shape=shape)
        return ForeignVolume(path, shape, dtype, voxel, sliced(mapped), notes=tuple(notes))
    read = _by_pages(path, series, shape)
    return ForeignVolume(
        path, shape, series.dtype, voxel, read, whole_sections=True, notes=tuple(notes)
    )


def _only_series(path: str, tiff: tifffile.TiffFile, problems: Sequence[str]) -> Any:
    """The only stack of a file; `problems` are those of `_tifffile_errors`."""
    series = tiff.series
    # a file cut short only loses its last pages without an exception
    if problems:
        raise EmgenError(f"{path} is damaged or incomplete: {problems[0]}")
    if len(series) != 1:
        shapes = ", ".join("x".join(str(n) for n in stack.shape) for stack in series[:5])
        raise EmgenError(
            f"{path} holds {len(series)} images of different kinds ({shapes}); expected one stack"
        )
    return series[0]


def _by_pages(path: str, series: Any, shape: Zyx) -> Read:
    """How boxes are read of a stack that is not in one piece: section by section."""
    pages = series.pages
    missing = [k for k in range(len(pages)) if pages[k] is None]
    # some programs put all sections of a small stack into one compressed page
    one_page = len(pages) == 1 and not missing and np.prod(series.keyframe.shape) == np.prod(shape)
    if not one_page and (missing or len(pages) != shape[0]):
        raise EmgenError(
            f"{path} should have {shape[0]} sections, found {len(pages) - len(missing)}; "
            "is a file missing?"
        )
    decoded: list[Array] = []

    def section_of(k: int) -> Array:
        if not one_page:
            return np.reshape(_decoded(path, pages[k]), shape[1:])
        if not decoded:
            decoded.append(np.reshape(_decoded(path, pages[0]), shape))
        section: Array = decoded[0][k]
        return section

    return by_sections(section_of, shape, series.dtype)


def _decoded(path: str, page: Any) -> Array:
    try:
        return np.asarray(page.asarray())
    except ValueError as error:
        if "imagecodecs" not in str(error):
            raise
        raise EmgenError(
            f"{path} is compressed with {page.compression.name}; `pip install imagecodecs` to read it"
        ) from None


def _volume_shape(path: str, axes: str, shape: Sequence[int]) -> tuple[Zyx, list[str]]:
    """Shape (z, y, x) of a stack, and a sentence where its first axis is not called z."""
    if "S" in axes:
        raise EmgenError(
            f"{path} is a colour image (axes {axes}); expected grey values: convert it to grey"
        )
    if axes == "YX":
        return zyx((1, *shape)), []
    if len(axes) == 3 and axes[1:] == "YX":
        # Z, or what tifffile calls pages without a meaning
        if axes[0] in "ZQI":
            return zyx(shape), []
        # many programs save sections as time points or channels
        if axes[0] == "T" or (axes[0] == "C" and shape[0] > MAX_DETECTORS):
            kind = {"T": "time points", "C": "channels"}[axes[0]]
            return zyx(shape), [f"{path} calls its sections {kind}; they are taken as z"]
    raise EmgenError(
        f"{path} has axes {axes} of lengths {tuple(shape)}; expected one stack of sections "
        "(z, y, x): export the channel or time point you mean"
    )


@contextmanager
def _tifffile_errors() -> Iterator[list[str]]:
    """What tifffile says, in its log only, about parts that it could not read in this thread."""
    messages: list[str] = []
    thread = threading.get_ident()

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            message = record.getMessage()
            ours = record.thread == thread and record.levelno >= logging.ERROR
            if ours and any(part in message for part in ("page", "series", "value offset")):
                messages.append(message)

    handler, logger = Collect(), logging.getLogger("tifffile")
    logger.addHandler(handler)
    try:
        yield messages
    finally:
        logger.removeHandler(handler)


def _ome_voxel(tiff: tifffile.TiffFile) -> VoxelSize | None:
    """From `PhysicalSize` of OME-TIFF."""
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
