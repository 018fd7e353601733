"""Super-resolution slice by slice: coarser pixels in y and x."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from emgen.geometry import Zyx
from emgen.physics.operators.averaging import Averaging
from emgen.physics.operators.operator import Reach


@dataclass(frozen=True)
class Downsample(Averaging):
    """Pixels `factor` times coarser: the mean of factor x factor pixels, or their first one.

    `mean` is a probe that dwells on the whole coarse pixel, `slice` one that visits its corner.
    """

    factor: int
    kind: Literal["mean", "slice"] = "mean"

    def validate(self) -> None:
        if self.factor < 1:
            raise ValueError(f"the factor must be a whole number from 1 on, not {self.factor}")
        if self.kind not in ("mean", "slice"):
            raise ValueError(f'the kind of down-sampling is "mean" or "slice", not "{self.kind}"')

    @property
    def scale(self) -> Zyx:
        return (1, self.factor, self.factor)

    @property
    def reach(self) -> tuple[Reach, Reach, Reach]:
        last = self.factor - 1 if self.kind == "mean" else 0
        return (0, 0), (0, last), (0, last)
