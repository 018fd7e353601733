"""What is refused unless the user allows it: chunks that are missing, sections that are, an unsure order, white as zero."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from emgen.errors import EmgenError
from emgen.geometry import Box, zyx
from emgen.volumes.sources.foreign import Array, Chunks, ForeignVolume

MissingChunks = Literal["refuse", "blank"]
LostSections = Literal["refuse", "blank", "close"]
WhiteIsZero = Literal["refuse", "keep", "invert"]


@dataclass(frozen=True)
class Allowed:
    """What the user allows.

    Attributes:
        missing_chunks: "blank" takes the fill value for the voxels of chunks that are not there.
        lost_sections: "blank" puts a section of zeros where the names skip a number, "close" none.
        white_is_zero: where zero means white, "keep" takes the numbers as they are, "invert" turns them.
        any_order: sections need not be one stack, as for patches of different places.
    """

    missing_chunks: MissingChunks = "refuse"
    lost_sections: LostSections = "refuse"
    white_is_zero: WhiteIsZero = "refuse"
    any_order: bool = False


def with_what_is_allowed(volume: ForeignVolume, allowed: Allowed) -> ForeignVolume:
    """A volume as the user allows it to be read.

    Raises:
        EmgenError: it has what is not allowed.
    """
    if volume.doubt and not allowed.any_order:
        raise EmgenError(
            f"{volume.where}: {volume.doubt}; expected one section per file, in the order of a number "
            "that differs in every name: move what does not belong to it to another folder, or rename"
        )
    if volume.greatest is not None:
        volume = _as_black_is_zero(volume, volume.greatest, allowed.white_is_zero)
    if volume.lost and not allowed.any_order:
        volume = _with_lost_sections(volume, allowed.lost_sections)
    if volume.chunks is not None and allowed.missing_chunks == "refuse":
        volume = _whole_only(volume, volume.chunks)
    return volume


def _as_black_is_zero(volume: ForeignVolume, greatest: int, choice: WhiteIsZero) -> ForeignVolume:
    if choice == "refuse":
        raise EmgenError(
            f"{volume.where} counts from white to black (white is zero), and programs differ about what "
            "that means: --white-is-zero invert gives what viewers show, --white-is-zero keep the "
            "numbers in the file (right for masks and labels)"
        )
    if choice == "keep":
        kept = f"{volume.where} counts from white to black; the numbers are kept"
        return replace(volume, greatest=None, notes=(*volume.notes, kept))
    turned = f"{volume.where} counts from white to black; its voxels v become {greatest} - v"
    read = volume.fetch

    def fetch(box: Box) -> Array:
        voxels = read(box)
        return np.asarray(np.subtract(voxels.dtype.type(greatest), voxels, dtype=voxels.dtype))

    return replace(volume, fetch=fetch, greatest=None, notes=(*volume.notes, turned))


def _with_lost_sections(volume: ForeignVolume, choice: LostSections) -> ForeignVolume:
    lost = volume.lost
    if choice == "refuse":
        raise EmgenError(
            f"{volume.where}: {len(lost)} section numbers are left out: {listed(lost)} (counted from 0); a "
            "missing section shifts all that follow: --lost-sections blank puts blank ones there, which "
            "are restored from their neighbours; --lost-sections close stacks what is there"
        )
    if choice == "close":
        closed = f"{len(lost)} section numbers are left out; what is there is stacked without gaps"
        return replace(volume, lost=(), notes=(*volume.notes, closed))
    depth = volume.shape[0] + len(lost)
    missing = set(lost)
    present = {k: number for number, k in enumerate(k for k in range(depth) if k not in missing)}
    read, dtype = volume.fetch, volume.dtype

    def fetch(box: Box) -> Array:
        voxels = np.zeros(box.shape, dtype)
        for k in range(box.start[0], box.stop[0]):
            if k in present:
                section = Box((present[k], *box.start[1:]), (present[k] + 1, *box.stop[1:]))
                voxels[k - box.start[0]] = read(section)[0]
        return voxels

    blank = f"sections {listed(lost)} (counted from 0) are blank: their numbers are left out"
    return replace(
        volume,
        shape=zyx((depth, *volume.shape[1:])),
        fetch=fetch,
        lost=(),
        notes=(*volume.notes, blank),
    )


def _whole_only(volume: ForeignVolume, chunks: Chunks) -> ForeignVolume:
    """The volume, refused as soon as a chunk is known to be missing."""

    def check() -> None:
        if count := chunks.missing():
            raise EmgenError(
                f"{volume.where}: {count} of its {chunks.total} chunks are not there, so that their voxels "
                f"would read {chunks.fill:g}; copy it again, or --missing-chunks blank if they were left out because they are blank"
            )

    check()
    read = volume.fetch

    def fetch(box: Box) -> Array:
        voxels = read(box)
        check()
        return voxels

    return replace(volume, fetch=fetch)


def listed(numbers: Sequence[int], most: int = 8) -> str:
    """Numbers in words, the first few of many.

    >>> listed([3, 5, 6], most=2)
    '3, 5 and 1 more'
    """
    more = f" and {len(numbers) - most} more" if len(numbers) > most else ""
    return ", ".join(str(n) for n in numbers[:most]) + more
