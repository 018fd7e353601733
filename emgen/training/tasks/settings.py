"""What estimators are asked for: the part of a recipe that says so."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0)]
MARGIN = 16  # pixels around a patch of sections: what the border does to their blur stays outside


class Part(BaseModel):
    """Of a recipe: it never changes, and every key of a file must be one."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Interpolation(Part):
    """What a learned interpolation is asked for; see `emgen.training.tasks.axial`.

    Attributes:
        factors: output sections per measured one, from and to.
        beside: planes that it sees on either side.
        noisy: share of the patches that are measured with noise.
        noise: its standard deviations, from and to, of the prior's half range.
        damaged: share of the patches of which sections are lost.
        lost: how many of them.
    """

    factors: tuple[Positive, Positive] = (2, 12)
    beside: Annotated[int, Field(ge=0)] = 2
    noisy: Annotated[float, Field(ge=0, le=1)] = 0.4
    noise: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (0.02, 0.4)
    damaged: Annotated[float, Field(ge=0, le=1)] = 0.15
    lost: Positive = 2


class Sections(Part):
    """What an estimate of sections is asked for; see `emgen.training.tasks.sections`.

    Attributes:
        beside: sections that it sees on either side.
        strides: how far these are apart in the source, from and to.
        near: share of the patches with neighbours that have them as near as that goes; where they are far they say little.
        alone: share of the patches that have no neighbours.
        tasks: shares of what is denoised, made finer and deblurred.
        noise: standard deviations, from and to, of the prior's half range, of what is denoised.
        faint: of what is made finer (half of it has none) and deblurred.
        correlated: share of the patches whose neighbouring pixels share their noise.
        blur: standard deviations, from and to, in pixels.
        damaged: share of the patches that show a lost section.
    """

    beside: Annotated[int, Field(ge=0)] = 3
    strides: tuple[Positive, Positive] = (1, 24)
    near: Annotated[float, Field(ge=0, le=1)] = 0.6
    alone: Annotated[float, Field(ge=0, le=1)] = 0.2
    tasks: tuple[Share, Share, Share] = (0.6, 0.2, 0.2)
    noise: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (0.05, 1.5)
    faint: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (0.01, 0.3)
    correlated: Annotated[float, Field(ge=0, le=1)] = 0.2
    blur: tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]] = (0.6, 4.5)
    damaged: Annotated[float, Field(ge=0, le=1)] = 0.04
