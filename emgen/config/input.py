"""The settings of `input`: what was measured."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from emgen.config.settings import Place, Settings

Nanometres = Annotated[float, Field(gt=0)]
Refusal = Literal["no-tissue", "nothing-to-restore", "swapped-axes"]
"""Findings of the inspection with which nothing is restored."""


class Input(Settings):
    """What was measured."""

    volume: Annotated[
        Place,
        Field(
            description="OME-Zarr image of versions 0.1 to 0.5, a local path (from the folder where the command stands) or a URL (s3://, https://); 3-D, any integer or float type."
        ),
    ]
    voxel_size: Annotated[
        tuple[Nanometres, Nanometres, Nanometres] | None,
        Field(
            description=(
                "Size of a voxel (z, y, x) in nm, where the volume's metadata say none or a wrong one; it wins over them."
            )
        ),
    ] = None
    missing_chunks: Annotated[
        Literal["refuse", "blank"],
        Field(
            description=(
                "What chunks mean that the volume names and does not hold. refuse: a copy broke off, or something is damaged; "
                "blank: they were left out because they are blank, and hold no tissue."
            )
        ),
    ] = "refuse"
    lost: Annotated[
        Literal["auto"] | tuple[Annotated[int, Field(ge=0)], ...],
        Field(
            description=(
                "Numbers of the missing sections, counted from 0: they hold no image and are restored from their neighbours, or stay "
                "blank at the ends of the volume. auto detects sections of one grey value all over, or of faint noise."
            )
        ),
    ] = "auto"
    mask: Annotated[
        Place | None,
        Field(
            description=(
                "OME-Zarr on the voxels of the input, a local path or a URL: 0 where there is no tissue. What it leaves out is "
                "neither looked at nor restored."
            )
        ),
    ] = None
    no_data: Annotated[
        Literal["auto", "none"] | float,
        Field(
            description=(
                "The grey value that stands for no data, wherever it fills squares of 9 x 9 pixels. auto looks for one in large "
                "areas of one grey value. NaN and infinite values are never data, with `none` too."
            )
        ),
    ] = "auto"
    holes: Annotated[
        int,
        Field(
            ge=0,
            le=256,
            description=(
                "Pixels: a hole in the tissue of a section that is narrower is restored from what lies around it; what is wider "
                "stays blank, unless the sections before and behind show tissue there. 0 leaves holes in sections blank."
            ),
        ),
    ] = 32
    resin: Annotated[
        Literal["restore", "skip"],
        Field(
            description=(
                "skip: blocks in which everything that was measured is only noise pass through no network, as blank ones do; they are "
                "interpolated, and stay as noisy as they were."
            )
        ),
    ] = "restore"
    equalise: Annotated[
        Literal["none", "sections"],
        Field(
            description=(
                "sections: brightness and contrast of every section are brought to those of the 31 around it before anything "
                "else, by one gain and one offset each, decided once for the volume."
            )
        ),
    ] = "none"
    hot_pixels: Annotated[
        Literal["keep", "remove"],
        Field(
            description=(
                "remove: pixels far beyond all of their neighbours, which no lens can image, are replaced by what lies between these."
            )
        ),
    ] = "keep"
    accept: Annotated[
        tuple[Refusal, ...],
        Field(
            description=(
                "Findings of the inspection that refuse the input and that you know to be right: they become warnings. no-tissue, "
                "nothing-to-restore, swapped-axes."
            )
        ),
    ] = ()
