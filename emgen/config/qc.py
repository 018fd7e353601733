"""The settings of `qc`: what the result is measured against."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from emgen.config.settings import Count, Place, Settings, Zyx


class Qc(Settings):
    """What the result is measured against."""

    reference: Annotated[
        Place | None,
        Field(description="Ground truth OME-Zarr on the output's voxels, if there is one."),
    ] = None
    labels: Annotated[
        Place | None,
        Field(
            description="Reference labels (OME-Zarr, 0 is nothing) on the output's voxels, if there are any."
        ),
    ] = None
    tile: Annotated[Zyx, Field(description="Volumes are measured in tiles of this size.")] = (
        160,
        160,
        160,
    )
    tiles: Annotated[
        Count,
        Field(
            le=100_000,
            description="At most so many tiles, spread evenly; the report says how many.",
        ),
    ] = 64
