"""The settings of `restore`: what was done to the tissue by measuring it, and how that is undone."""

from __future__ import annotations

import difflib
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from emgen.config.faults import said
from emgen.config.settings import Settings

MOST_FACTOR = 32  # output sections of a measured one: what lies between is then a guess

AUTO, LINEAR = "auto", "linear"
LARGEST = 1e30  # grey values: beyond them squares are no numbers any more


class Psf(Settings):
    """The point spread function of `mode: deblur`, in the plane."""

    sigma: Annotated[
        Annotated[float, Field(gt=0)]
        | tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]],
        Field(
            description="Standard deviation of a Gaussian in pixels; two numbers (y, x) for an astigmatic one."
        ),
    ] = 2.0
    angle: Annotated[
        float,
        Field(
            description="Degrees by which the axes of an astigmatic Gaussian are turned, from y towards x."
        ),
    ] = 0.0
    kernel: Annotated[
        str | None,
        Field(
            description=(
                "Instead of sigma and angle, the function itself: a 2-D TIFF with an odd number of pixels each way, at the pixel "
                "size of the input; it is divided by its sum."
            )
        ),
    ] = None
    blind: Annotated[
        bool,
        Field(
            description=(
                "The function is not known: both standard deviations and the angle are fitted to the input first. `psf: blind` "
                "means the same."
            )
        ),
    ] = False

    @model_validator(mode="before")
    @classmethod
    def _blind_is_a_word(cls, value: Any) -> Any:
        if value is not None and value != "blind" and not isinstance(value, dict | Psf):
            near = isinstance(value, str) and difflib.get_close_matches(value, ["blind"])
            raise ValueError(
                'expected the word "blind", or a mapping of sigma and angle, or of kernel; found '
                f"{said(value)}{'; did you mean blind?' if near else ''}"
            )
        return {"blind": True} if value == "blind" else value

    @model_validator(mode="after")
    def _one_of_three(self) -> Psf:
        # what a stored configuration repeats of the defaults was not given
        given = [
            *(["sigma"] if (self.sigma, self.angle) != (2.0, 0.0) else []),
            *(["kernel"] if self.kernel else []),
            *(["blind"] if self.blind else []),
        ]
        if len(given) > 1:
            raise ValueError(f"give one of sigma, kernel and blind; found {' and '.join(given)}")
        sizes = self.sigma if isinstance(self.sigma, tuple) else (self.sigma, self.sigma)
        if self.angle and sizes[0] == sizes[1]:
            raise ValueError(
                f"angle {self.angle:g} has no effect on a round Gaussian; give sigma two numbers [y, x], or remove `angle`"
            )
        return self


class PoissonGaussian(Settings):
    """Poisson-Gaussian noise: its variance at a grey value g is gain * (g - black) + sigma^2."""

    gain: Annotated[float, Field(ge=0, le=LARGEST, description="Grey values per electron counted.")]
    sigma: Annotated[
        float,
        Field(
            ge=0,
            le=LARGEST,
            description="Standard deviation of the noise that does not depend on brightness, in grey values.",
        ),
    ] = 0.0
    black: Annotated[
        float,
        Field(ge=-LARGEST, le=LARGEST, description="Grey value where no electron is counted."),
    ] = 0.0

    @model_validator(mode="after")
    def _black_has_an_effect(self) -> PoissonGaussian:
        if self.black and not self.gain:
            raise ValueError(
                f"black {self.black:g} has no effect with gain 0: the noise is the same everywhere. Remove `black`"
            )
        return self


NoiseSetting = (
    Literal["auto", "poisson", "correlated"]
    | Annotated[float, Field(ge=0, le=LARGEST)]
    | PoissonGaussian
)
"""The noise of the measurement in grey values, or how it is estimated."""


class Adapt(Settings):
    """Fine-tuning of the prior on the volume's own sections before it is restored."""

    steps: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000,
            description=(
                "isotropic only. Training steps; 0 leaves the prior as it is. Some sections are held out: the adapted prior is used "
                "only if it denoises them better than the prior did. White noise, as `noise` gives it, is not learnt."
            ),
        ),
    ] = 0


class Restore(Settings):
    """How the volume is restored."""

    mode: Annotated[
        Literal["isotropic", "denoise", "superres", "deblur"],
        Field(
            description=(
                "isotropic brings z to the in-plane voxel size; the others restore section by section, each from itself and its "
                "neighbours."
            )
        ),
    ] = "isotropic"
    factor: Annotated[
        int | None,
        Field(
            ge=1,
            le=MOST_FACTOR,
            description=(
                "isotropic: output sections per measured section; by default the voxel anisotropy, which must then be "
                "within 5 % of a whole number (give the factor yourself otherwise). superres: 2, 3 or 4, no default."
            ),
        ),
    ] = None
    section: Annotated[
        Literal["slice", "mean", "gaussian"],
        Field(
            description=(
                "How a measured section came about. slice: output section k x factor, as block-face imaging sees it; "
                "mean: the mean over the factor, as a cut section transmits it; gaussian: weighted by the section's thickness."
            )
        ),
    ] = "slice"
    sampler: Annotated[
        Literal["flower", "em-generalist", "dps"],
        Field(
            description=(
                "flower: exact data step and late start; em-generalist: the published loop from noise; dps: "
                "a gradient through the network at every step, for comparison only (slow)."
            )
        ),
    ] = "flower"
    steps: Annotated[
        int | None,
        Field(
            ge=1,
            le=1000,
            description=(
                "Network calls per sample. Default for flower 12, from a learned estimate 6 for isotropic and denoise and 3 for superres; "
                "for em-generalist 100, for dps 1000. denoise with flower returns the estimate, so that steps only count with "
                "more than one sample."
            ),
        ),
    ] = None
    estimator: Annotated[
        str,
        Field(
            description=(
                "flower: the learned estimate that sampling begins from, a shipped name or the path of a .safetensors file. auto is "
                "emgen-axial, which interpolates between sections, for isotropic; for the other modes emgen-sections, which sees a "
                "section and its neighbours. For denoise the result is this estimate. A single section is denoised by one call of "
                "the prior instead; with `noise: correlated` by the average of both. linear disables the estimator: sampling "
                "begins from linear interpolation, and denoise is one call of the prior."
            )
        ),
    ] = AUTO
    start: Annotated[
        Annotated[float, Field(ge=0, lt=1)] | None,
        Field(
            description=(
                "flower: time at which sampling begins from the estimate (0 is pure noise, 1 the estimate itself). Default 0.7, from a "
                "learned estimate 0.85 for isotropic and denoise and 0.95 for superres."
            )
        ),
    ] = None
    alpha: Annotated[
        float,
        Field(
            ge=0,
            le=1000,
            description=(
                "em-generalist: exponent of the data step (1 - t)^alpha, at most 2; larger trusts the measurement less. dps: scale of "
                "the gradient; larger trusts the measurement more."
            ),
        ),
    ] = 0.3
    samples: Annotated[
        int,
        Field(
            ge=1,
            le=64,
            description=(
                "Posterior samples. With more than one the output is their mean (for denoise the estimate that they begin from), and "
                "their standard deviation is written too, calibrated on the input's own sections."
            ),
        ),
    ] = 1
    noise: Annotated[
        NoiseSetting,
        Field(
            description=(
                "Standard deviation of the measurement noise in grey values, or {gain, sigma, black} where it grows with "
                "brightness: variance gain * (grey - black) + sigma^2. auto: for denoise and deblur one number, estimated from the input; for "
                "isotropic and superres 0, so that measured voxels keep their noise. poisson: gain and sigma are estimated from the "
                "input. correlated: like poisson, for noise that is correlated between neighbouring pixels (fast scans); auto and "
                "poisson would mistake such noise for detail and keep it."
            )
        ),
    ] = "auto"
    psf: Annotated[Psf, Field(description="deblur only: the point spread function.")] = Psf()
    prior: Annotated[
        str,
        Field(
            description="A shipped prior's name, or the path of a .safetensors file with its .json card beside it."
        ),
    ] = "emgen-small"
    adapt: Annotated[
        Adapt, Field(description="Fine-tunes the prior on the input's own sections first.")
    ] = Adapt()
    precision: Annotated[
        Literal["auto", "float32", "bfloat16"],
        Field(
            description=(
                "Number format of the networks; auto is bfloat16 on a GPU and float32 on a CPU. bfloat16 halves the time on CPUs that "
                "have it (AVX-512 BF16, AMX)."
            )
        ),
    ] = "auto"
    seed: Annotated[
        int,
        Field(
            ge=0, lt=2**32, description="Seed of the noise; the same seed gives the same voxels."
        ),
    ] = 0
