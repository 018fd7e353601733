"""Every setting: its type, its default and its one sentence.

`config/config.yaml` and `config/schema.json` are written from here (`python -m emgen.manual`), and a
test keeps them in step. Machine matters (threads, memory, partitions) are not settings: they live in
`profiles/`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from emgen.errors import EmgenError

Zyx = tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]]
Halo = tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Input(_Settings):
    """What was measured."""

    volume: Annotated[
        str,
        Field(
            description="OME-Zarr 0.4 or 0.5 image, a local path or a URL (s3://, https://); 3-D, any integer or float type."
        ),
    ]


class Psf(_Settings):
    """The point spread function of `mode: deblur`, in the plane."""

    sigma: Annotated[
        Annotated[float, Field(gt=0)]
        | tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]],
        Field(
            description="Standard deviation of a Gaussian in pixels; two numbers (y, x) for an astigmatic one."
        ),
    ] = 2.0


class Adapt(_Settings):
    """Fine-tuning of the prior on the volume's own sections before it is restored."""

    steps: Annotated[
        int,
        Field(
            ge=0,
            le=1_000_000,
            description=(
                "Training steps; 0 leaves the prior as it is. Some sections are held out; unless the adapted prior "
                "denoises them better, the volume is restored with the prior as it was. isotropic only."
            ),
        ),
    ] = 0


class Restore(_Settings):
    """How it is restored."""

    mode: Annotated[
        Literal["isotropic", "denoise", "superres", "deblur"],
        Field(
            description="isotropic brings z to the in-plane voxel size; the others work section by section."
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
            description="Network calls per sample; by default 12 (flower), 100 (em-generalist), 1000 (dps).",
        ),
    ] = None
    start: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="flower: time at which sampling starts from the interpolation (0 is pure noise, 1 the interpolation itself).",
        ),
    ] = 0.7
    alpha: Annotated[
        float,
        Field(
            ge=0,
            le=2,
            description="em-generalist: exponent of the data step (1 - t)^alpha, larger trusts the measurement less; dps: scale of the gradient.",
        ),
    ] = 0.3
    samples: Annotated[
        int,
        Field(
            ge=1,
            le=64,
            description="Posterior samples; above 1 the output is their mean, and their standard deviation is written too.",
        ),
    ] = 1
    noise: Annotated[
        Literal["auto"] | Annotated[float, Field(ge=0)],
        Field(
            description=(
                "Standard deviation of the measurement noise in grey values. auto: estimated from the input for denoise "
                "and deblur; 0 for isotropic and superres, which returns measured sections unchanged."
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
    seed: Annotated[
        int,
        Field(
            ge=0, lt=2**32, description="Seed of the noise; the same seed gives the same voxels."
        ),
    ] = 0

    @model_validator(mode="after")
    def _factor_fits_mode(self) -> Restore:
        if self.mode == "superres" and self.factor not in (2, 3, 4):
            raise ValueError(f"superres needs `factor: 2`, `3` or `4`; found {self.factor}")
        if self.mode in ("denoise", "deblur") and self.factor not in (None, 1):
            raise ValueError(f"{self.mode} keeps the voxel size; remove `factor: {self.factor}`")
        if self.adapt.steps and self.mode != "isotropic":
            raise ValueError(
                f"adapt: the sections of a volume to {self.mode} are what is to be mended; a prior adapted to them would "
                "learn their noise and blur. Remove `adapt`, or train a prior on better data: emgen train"
            )
        return self

    @property
    def calls(self) -> int:
        """Steps, with the sampler's own default."""
        return self.steps or {"flower": 12, "em-generalist": 100, "dps": 1000}[self.sampler]


class GridSettings(_Settings):
    """How the output is cut, in output voxels (z, y, x)."""

    block: Annotated[
        Zyx, Field(description="Core of a block; a whole multiple of output.shard.")
    ] = (128, 128, 128)
    halo: Annotated[
        Halo,
        Field(
            description="Computed beyond the core on every side and averaged with the neighbours."
        ),
    ] = (16, 16, 16)
    blocks_per_job: Annotated[
        int, Field(gt=0, description="Blocks that one restore job does, one after the other.")
    ] = 64

    @model_validator(mode="after")
    def _halo_fits_block(self) -> GridSettings:
        if any(h > b for h, b in zip(self.halo, self.block, strict=True)):
            raise ValueError(
                f"the halo {list(self.halo)} must not be larger than the block {list(self.block)} along any axis; "
                "choose a larger block or a smaller halo"
            )
        return self


class Output(_Settings):
    """How it is stored."""

    ngff: Annotated[
        Literal["0.4", "0.5"],
        Field(
            description="OME-Zarr version: 0.5 (Zarr 3, sharded), or 0.4 for older viewers (Zarr 2)."
        ),
    ] = "0.5"
    chunk: Annotated[Zyx, Field(description="Voxels of a chunk, what a viewer reads.")] = (
        64,
        64,
        64,
    )
    shard: Annotated[
        Zyx,
        Field(
            description="Voxels of a shard, what is written as one file (0.5 only); whole multiples of the chunk."
        ),
    ] = (
        128,
        128,
        128,
    )

    @model_validator(mode="after")
    def _shard_fits_chunk(self) -> Output:
        if any(s % c for s, c in zip(self.shard, self.chunk, strict=True)):
            raise ValueError(
                f"output.shard {list(self.shard)} must be whole multiples of output.chunk {list(self.chunk)}"
            )
        return self

    @property
    def unit(self) -> tuple[int, int, int]:
        """The write unit: shard (0.5) or chunk (0.4)."""
        return self.shard if self.ngff == "0.5" else self.chunk


class Qc(_Settings):
    """What the result is measured against."""

    reference: Annotated[
        str | None,
        Field(description="Ground truth OME-Zarr on the output's voxels, if there is one."),
    ] = None
    labels: Annotated[
        str | None,
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
        int,
        Field(gt=0, description="At most so many tiles, spread evenly; the report says how many."),
    ] = 64


class Config(_Settings):
    """A run of the workflow. Everything lands under results/<run>/."""

    run: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$",
            description="Name of the run; everything lands under results/<run>/.",
        ),
    ]
    input: Annotated[Input, Field(description="What was measured.")]
    restore: Annotated[Restore, Field(description="How it is restored.")] = Restore()
    grid: Annotated[
        GridSettings,
        Field(description="How the output is cut into blocks, in output voxels (z, y, x)."),
    ] = GridSettings()
    output: Annotated[Output, Field(description="How it is stored.")] = Output()
    qc: Annotated[Qc, Field(description="What the result is measured against.")] = Qc()

    @field_validator("run", mode="before")
    @classmethod
    def _run_is_text(cls, value: Any) -> Any:
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _block_fits_shard(self) -> Config:
        unit = self.output.unit
        if any(b % u for b, u in zip(self.grid.block, unit, strict=True)):
            raise ValueError(
                f"grid.block {list(self.grid.block)} must be whole multiples of the write unit {list(unit)} "
                f"(output.{'shard' if self.output.ngff == '0.5' else 'chunk'}): two jobs that write one unit lose voxels"
            )
        return self


def parse(settings: dict[str, Any]) -> Config:
    """The typed configuration of a run.

    Raises:
        EmgenError: unknown key, wrong type or settings that do not fit together; every fault in one message.
    """
    try:
        return Config.model_validate(settings)
    except ValidationError as error:
        faults = "\n".join(f"  {_fault(each)}" for each in error.errors())
        raise EmgenError(
            f"the configuration is not right:\n{faults}\nEvery key is described in config/config.yaml."
        ) from None


def _fault(error: Any) -> str:
    key = (
        ".".join(
            str(part)
            for part in error["loc"]
            if not str(part).startswith(("tuple", "constrained", "float", "literal"))
        )
        or "configuration"
    )
    if error["type"] == "extra_forbidden":
        return f"{key}: there is no such key{_nearest(error['loc'])}"
    if error["type"] == "missing":
        return f"{key}: is missing and has no default"
    if error["type"] == "value_error":
        return f"{key}: {error['ctx']['error']}"
    return f"{key}: {error['msg'][0].lower()}{error['msg'][1:]}; found {error['input']!r}"


def _nearest(loc: tuple[Any, ...]) -> str:
    import difflib

    model: Any = Config
    for part in loc[:-1]:
        model = model.model_fields[part].annotation
    close = difflib.get_close_matches(str(loc[-1]), model.model_fields, n=1)
    return (
        f"; did you mean `{close[0]}`?" if close else f"; known are {', '.join(model.model_fields)}"
    )


def load(path: str | Path) -> Config:
    """The configuration in a YAML file.

    Raises:
        EmgenError: no such file, not YAML, or not a configuration.
    """
    try:
        settings = yaml.safe_load(Path(path).read_text())
    except OSError as error:
        raise EmgenError(f"{path} cannot be read: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise EmgenError(f"{path} is not YAML: {error}") from None
    if not isinstance(settings, dict):
        raise EmgenError(
            f"{path}: expected keys and values, such as `run: my-run`; found {type(settings).__name__}"
        )
    return parse(settings)
