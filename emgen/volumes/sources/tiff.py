"""TIFF with one stack of sections: BigTIFF, ImageJ and OME-TIFF too."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from emgen.errors import EmgenError
from emgen.geometry import Zyx, zyx
from emgen.volumes.sources.foreign import (
    Array,
    Chunks,
    ForeignVolume,
    Read,
    by_sections,
    plausible,
    sliced,
)
from emgen.volumes.sources.tiff_metadata import describe

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
    described = describe(path, tiff)
    series, left_out = _only_series(path, tiff, problems)
    shape, notes = _volume_shape(path, series.axes, series.shape)
    _check_page(path, series.keyframe)
    if described.dtype not in (None, series.dtype.name):
        raise EmgenError(
            f"{path}: its OME-XML says its pixels are {described.dtype}, its TIFF tags {series.dtype.name}; "
            "export it again"
        )
    if series.dataoffset is not None and series.keyframe.is_memmappable:
        dtype = np.dtype(tiff.byteorder + series.dtype.str[1:])
        mapped = np.memmap(path, dtype, mode="r", offset=series.dataoffset, shape=shape)
        read, chunks = sliced(mapped), None
    else:
        dtype = series.dtype
        read, chunks = _by_pages(path, series, shape)
    if described.shifted and dtype.newbyteorder("=") == np.uint16:
        dtype, read = np.dtype("int16"), _signed(read)
        notes.append(f"{path} says that 32768 was added to its signed numbers, which is undone")
    return ForeignVolume(
        path,
        shape,
        dtype,
        described.voxel,
        read,
        whole_sections=chunks is not None,
        offset=described.offset,
        notes=(*described.notes, *left_out, *notes),
        chunks=chunks,
        greatest=_greatest(series.keyframe, dtype),
    )


def _only_series(
    path: str, tiff: tifffile.TiffFile, problems: Sequence[str]
) -> tuple[Any, list[str]]:
    """The only stack of a file, and a sentence about what else is in it.

    `problems` are those of `_tifffile_errors`.
    """
    try:
        series = list(tiff.series)
    except RuntimeError as error:
        if "keyframe" not in str(error):
            raise
        raise EmgenError(
            f"{path}: its pages differ in size or type; expected one stack of equal sections"
        ) from None
    # a file cut short only loses its last pages without an exception
    if problems:
        raise EmgenError(f"{path} is damaged or incomplete: {problems[0]}")
    if not series:
        raise EmgenError(f"{path} has no image in it")
    whole = [stack for stack in series if not stack.keyframe.is_reduced]
    if len(whole) == 1:
        smaller = len(series) - 1
        return whole[0], [f"{smaller} smaller copies in {path} are left out"] if smaller else []
    shapes = ", ".join("x".join(str(n) for n in stack.shape) for stack in series[:5])
    raise EmgenError(
        f"{path} holds {len(series)} images of different kinds ({shapes}); expected one stack"
    )


def _check_page(path: str, page: Any) -> None:
    """Refuse what turns or colours the pixels."""
    orientation = page.tags.valueof(274, 1)
    if orientation not in (0, 1):
        raise EmgenError(
            f"{path}: its tag Orientation is {orientation}, so that its first pixel is not at the top left; "
            "programs differ about this: turn the image and save it again, or set the tag to 1 if it is wrong"
        )
    if page.photometric == tifffile.PHOTOMETRIC.PALETTE and not _grey(page.colormap):
        raise EmgenError(
            f"{path} has a colour map, so that its numbers may not be grey values; expected grey values: "
            "set the map to grey (ImageJ: Image > Lookup Tables > Grays) or convert it"
        )


def _grey(colours: Any) -> bool:
    """Whether a colour map (3, entries) shows each number as this grey value."""
    if colours is None:
        return True
    ramp = np.linspace(0, 65535, colours.shape[1])
    return bool(np.all(np.abs(colours.astype(float) - ramp) <= 65535 / colours.shape[1]))


def _greatest(page: Any, dtype: np.dtype[Any]) -> int | None:
    """As of `ForeignVolume`: v is turned into greatest - v."""
    if page.photometric != tifffile.PHOTOMETRIC.MINISWHITE:
        return None
    if dtype.kind == "u":
        return int(2 ** int(page.bitspersample)) - 1
    return -1 if dtype.kind == "i" else 0


def _signed(read: Read) -> Read:
    return lambda box: (read(box).astype(np.int32) - 32768).astype(np.int16)


def _by_pages(path: str, series: Any, shape: Zyx) -> tuple[Read, Chunks]:
    """How boxes are read of a stack that is not in one piece, section by section, and which of its parts are there."""
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
    absent: set[tuple[int, int]] = set()
    parts = len(series.keyframe.dataoffsets) * len(pages)

    def section_of(k: int) -> Array:
        if not one_page:
            absent.update((k, i) for i, n in enumerate(pages[k].databytecounts) if n == 0)
            return np.reshape(_decoded(path, pages[k]), shape[1:])
        if not decoded:
            absent.update((0, i) for i, n in enumerate(pages[0].databytecounts) if n == 0)
            decoded.append(np.reshape(_decoded(path, pages[0]), shape))
        section: Array = decoded[0][k]
        return section

    return by_sections(section_of, shape, series.dtype), Chunks(parts, lambda: len(absent))


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
    plausible(shape, path)
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
