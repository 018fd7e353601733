"""The settings of `input`: what was measured."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from emgen.config.settings import Settings


class Input(Settings):
    """What was measured."""

    volume: Annotated[
        str,
        Field(
            description="OME-Zarr 0.4 or 0.5 image, a local path or a URL (s3://, https://); 3-D, any integer or float type."
        ),
    ]
    lost: Annotated[
        Literal["auto"] | tuple[Annotated[int, Field(ge=0)], ...],
        Field(
            description=(
                "Measured sections, counted from 0, that hold no image; what they would have shown is restored from their "
                "neighbours. auto: those that have one grey value all over, between others that have not."
            )
        ),
    ] = "auto"
