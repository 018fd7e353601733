"""Where the results of a run lie in its folder, and what its ledgers say of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt

from emgen.run.plan import Plan
from emgen.volumes.blocks import BlockStores
from emgen.volumes.ledger import Ledgers

VOLUMES = {"mean": "restored.ome.zarr", "std": "uncertainty.ome.zarr"}
"""The output that holds a result of the blocks, blended."""


@dataclass(frozen=True)
class Results:
    """The results of a run.

    Attributes:
        plan: of the run.
        folder: of the run, `results/<run>`.
    """

    plan: Plan
    folder: Path

    @property
    def fields(self) -> tuple[str, ...]:
        """What every block has: "mean", and "std" where there are several samples."""
        return ("mean", "std") if self.plan.several_samples else ("mean",)

    @cached_property
    def blocks(self) -> BlockStores:
        """The results of blocks, until they are stitched."""
        dtypes: dict[str, npt.DTypeLike] = {"mean": self.plan.dtype, "std": np.float32}
        fields = {field: dtypes[field] for field in self.fields}
        return BlockStores(
            self.folder / "blocks", self.plan.key, self.plan.grid.outer_shape(), fields
        )

    @cached_property
    def ledgers(self) -> Ledgers:
        """What is finished."""
        return Ledgers(self.folder / "ledger", self.plan.key)

    def volume(self, field: str) -> Path:
        """The output of a field."""
        return self.folder / VOLUMES[field]

    @property
    def volumes(self) -> tuple[Path, ...]:
        """Every output."""
        return tuple(self.volume(field) for field in self.fields)
