"""What a metric is. A metric is one file of this package, `METRIC` in it, and one word in the package's list.

The workflow makes a rule of every metric: it measures into `qc/<name>.json`, which is then judged into
`qc/summary.json` and shown in `report.html`.

The list is read whenever Snakemake starts and wherever a metric is measured, so a metric's module imports
what is heavy (torch, matplotlib, scikit-image) inside `measure` and `panel`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, TypeVar

import numpy.typing as npt

from emgen.config.facts import Figures
from emgen.config.run import Config
from emgen.qc.report.blocks import Page, Panel
from emgen.qc.report.tables import Row, Table
from emgen.qc.sample import Sample
from emgen.qc.verdict import Check
from emgen.run.plan import Plan

FiguresT = TypeVar("FiguresT", bound=Figures)
Arrays = Mapping[str, npt.NDArray[Any]]


@dataclass(frozen=True)
class Needs:
    """What a metric cannot do without.

    Attributes:
        reference: whether there must be a ground truth (`qc.reference`).
        samples: whether there must be several posterior samples (`restore.samples`).
        modes: of restoration (`restore.mode`) that it is for; none stands for all.
        environment: conda environment of its rule, a file of `envs/`; "torch" where it computes with torch.
        threads: tiles measured at a time; some metrics measure without tiles.
        memory_mb: of its rule.
        runtime_min: minutes of its rule.
        gpu: whether it restores, and so takes the GPU, or all cores where there is none, for itself.
    """

    reference: bool = False
    samples: bool = False
    modes: tuple[str, ...] = ()
    environment: Literal["qc", "torch"] = "qc"
    threads: int = 1
    memory_mb: int = 4000
    runtime_min: int = 120
    gpu: bool = False


@dataclass(frozen=True)
class Measured(Generic[FiguresT]):
    """What a metric measured.

    Attributes:
        figures: its numbers, for `qc/<name>.json` and `summary.json`.
        arrays: what its panel shows besides, for `qc/<name>.npz`; only of metrics with `keeps_arrays`.
    """

    figures: FiguresT
    arrays: Arrays = field(default_factory=dict)


class Metric(ABC, Generic[FiguresT]):
    """One measure of a result, from voxels to verdict and report.

    Attributes:
        name: of its rule, of its files and of its part of `summary.json`.
        title: heading of its part of the report.
        message: what Snakemake says while it is measured.
        figures: type of its numbers.
        needs: what it cannot do without.
        keeps_arrays: whether its panel shows arrays that `measure` returns.
        labels: words for names of checks that are not words themselves.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    message: ClassVar[str]
    figures: type[FiguresT]
    needs: ClassVar[Needs] = Needs()
    keeps_arrays: ClassVar[bool] = False
    labels: ClassVar[Mapping[str, str]] = {}

    @abstractmethod
    def measure(self, sample: Sample, threads: int) -> Measured[FiguresT]:
        """Measure a sample, `threads` tiles at a time."""

    def checks(self, figures: FiguresT, plan: Plan) -> list[Check]:
        """Judge the figures; by default a metric judges nothing."""
        return []

    def rows(self, figures: FiguresT) -> list[Row]:
        """Lines of its table in the report: restored and interpolated; by default none."""
        return []

    def panel(self, figures: FiguresT, page: Page) -> Panel | None:
        """Its part of the report, None for nothing; by default its table."""
        rows = self.rows(figures)
        return Panel(self.title, (Table(page.columns, tuple(rows)),)) if rows else None

    def applies(self, config: Config) -> bool:
        """Whether a run has what the metric needs."""
        needs = self.needs
        referenced = not needs.reference or config.qc.reference is not None
        sampled = not needs.samples or config.restore.samples > 1
        suited = not needs.modes or config.restore.mode in needs.modes
        return referenced and sampled and suited

    @property
    def null_when(self) -> str:
        """When a summary has no figures of it, as a sentence; empty if it always has."""
        needs = self.needs
        reasons = ["without a reference"] * needs.reference + ["with one sample"] * needs.samples
        reasons += [f"in modes other than {' and '.join(needs.modes)}"] * bool(needs.modes)
        return f"Null {' and '.join(reasons)}." if reasons else ""

    def files(self, folder: str) -> dict[str, str]:
        """Its files in a folder, by what they hold."""
        files = {"figures": f"{folder}/{self.name}.json"}
        return files | ({"arrays": f"{folder}/{self.name}.npz"} if self.keeps_arrays else {})
