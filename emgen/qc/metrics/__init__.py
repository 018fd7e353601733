"""The metrics, in the order of the report. A new one is a file of this package and a word here."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from emgen.qc.metrics.metric import Metric

NAMES = (
    "heldout",
    "trial",
    "measurement",
    "image",
    "fsc",
    "segmentation",
    "seams",
    "consistency",
    "uncertainty",
)
"""Modules of this package; `METRIC` of a module is the metric."""

METRICS: tuple[Metric[Any], ...] = tuple(
    import_module(f"{__name__}.{name}").METRIC for name in NAMES
)


def named(name: str) -> Metric[Any]:
    """The metric of a name; `KeyError` if there is none."""
    return {metric.name: metric for metric in METRICS}[name]
