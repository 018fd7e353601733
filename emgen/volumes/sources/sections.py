"""Folders of sections, one TIFF or PNG file each."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL.PngImagePlugin import PngImageFile

from emgen.errors import EmgenError
from emgen.geometry import Box, zyx
from emgen.volumes.sources import tiff
from emgen.volumes.sources.foreign import Array, ForeignVolume, by_sections, plausible, reading
from emgen.volumes.sources.series import ordered

NAME, CONTAINER = "folders of PNG or TIFF sections", False
SUFFIXES = (".png", ".tif", ".tiff")
ZARR_FILES = ("zarr.json", ".zgroup", ".zarray", ".zattrs")
GREY_MODES = {"L": "uint8", "I;16": "uint16", "I;16B": "uint16", "I": "int32", "1": "bool"}


def recognises(path: str) -> bool:
    """Whether it is a folder, or one file that is named like a section."""
    return "://" not in path and (Path(path).is_dir() or Path(path).suffix.lower() in SUFFIXES)


def open_volume(path: str, dataset: str | None, resources: ExitStack) -> ForeignVolume:
    """Open the sections in a folder in the order of the numbers in their names, or a single one."""
    folder = Path(path)
    if not folder.is_dir():
        return _stacked([folder])
    if any((folder / name).exists() for name in ZARR_FILES):
        raise EmgenError(
            f"{folder} is Zarr already; emgen works on OME-Zarr as it is, without an import"
        )
    files = [f for f in folder.iterdir() if f.is_file() and not f.name.startswith(".")]
    sections = [f for f in files if f.suffix.lower() in SUFFIXES]
    if not sections:
        raise EmgenError(
            f"the folder {folder} has no sections in it; "
            f"expected files ending in {', '.join(SUFFIXES)}"
        )
    if mosaic := next((f for f in files if f.name.startswith("TileConfiguration")), None):
        raise EmgenError(
            f"{folder} holds tiles of a mosaic, which {mosaic.name} places: stitch them first"
        )
    others = len(files) - len(sections)
    notes = [f"{others} other files in {folder} are left out"] if others else []
    series = ordered(sections)
    stacked = _stacked(series.files)
    return replace(
        stacked,
        where=path,
        lost=series.lost,
        doubt=series.doubt,
        notes=(*notes, *series.notes, *stacked.notes),
    )


def _stacked(files: Sequence[Path]) -> ForeignVolume:
    """One image file per section, all of one shape and type."""
    first, *others = headers = [_header(file) for file in files]
    for file, header in zip(files[1:], others, strict=True):
        if header != first:
            usual = max(headers, key=headers.count)
            odd, found = (file, header) if header != usual else (files[0], first)
            raise EmgenError(
                f"{odd} has {found}, the other sections have {usual}; all must be alike: "
                "crop, pad or remove it"
            )
    shape = zyx((len(files), *first.shape))
    read = by_sections(lambda k: _section(files[k]), shape, first.dtype)
    return ForeignVolume(
        str(files[0]), shape, first.dtype, None, read, whole_sections=True, greatest=first.greatest
    )


@dataclass(frozen=True)
class Header:
    """What must be the same in all sections.

    Attributes:
        shape: pixels (y, x).
        dtype: of the pixels.
        greatest: as of `ForeignVolume`.
    """

    shape: tuple[int, int]
    dtype: np.dtype[Any]
    greatest: int | None = None

    def __str__(self) -> str:
        white = "" if self.greatest is None else ", counted from white to black"
        return f"{self.shape[0]} x {self.shape[1]} pixels of {self.dtype.name}{white}"


def _header(file: Path) -> Header:
    """What the header of a section says."""
    with reading(str(file)):
        if tiff.recognises(str(file)):
            with ExitStack() as resources:
                section = tiff.open_volume(str(file), None, resources)
            if section.shape[0] != 1:
                raise EmgenError(
                    f"{file} has {section.shape[0]} pages; expected one section per file in a folder. If it "
                    "is a stack, or one file of an OME-TIFF that consists of several, import the file"
                )
            return Header(section.shape[1:], section.dtype, section.greatest)
        # not Image.open, which takes sections of EM for an attack by their size
        with PngImageFile(file) as image:
            if image.mode not in GREY_MODES:
                raise EmgenError(
                    f"{file} is a colour image ({image.mode}); expected grey values: "
                    "convert it to grey"
                )
            plausible((image.height, image.width), file, "pixels")
            return Header((image.height, image.width), np.dtype(GREY_MODES[image.mode]))


def _section(file: Path) -> Array:
    """Pixels (y, x) of a section."""
    with reading(str(file)):
        if tiff.recognises(str(file)):
            with ExitStack() as resources:
                section = tiff.open_volume(str(file), None, resources)
                return np.asarray(section.read(Box.whole(section.shape))[0])
        with PngImageFile(file) as image:
            image.verify()  # checksums, which decoding does not look at; the file is closed by it
        with PngImageFile(file) as image:
            return np.asarray(image)
