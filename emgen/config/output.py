"""The settings of `output`: how the result is stored."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from emgen.config.settings import Settings, Zyx


class Output(Settings):
    """How the result is stored."""

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
    ] = (128, 128, 128)

    @field_validator("ngff", mode="before")
    @classmethod
    def _version_is_text(cls, value: Any) -> Any:
        # YAML takes 0.5 without quotes for a number
        return str(value) if isinstance(value, float) else value

    @model_validator(mode="after")
    def _shard_fits_chunk(self) -> Output:
        if any(s % c for s, c in zip(self.shard, self.chunk, strict=True)):
            raise ValueError(
                f"output.shard {list(self.shard)} must be whole multiples of output.chunk {list(self.chunk)}"
            )
        return self

    @property
    def write_unit(self) -> tuple[int, int, int]:
        """What is written as one file, in voxels (z, y, x): the shard (0.5) or chunk (0.4)."""
        return self.shard if self.ngff == "0.5" else self.chunk
