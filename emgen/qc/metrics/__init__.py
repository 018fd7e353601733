"""The metrics, in the order of the report. A new one is a file of this package and a line here."""

from __future__ import annotations

from typing import Any

from emgen.qc.metrics.consistency import Consistency
from emgen.qc.metrics.fsc import Fsc
from emgen.qc.metrics.image import Image
from emgen.qc.metrics.metric import Metric
from emgen.qc.metrics.seams import Seams
from emgen.qc.metrics.segmentation import Segmentation
from emgen.qc.metrics.uncertainty import Uncertainty

METRICS: tuple[Metric[Any], ...] = (
    Image(),
    Fsc(),
    Segmentation(),
    Seams(),
    Consistency(),
    Uncertainty(),
)


def named(name: str) -> Metric[Any]:
    """The metric of a name; `KeyError` if there is none."""
    return {metric.name: metric for metric in METRICS}[name]
