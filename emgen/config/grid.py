"""The settings of `grid`: how the output is cut into blocks."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from emgen.config.settings import Count, Settings, Zyx

Halo = tuple[Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)], Annotated[int, Field(ge=0)]]


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
        Count, Field(description="Blocks that one restore job does, one after the other.")
    ] = 64

    @model_validator(mode="after")
    def _halo_fits_block(self) -> GridSettings:
        if any(h > b for h, b in zip(self.halo, self.block, strict=True)):
            raise ValueError(
                f"the halo {list(self.halo)} must not be larger than the block {list(self.block)} along any axis; "
                "choose a larger block or a smaller halo"
            )
        return self
