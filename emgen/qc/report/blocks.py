"""What a metric's part of the report is made of: paragraphs, pictures and tables, as plain data.

Texts are escaped by the page; what is HTML already comes as `Markup`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy.typing as npt
from markupsafe import Markup

from emgen.qc.report.sections import Panels, View, title
from emgen.qc.report.tables import Table
from emgen.qc.sample import Sample, baseline
from emgen.run.plan import Plan


@dataclass(frozen=True)
class Paragraph:
    """Running text."""

    kind: ClassVar[str] = "paragraph"
    text: str


@dataclass(frozen=True)
class Note:
    """Small text below a table: how to read it, what it is of."""

    kind: ClassVar[str] = "note"
    text: str


@dataclass(frozen=True)
class Picture:
    """One picture over the whole width."""

    kind: ClassVar[str] = "picture"
    image: Markup
    caption: str = ""


@dataclass(frozen=True)
class Gallery:
    """Pictures side by side.

    Attributes:
        pictures: what stands above a picture, and the picture.
        columns: pictures in a row.
        title: heading of the gallery.
        caption: text below.
        scale: colour scale beside the pictures.
    """

    kind: ClassVar[str] = "gallery"
    pictures: Sequence[tuple[str, Markup]]
    columns: int
    title: str = ""
    caption: str = ""
    scale: Markup | None = None


Block = Paragraph | Note | Picture | Gallery | Table


@dataclass(frozen=True)
class Panel:
    """A metric's part of the report."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Page:
    """What a panel may look at besides its figures.

    Attributes:
        sample: the run's volumes.
        arrays: what the metric kept beside its figures, by name.
        view: the sections that the page shows.
        sections: grey values of these sections, by plane and volume.
    """

    sample: Sample
    arrays: Mapping[str, npt.NDArray[Any]]
    view: View
    sections: Panels

    @property
    def plan(self) -> Plan:
        """The run's plan."""
        return self.sample.plan

    @property
    def baseline(self) -> str:
        """The name of what the result is compared with."""
        return baseline(self.plan)

    @property
    def columns(self) -> tuple[str, str]:
        """Headings of a table that compares the result with the baseline."""
        return "restored", self.baseline

    def title(self, volume: str) -> str:
        """The name of a volume."""
        return title(self.plan, volume)
