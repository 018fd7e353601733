"""`calibration.json`: what a trial on the input's own sections says of the spread of samples. Needs no torch."""

from __future__ import annotations

from pydantic import Field

from emgen.config.facts import Figures


class Calibration(Figures):
    """What the input's own sections say of the spread of samples, measured once more and restored."""

    factor: float | None = Field(
        description=(
            "Root mean square of the error over what the samples' spread lets expect; the spread was multiplied by it. Null "
            "where sections are too small or too noisy to tell."
        )
    )
    crops: int = Field(
        description="Parts of sections that were tried; isotropic: each along both axes."
    )
