"""Every setting: its type, its default and its one sentence.

`config/config.yaml` and `config/schema.json` are written from here (`python -m emgen.config.manual`), and a
test keeps them in step. Machine matters (threads, memory, partitions) are not settings: they live in
`profiles/`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import Field, ValidationError, field_validator, model_validator

from emgen.config.restore import PoissonGaussian, Restore, Settings
from emgen.errors import EmgenError

Zyx = tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]]
Halo = tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]


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


class GridSettings(Settings):
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


class Output(Settings):
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
    def write_unit(self) -> tuple[int, int, int]:
        """The write unit: shard (0.5) or chunk (0.4)."""
        return self.shard if self.ngff == "0.5" else self.chunk


class Qc(Settings):
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


class Config(Settings):
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
        unit = self.output.write_unit
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
            if not str(part).startswith(
                ("tuple", "constrained", "float", "literal", PoissonGaussian.__name__)
            )
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
        if part == PoissonGaussian.__name__:
            model = PoissonGaussian
            break
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
