"""Folders of sections, one TIFF or PNG file each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL.PngImagePlugin import PngImageFile

from emgen.errors import EmgenError
from emgen.geometry import Box, zyx
from emgen.volumes.sources import tiff
from emgen.volumes.sources.foreign import Array, ForeignVolume, by_sections, reading

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
    sections = sorted((f for f in files if f.suffix.lower() in SUFFIXES), key=natural)
    if not sections:
        raise EmgenError(
            f"the folder {folder} has no sections in it; "
            f"expected files ending in {', '.join(SUFFIXES)}"
        )
    others = len(files) - len(sections)
    notes = ([f"{others} other files in {folder} are left out"] if others else []) + _gaps(sections)
    return replace(_stacked(sections), where=path, notes=tuple(notes))


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
    numbers = [int(digits[-1]) for file in sections if (digits := re.findall(r"\d+", file.stem))]
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


def _stacked(files: Sequence[Path]) -> ForeignVolume:
    """One image file per section, all of one shape and type."""
    (shape, dtype), *others = headers = [_header(file) for file in files]
    for file, header in zip(files[1:], others, strict=True):
        if header != (shape, dtype):
            usual = max(headers, key=headers.count)
            odd, (size, kind) = (file, header) if header != usual else (files[0], headers[0])
            raise EmgenError(
                f"{odd} has {size[0]} x {size[1]} pixels of {kind.name}, the other sections have "
                f"{usual[0][0]} x {usual[0][1]} pixels of {usual[1].name}; all must be alike: "
                "crop, pad or remove it"
            )
    voxels = zyx((len(files), *shape))
    read = by_sections(lambda k: _section(files[k]), voxels, dtype)
    return ForeignVolume(str(files[0]), voxels, dtype, None, read, whole_sections=True)


def _header(file: Path) -> tuple[tuple[int, int], np.dtype[Any]]:
    """Shape (y, x) and type of a section."""
    with reading(str(file)):
        if tiff.recognises(str(file)):
            with ExitStack() as resources:
                section = tiff.open_volume(str(file), None, resources)
            if section.shape[0] != 1:
                raise EmgenError(
                    f"{file} has {section.shape[0]} pages; expected one section per file in a folder"
                )
            return section.shape[1:], section.dtype
        # not Image.open, which takes sections of EM for an attack by their size
        with PngImageFile(file) as image:
            if image.mode not in GREY_MODES:
                raise EmgenError(
                    f"{file} is a colour image ({image.mode}); expected grey values: "
                    "convert it to grey"
                )
            return (image.height, image.width), np.dtype(GREY_MODES[image.mode])


def _section(file: Path) -> Array:
    """Pixels (y, x) of a section."""
    with reading(str(file)):
        if tiff.recognises(str(file)):
            with ExitStack() as resources:
                section = tiff.open_volume(str(file), None, resources)
                return np.asarray(section.read(Box.whole(section.shape))[0])
        with PngImageFile(file) as image:
            return np.asarray(image)
