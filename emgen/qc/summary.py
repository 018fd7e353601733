"""`qc/summary.json`: every figure of a run, its verdicts and what they rest on.

What is measured of the restored volume is measured of linear interpolation as well: a figure says
something only beside what could be had for nothing. `config/summary.schema.json` is written from
here (`python -m emgen.qc.summary`), and a test keeps it in step.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from pydantic import Field

from emgen.config.facts import Figures
from emgen.run.trial_facts import Calibration

Verdict = Literal["pass", "warn", "fail"]
VERDICTS: tuple[Verdict, Verdict, Verdict] = ("pass", "warn", "fail")
Sector = Literal["spherical", "axial", "lateral"]
Plane = Literal["xy", "xz", "yz"]
Axis = Literal["z", "y", "x"]
T = TypeVar("T")


class Pair(Figures, Generic[T]):
    """The same of the restored volume and of linear interpolation."""

    restored: T
    interpolated: T


class Sampled(Figures):
    """What part of the volume the figures are from."""

    tiles: int
    largest_tile: tuple[int, int, int]
    share: float = Field(description="Measured voxels over all voxels of the output.")
    sections: tuple[int, int] = Field(
        description="First output section of the tiles, and the one after the last."
    )


class GreyError(Figures):
    """Errors in grey values."""

    rmse_grey: float | None
    bias_grey: float | None = Field(description="Mean error; positive is too bright.")


class ImageOf(GreyError):
    """One volume against the reference."""

    psnr_db: float | None = Field(description="Over all voxels; null if there is no error at all.")
    ssim: dict[Plane, float | None] = Field(description="Mean over the slices of each orientation.")


class Image(Figures):
    """Grey values against the reference."""

    sampled: Sampled
    data_range: float = Field(
        description="Grey values that PSNR and SSIM refer to: 255 for 8 bits, else the plan's."
    )
    figures: Pair[ImageOf]


class Resolved(Figures):
    """Where a curve first falls below a threshold."""

    threshold: float
    nm: float | None = Field(
        description="Full period; null if it is below from the first shell on."
    )
    at_nyquist: bool = Field(description="It never falls: two voxels or better.")
    reason: str


class Curve(Figures):
    """Fourier shell correlation in one sector, and the power over the reference's."""

    frequency_per_nm: list[float]
    correlation: list[float]
    power_ratio: list[float]
    nyquist_per_nm: float
    at_half: Resolved = Field(description="At 0.5, against a reference.")
    at_seventh: Resolved = Field(description="At 0.143, the convention for independent halves.")


class Shift(Figures):
    """How the volume lies against the reference, (z, y, x)."""

    voxels: tuple[float, float, float]
    nm: tuple[float, float, float]
    applied: bool
    reason: str


class FscOf(Figures):
    """One volume against the reference."""

    curves: dict[Sector, Curve]
    fine_power: dict[Sector, float | None] = Field(
        description="Power over the reference's between half and whole Nyquist frequency."
    )
    shift: Shift


class Fsc(Figures):
    """Fourier shell correlation with the reference."""

    sampled: Sampled
    figures: Pair[FscOf]


class Seam(Figures):
    """Traces of the block grid along one axis."""

    score: float | None = Field(
        description="Folded face-step score; null where there is no face between blocks."
    )
    offset: int | None = Field(description="Where it was found, in voxels from the block face.")
    paired: bool = Field(description="Found at plus and minus the offset.")
    height_grey: float = Field(description="Step beyond the usual in grey values.")
    chance: float = Field(description="The score that so few faces reach without a seam.")
    relative: float | None = Field(
        description="The score in proportion to control and chance; decides the verdict."
    )
    verdict: Verdict
    profile: list[float] = Field(
        description="Relative step by position in a block, from its face on."
    )


class Seams(Figures):
    """Traces of the block grid, and the same in a volume that has no blocks."""

    start: tuple[int, int, int] = Field(
        description="Whole blocks that were looked at: first voxel."
    )
    stop: tuple[int, int, int]
    block: tuple[int, int, int]
    halo: tuple[int, int, int]
    figures: Pair[dict[Axis, Seam]]


class ConsistencyOf(GreyError):
    """One volume, degraded again, against the input."""

    relative_to_noise: float | None = Field(
        description="RMSE over the noise of the input; null for noiseless input."
    )
    curves: dict[Sector, Curve]


class Consistency(Figures):
    """What the degraded result has in common with what was measured."""

    sampled: Sampled
    noise_grey: float
    grey_range: float
    figures: Pair[ConsistencyOf]


class ObjectErrors(Figures):
    """A segmentation against another."""

    voi_split_bits: float
    voi_merge_bits: float
    adapted_rand_error: float | None
    objects: int
    split: int
    merged: int
    error_free: int
    error_free_interval: tuple[float, float] = Field(
        description="Share of error-free objects, Wilson 95 %."
    )


class AgainstLabels(Pair[ObjectErrors]):
    """Segmented alike and compared with the reference labels."""

    reference: ObjectErrors = Field(
        description="The segmenter on the reference itself: what it can reach at best."
    )


class Segmentation(Figures):
    """What a fixed, untrained segmenter makes of the volumes: relative, never an accuracy."""

    sampled: Sampled
    against_reference: Pair[ObjectErrors] = Field(
        description="Against the same segmenter on the reference."
    )
    against_labels: AgainstLabels | None


PARTS: dict[str, type[Figures]] = {
    "seams": Seams,
    "consistency": Consistency,
    "image": Image,
    "fsc": Fsc,
    "segmentation": Segmentation,
}
"""What a rule of its own measures and writes to qc/<name>.json."""


class Uncertainty(Figures):
    """Standard deviation over posterior samples in grey values."""

    rms_grey: float
    p99_grey: float
    calibration: Calibration | None = Field(
        default=None, description="Null where it was not tried: the spread is that of the samples."
    )
    error_over_spread: float | None = Field(
        description="RMSE against the reference over rms spread; about 1 is calibrated."
    )
    coverage: dict[str, float] | None = Field(
        default=None,
        description=(
            "Share of the voxels that vary whose reference lies within 1, 2 and 3 standard deviations of the mean, those of one "
            "more sample; for four samples 0.61, 0.86 and 0.94 (Student's t) if errors are normal and the spread is right. Null without a reference."
        ),
    )


class Check(Figures):
    """One verdict: pass up to `warn`, warn up to `fail`, fail beyond; `higher`: or down to."""

    name: str
    verdict: Verdict
    measure: str = Field(description="What `value`, `warn` and `fail` are.")
    value: float | None
    warn: float | None = None
    fail: float | None = None
    higher: bool = False
    unit: str = ""
    reason: str


class Summary(Figures):
    """All figures and verdicts of a run."""

    schema_version: Literal[1] = 1
    emgen: str
    run: str
    key: str
    verdict: Verdict = Field(description="The worst of all checks.")
    checks: list[Check]
    seams: Seams
    consistency: Consistency
    image: Image | None = Field(
        description="Null without a reference, as are fsc and segmentation."
    )
    fsc: Fsc | None
    segmentation: Segmentation | None
    uncertainty: Uncertainty | None = Field(description="Null with one sample.")


def worst(verdicts: list[Verdict]) -> Verdict:
    """The worst of them; pass if there are none.

    >>> worst(["pass", "fail", "warn"])
    'fail'
    """
    return max(verdicts, key=VERDICTS.index, default="pass")


def schema() -> str:
    """JSON schema of `summary.json`, for other programs."""
    described: dict[str, Any] = Summary.model_json_schema(mode="serialization")
    return json.dumps(described, indent=2) + "\n"


if __name__ == "__main__":
    Path("config/summary.schema.json").write_text(schema())
