"""Sums over the tiles of a sample, and what part of the volume they are.

Whatever is measured is kept as sums that add up over tiles, and a ratio is taken last, so that a
volume of any size is measured with one tile a thread in memory.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar

import numpy.typing as npt
from pydantic import Field

from emgen.config.facts import Figures
from emgen.qc.sample import Sample, restored_sections, supported
from emgen.qc.words import percent, plural, times
from emgen.run.plan import Plan

T = TypeVar("T")


class Pair(Figures, Generic[T]):
    """The same figures of the restored volume and of linear interpolation."""

    restored: T
    interpolated: T


class Sampled(Figures):
    """What part of the volume the figures are from."""

    tiles: int
    largest_tile: tuple[int, int, int]
    share: float = Field(description="Measured voxels over all voxels of the output.")
    restored_sections: int = Field(
        description="Of these sections, those that are no measured ones kept as they are: what figures with a reference are of."
    )
    sections: tuple[int, int] = Field(
        description="First output section of the tiles, and the one after the last."
    )


def sampled(sample: Sample) -> Sampled:
    """The part of the output that a sample's tiles are."""
    box = supported(sample.plan)
    return Sampled(
        tiles=len(sample.boxes),
        largest_tile=max((tile.shape for tile in sample.boxes), key=math.prod),
        share=sum(tile.size for tile in sample.boxes) / math.prod(sample.plan.shape),
        restored_sections=int(restored_sections(sample.plan, box).sum()),
        sections=(box.start[0], box.stop[0]),
    )


def described(part: Sampled, plan: Plan) -> str:
    """The sampled part in words, for the report."""
    most = "at most " if part.tiles > 1 else ""
    left_out = "; extrapolated sections left out" if plan.extrapolated else ""
    tiles = f"{plural(part.tiles, 'tile')} of {most}{times(part.largest_tile)} voxels"
    return f"{tiles}, {percent(part.share)} of the output{left_out}"


def rested_on(part: Sampled, plan: Plan) -> str:
    """The sampled part in words, where figures are of restored sections only."""
    copied = part.sections[1] - part.sections[0] - part.restored_sections
    of = f"; {plural(part.restored_sections, 'restored section')}" if copied else ""
    without = f", without the {copied} measured ones that were kept" if copied else ""
    return f"{described(part, plan)}{of}{without}"


def added(tiles: Iterable[Sequence[Any]]) -> list[Any]:
    """The sums of every candidate over all tiles.

    Args:
        tiles: for every tile, one sum for each candidate; sums of a candidate have a `+`.

    Returns:
        One sum for each candidate; an empty list without tiles.
    """
    totals: list[Any] = []
    for tile in tiles:
        totals = [a + b for a, b in zip(totals, tile, strict=True)] if totals else list(tile)
    return totals


def rounded(values: npt.NDArray[Any]) -> list[float]:
    """Numbers to six digits: what lies behind them is rounding, and differs between machines."""
    return [float(f"{value:.6g}") for value in values]
