"""Tables of the report: a figure of the restored volume beside that of interpolation."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

from emgen.qc.verdict import Verdict
from emgen.qc.words import number


@dataclass(frozen=True)
class Cell:
    """One entry.

    Attributes:
        text: what is printed.
        best: whether it is set in bold.
        verdict: shown as a badge instead of the text.
    """

    text: str
    best: bool = False
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Row:
    """One line: what it is of, its entries and their unit."""

    label: str
    cells: tuple[Cell, ...]
    unit: str = ""


@dataclass(frozen=True)
class Table:
    """Rows under the headings of their columns."""

    kind: ClassVar[str] = "table"
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    title: str = ""
    corner: str = ""


def row(
    label: str,
    values: Sequence[float | None],
    form: str,
    unit: str = "",
    *,
    higher: bool = False,
    key: Callable[[float], float] = float,
    compare: bool = True,
    missing: str = "none",
    texts: Sequence[str] | None = None,
) -> Row:
    """A line of numbers, the better of the first two (restored, interpolated) in bold.

    Numbers that look equal are equally good.

    Args:
        label: what they are.
        values: restored, interpolated, and what else the table has columns for.
        form: their format, such as ".2f".
        unit: behind them.
        higher: whether the greater is the better.
        key: what of a number is compared, for instance `abs`.
        compare: whether either is better at all.
        missing: what None is printed as.
        texts: what is printed instead of the numbers.
    """
    printed = texts or [missing if value is None else number(value, form) for value in values]
    best = None
    if compare and None not in values[:2] and printed[0] != printed[1]:
        restored, interpolated = (key(value) for value in values[:2] if value is not None)
        if restored != interpolated:
            best = 0 if (restored > interpolated) == higher else 1
    return Row(label, tuple(Cell(text, k == best) for k, text in enumerate(printed)), unit)


def distance_from_one(ratio: float) -> float:
    """How far a ratio is from 1, twice as much being as far as half as much.

    >>> distance_from_one(0.5), distance_from_one(2.0)
    (2.0, 2.0)
    """
    return max(ratio, 1 / ratio) if ratio > 0 else math.inf
