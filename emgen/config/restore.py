"""The settings of `restore`: what was done to the tissue by measuring it, and how that is undone."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from emgen.config.settings import Settings

AUTO, LINEAR = "auto", "linear"


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
        Field(description="Degrees by which the two are turned, from y towards x."),
    ] = 0.0
    kernel: Annotated[
        str | None,
        Field(
            description=(
                "Instead of both, the function itself: a 2-D TIFF with an odd number of pixels each way, at the pixel "
                "size of the input; its sum is made one."
            )
        ),
    ] = None
    blind: Annotated[
        bool,
        Field(
            description=(
                "It is not known: both standard deviations and the angle are fitted to the input first. `psf: blind` "
                "says the same."
            )
        ),
    ] = False

    @model_validator(mode="before")
    @classmethod
    def _blind_is_a_word(cls, value: Any) -> Any:
        if isinstance(value, str) and value != "blind":
            raise ValueError(
                f'expected the word "blind", or a mapping of sigma and angle, or of kernel; found {value!r}'
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
        return self


class PoissonGaussian(Settings):
    """Poisson-Gaussian noise: its variance at a grey value g is gain * (g - black) + sigma^2."""

    gain: Annotated[float, Field(ge=0, description="Grey values per electron counted.")]
    sigma: Annotated[
        float, Field(ge=0, description="Standard deviation of the part that is always there.")
    ] = 0.0
    black: Annotated[float, Field(description="Grey value where nothing is counted.")] = 0.0


NoiseSetting = (
    Literal["auto", "poisson", "correlated"] | Annotated[float, Field(ge=0)] | PoissonGaussian
)
"""How strong the noise is, or how that is found out."""


class Adapt(Settings):
    """Fine-tuning of the prior on the volume's own sections before it is restored."""

    steps: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000,
            description=(
                "Training steps; 0 leaves the prior as it is. Some sections are held out; unless the adapted prior "
                "denoises them better, as far as their noise lets that be told, the volume is restored with the prior as it was. "
                "White noise, as `noise` gives it, is not learnt. isotropic only."
            ),
        ),
    ] = 0


class Restore(Settings):
    """How it is restored."""

    mode: Annotated[
        Literal["isotropic", "denoise", "superres", "deblur"],
        Field(
            description=(
                "isotropic brings z to the in-plane voxel size; the others restore every section, from it and those beside it."
            )
        ),
    ] = "isotropic"
    factor: Annotated[
        int | None,
        Field(
            ge=1,
            le=32,
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
                "Network calls per sample; by default 12 (flower; from a learned estimate isotropic 6, superres 3), 100 (em-generalist), 1000 (dps). "
                "denoise with flower makes one, whatever this says, and these for every sample where there are several."
            ),
        ),
    ] = None
    estimator: Annotated[
        str,
        Field(
            description=(
                "flower: the learned estimate that sampling begins from, a shipped name or the path of a .safetensors file. auto: "
                "emgen-axial, which interpolates between sections, for isotropic, and emgen-sections, which sees a section and "
                "those before and behind it, for the other modes; denoise ends with it, or where there is one section only with a "
                "single call of the prior (the mean of both for correlated noise). linear: linear interpolation; denoise is then such "
                "a call."
            )
        ),
    ] = AUTO
    start: Annotated[
        Annotated[float, Field(ge=0, lt=1)] | None,
        Field(
            description=(
                "flower: time at which sampling begins from the estimate (0 is pure noise, 1 the estimate itself); "
                "by default 0.7; from a learned one isotropic 0.85, superres 0.95."
            )
        ),
    ] = None
    alpha: Annotated[
        float,
        Field(
            ge=0,
            le=1000,
            description=(
                "em-generalist: exponent of the data step (1 - t)^alpha, up to 2, larger trusts the measurement less; dps: scale "
                "of the gradient, larger trusts it more."
            ),
        ),
    ] = 0.3
    samples: Annotated[
        int,
        Field(
            ge=1,
            le=64,
            description=(
                "Posterior samples; above 1 the output is their mean (of denoise the estimate that they begin from), and their "
                "standard deviation is written too, calibrated on the input's own sections."
            ),
        ),
    ] = 1
    noise: Annotated[
        NoiseSetting,
        Field(
            description=(
                "Standard deviation of the measurement noise in grey values, or {gain, sigma, black} where it grows with "
                "brightness: variance gain * (grey - black) + sigma^2. auto: one number, estimated from the input for denoise "
                "and deblur; 0 for isotropic and superres, which keep what was measured with its noise. poisson: gain and sigma "
                "are estimated. correlated: so they are for noise that neighbouring pixels share, as in fast scans; auto and poisson "
                "take such noise for detail and leave it."
            )
        ),
    ] = "auto"
    psf: Annotated[Psf, Field(description="deblur only.")] = Psf()
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
                "Of the networks; auto is bfloat16 on a GPU and float32 on a CPU. bfloat16 halves the time on CPUs that have "
                "it (AVX-512 BF16, AMX)."
            )
        ),
    ] = "auto"
    seed: Annotated[
        int,
        Field(
            ge=0, lt=2**32, description="Seed of the noise; the same seed gives the same voxels."
        ),
    ] = 0
