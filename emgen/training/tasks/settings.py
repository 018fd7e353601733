"""What a recipe says of its task: `task: {kind: prior | axial | sections, ...}`. Needs no torch.

Standard deviations of noise are in the prior's half range: a volume's grey values are scaled to -1 and +1.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

Positive = Annotated[int, Field(gt=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Range = tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]


class Part(BaseModel):
    """A part of a recipe: it never changes, and every key of a file must be one of its own."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class PriorSettings(Part):
    """Flow matching: the network becomes the velocity of the prior; see `emgen.training.tasks.prior`.

    Attributes:
        coupling: independent, which the samplers need; optimal-transport pairs the noises of a batch with its
            patches, which straightens the paths but biases the mean of the data given x_t.
        late: fraction of times drawn late (logit-normal) instead of uniformly.
    """

    kind: Literal["prior"] = "prior"
    coupling: Literal["independent", "optimal-transport"] = "independent"
    late: Share = 0.5

    score: ClassVar[str] = "denoise"
    """What the network does with held-out tissue: the card says how well, as `validation_<score>_psnr_db`."""
    depth: ClassVar[int] = 1
    """Planes that are cut from a volume, one behind the other."""
    margin: ClassVar[int] = 0
    """Pixels by which what is cut from a volume is larger than a patch, on a side."""

    @property
    def architecture(self) -> dict[str, Any]:
        """What the task adds to the network of a recipe."""
        return {}


class AxialSettings(Part):
    """An estimate between sections: sections of isotropic tissue are taken away; see `emgen.training.tasks.axial`.

    Attributes:
        factors: output sections per measured one, from and to.
        context: planes that the network is given on either side.
        noisy: fraction of the patches that are measured with noise.
        noise: its standard deviation in the prior's half range, from and to.
        damaged: fraction of the patches of which sections are missing.
        lost: how many of them.
    """

    kind: Literal["axial"] = "axial"
    factors: tuple[Positive, Positive] = (2, 12)
    context: Annotated[int, Field(ge=0, le=16)] = 2
    noisy: Share = 0.4
    noise: Range = (0.02, 0.4)
    damaged: Share = 0.15
    lost: Positive = 2

    score: ClassVar[str] = "axial"

    @property
    def depth(self) -> int:
        """Planes that are cut from a volume, one behind the other."""
        return 2 * self.context + 1

    @property
    def margin(self) -> int:
        """Rows beyond a patch: what is left over by the factor, and what the border does to its neighbours."""
        return 2 * self.factors[1]

    @property
    def architecture(self) -> dict[str, Any]:
        """What the task adds to the network of a recipe."""
        return {"design": self.kind, "context": self.context}


class SectionsSettings(Part):
    """An estimate within sections: they are made noisy, coarse or blurred; see `emgen.training.tasks.sections`.

    Attributes:
        context: sections that the network is given on either side.
        strides: sections of the volume from one to the next that is given, from and to.
        near: fraction of the patches with context whose stride is strides[0]: distant sections tell little.
        alone: fraction of the patches without context.
        tasks: shares of denoising, super-resolution and deblurring.
        noise: standard deviation of the noise in denoising, in the prior's half range, from and to.
        faint: of the noise in super-resolution (half of whose patches have none) and in deblurring.
        correlated: fraction of the patches whose noise is correlated between neighbouring pixels.
        blur: standard deviation of the blur in pixels, from and to.
        damaged: fraction of the patches whose section is missing.
    """

    kind: Literal["sections"] = "sections"
    context: Annotated[int, Field(ge=0, le=16)] = 3
    strides: tuple[Positive, Positive] = (1, 24)
    near: Share = 0.6
    alone: Share = 0.2
    tasks: tuple[
        Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]
    ] = (0.6, 0.2, 0.2)
    noise: Range = (0.05, 1.5)
    faint: Range = (0.01, 0.3)
    correlated: Share = 0.2
    blur: Range = (0.6, 4.5)
    damaged: Share = 0.04

    score: ClassVar[str] = "sections"
    margin: ClassVar[int] = 32
    """Pixels beyond a patch, 16 on either side: what the border does to the widest blur stays outside."""

    @property
    def depth(self) -> int:
        """Sections that are cut from a volume, one behind the other."""
        return 2 * self.context + 1

    @property
    def architecture(self) -> dict[str, Any]:
        """What the task adds to the network of a recipe."""
        return {"design": self.kind, "context": self.context}


TaskSettings = Annotated[
    PriorSettings | AxialSettings | SectionsSettings, Field(discriminator="kind")
]
