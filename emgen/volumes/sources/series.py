"""Which files of a folder are one series of sections, in which order, and which sections are missing.

The names decide. All must be alike but for their numbers, and one of the numbers must count the sections: it
differs in every file, and no other one says another order. Whatever does not fit so is doubted, not sorted somehow.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

NUMBER = re.compile(r"[0-9]+(?:[.,][0-9]+)*")
# a date and a time of day, whose parts count together: 2021-03-04_12-33-55, 20210304_123355, 21-05-20_123527
STAMP = re.compile(
    r"(?<![0-9])((?:19|20)?[0-9]{2})[-_.]?(0[1-9]|1[0-2])[-_.]?(0[1-9]|[12][0-9]|3[01])[-_ T@]+"
    r"([01][0-9]|2[0-3])[-_.:h]?([0-5][0-9])[-_.:m]?([0-5][0-9])(?![0-9])"
)
SEPARATOR = re.compile(r"[.,]")
MAX_LOST = 10  # so many missing sections for each that is there: more is no gap but another series
LISTED = 4  # patterns and files that a message names


@dataclass(frozen=True)
class Series:
    """Sections in their order.

    Attributes:
        files: one for each section, in order.
        lost: where sections are missing, counted in the series with them.
        doubt: why this may not be one series in this order, or nothing.
        notes: what the user should know, in sentences.
    """

    files: tuple[Path, ...]
    lost: tuple[int, ...] = ()
    doubt: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Column:
    """One of the numbers in the names.

    Attributes:
        values: in each of the files.
        clock: it is a date and a time of day, which order sections and do not count them.
    """

    values: tuple[Decimal, ...]
    clock: bool = False

    @property
    def counts(self) -> bool:
        """Whether it differs in every file."""
        return len(set(self.values)) == len(self.values)

    def sorted_by(self, order: Sequence[int]) -> list[Decimal]:
        return [self.values[i] for i in order]


def ordered(files: Sequence[Path]) -> Series:
    """The series that these files are."""
    fallback = tuple(sorted(files, key=natural))
    if len(files) < 2:
        return Series(fallback)
    patterns = Counter(map(pattern, fallback))
    if len(patterns) > 1:
        return Series(fallback, doubt=_several(patterns, fallback))
    columns, doubt = _columns(fallback)
    counting = [column for column in columns if column.counts]
    if doubt or not counting:
        return Series(fallback, doubt=doubt or _twice(columns, fallback))
    order = sorted(range(len(fallback)), key=lambda i: counting[-1].values[i])
    for column in columns:
        values = column.sorted_by(order)
        fall = next((i for i in range(1, len(values)) if values[i] < values[i - 1]), None)
        if fall is not None:
            a, b = (fallback[order[i]].name for i in (fall - 1, fall))
            return Series(
                fallback,
                doubt=f"{a} and {b} come in one order by one number, in another by another",
            )
    series = tuple(fallback[i] for i in order)
    return _with_gaps(series, [c.sorted_by(order) for c in counting if not c.clock])


def pattern(file: Path) -> str:
    """A name with # for each number.

    >>> pattern(Path("Tile_r1-c2_S_010.TIF"))
    'tile_r#-c#_s_#.tif'
    """
    return NUMBER.sub("#", file.stem.lower()) + file.suffix.lower()


def natural(file: Path) -> list[Any]:
    """Sorting key: numbers in a name by their value, so that 2 comes before 10.

    >>> [p.name for p in sorted([Path("s10.png"), Path("s2.png")], key=natural)]
    ['s2.png', 's10.png']
    """
    return [
        int(part) if part[:1].isdecimal() and part.isascii() else part.lower()
        for part in re.split(r"([0-9]+)", file.name)
    ] + [file.name]


def _columns(files: Sequence[Path]) -> tuple[list[Column], str]:
    """The numbers that are not the same in all names, and a doubt about their fractions."""
    columns: list[Column] = []
    doubt = ""
    names = [file.stem for file in files]
    stamps = [STAMP.search(name) for name in names]
    if all(stamps):
        clock = tuple(Decimal("".join(stamp.groups())) for stamp in stamps if stamp)
        columns.append(Column(clock, clock=True))
        names = [STAMP.sub("", name, count=1) for name in names]
    numbers = [NUMBER.findall(name) for name in names]
    if len(set(map(len, numbers))) > 1:
        return [], "the names have different numbers of numbers in them"
    for tokens in zip(*numbers, strict=True):
        parts = [SEPARATOR.split(token) for token in tokens]
        most = max(map(len, parts))
        if most == 2:
            column, unclear = _fractions(parts)
            columns.append(column)
            doubt = doubt or unclear
        elif min(map(len, parts)) == most:
            columns += [Column(tuple(map(Decimal, each))) for each in zip(*parts, strict=True)]
        else:
            doubt = doubt or f'"{tokens[0]}" and others in the names have different numbers of dots'
    return [column for column in columns if len(set(column.values)) > 1], doubt


def _fractions(parts: Sequence[Sequence[str]]) -> tuple[Column, str]:
    """Numbers with one dot or comma, and a doubt where 1.10 may come after 1.9 or between 1.1 and 1.2."""
    column = Column(tuple(Decimal(".".join(part)) for part in parts))
    digits = {len(part[1]) for part in parts if len(part) == 2}
    if len(digits) == 1 or len(set(_steps(sorted(column.values)))) == 1:
        return column, ""
    return column, (
        "the numbers in the names have a dot and different numbers of digits behind it, so that 1.10 "
        "may follow 1.9 or 1.1"
    )


def _steps(values: Sequence[Decimal]) -> list[Decimal]:
    return [b - a for a, b in pairwise(values)]


def _several(patterns: Counter[str], files: Sequence[Path]) -> str:
    parts = []
    for name, count in patterns.most_common(LISTED):
        example = next(file.name for file in files if pattern(file) == name)
        parts.append(f"{example} ({count} alike)" if count > 1 else example)
    more = len(patterns) - LISTED
    return f"the names are of {len(patterns)} kinds: {', '.join(parts)}" + (
        f" and {more} more" if more > 0 else ""
    )


def _twice(columns: Sequence[Column], files: Sequence[Path]) -> str:
    """Which two files have one number, in the column that has the most."""
    most = max((len(set(column.values)) for column in columns), default=1)
    values = next(
        (column.values for column in reversed(columns) if len(set(column.values)) == most),
        (Decimal(0),) * len(files),
    )
    (value, count), *_ = Counter(values).most_common(1)
    same = [file.name for file, each in zip(files, values, strict=True) if each == value]
    number = f"the number {value}" if columns else "the same number"
    return f"{' and '.join(same[:2])} have {number}" + (
        f", {count} files in all" if count > 2 else ""
    )


def _with_gaps(files: tuple[Path, ...], columns: Sequence[Sequence[Decimal]]) -> Series:
    """The series with the places of its missing sections, by the number that counts most evenly."""
    uneven = Series(
        files,
        notes=(
            "the numbers in the names are not evenly spaced: the sections are in their order, but "
            "missing ones cannot be seen",
        ),
    )
    if not columns:
        return uneven
    values = max(columns, key=lambda column: Counter(_steps(column)).most_common(1)[0][1])
    steps = _steps(values)
    usual, times = min(Counter(steps).items(), key=lambda each: (-each[1], each[0]))
    if times * 2 <= len(steps) and len(steps) > 2:
        return uneven
    lost: list[int] = []
    for i, step in enumerate(steps):
        if step % usual != 0:
            a, b, c = files[max(i - 1, 0)].name, files[i].name, files[i + 1].name
            return Series(files, doubt=f"{a}, {b} and {c} are not evenly spaced")
        missing = int(step / usual) - 1
        if missing + len(lost) > MAX_LOST * len(files):
            return Series(
                files,
                doubt=f"between {files[i].name} and {files[i + 1].name} {missing} numbers are left out",
            )
        at = i + 1 + len(lost)
        lost += range(at, at + missing)
    return Series(files, lost=tuple(lost))
