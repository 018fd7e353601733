"""Metadata of unknown soundness, read field by field: whatever is wrong ends in one sentence that says where.

Files come from many programs and some are damaged. Nothing of them is used before its type was looked at here.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from emgen.errors import EmgenError

LONGEST = 60  # characters of a wrong value that are repeated
MOST_ITEMS = 1000  # of a list that describes axes, levels or series: more describe no image


@dataclass(frozen=True)
class Field:
    """A value in JSON metadata and its place.

    >>> Field({"axes": [{"name": "z"}]}, "v.zarr")["axes"].items()[0]["name"].text()
    'z'

    Attributes:
        value: as the JSON library gives it.
        where: path or URL of the metadata.
        place: keys and indices that lead to the value.
    """

    value: Any
    where: str
    place: str = ""

    def fault(self, expected: str) -> EmgenError:
        """What is wrong with this value, as an exception to raise."""
        place = f" at {self.place}" if self.place else ""
        found = "nothing" if self.value is None else shortened(self.value)
        return EmgenError(f"{self.where}: the metadata{place} should be {expected}; found {found}")

    def __getitem__(self, key: str) -> Field:
        """The field of a key; its value is None where there is no such key."""
        return Field(self._mapping().get(key), self.where, f"{self.place}.{key}".lstrip("."))

    def __contains__(self, key: str) -> bool:
        return self._mapping().get(key) is not None

    def __bool__(self) -> bool:
        return self.value is not None

    def __iter__(self) -> Iterator[Field]:
        return iter(self.items())

    def items(self) -> list[Field]:
        """The fields of a list."""
        if not isinstance(self.value, list | tuple):
            raise self.fault("a list")
        if len(self.value) > MOST_ITEMS:
            raise self.fault(f"a list of at most {MOST_ITEMS} entries")
        return [Field(v, self.where, f"{self.place}[{i}]") for i, v in enumerate(self.value)]

    def text(self) -> str:
        """A text that is not empty."""
        if not isinstance(self.value, str) or not self.value:
            raise self.fault("a text")
        return self.value

    def number(self) -> float:
        """A finite number."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float):
            raise self.fault("a number")
        try:
            number = float(self.value)
        except OverflowError:  # a whole number of more than 308 digits
            number = math.inf
        if not math.isfinite(number):
            raise self.fault("a finite number")
        return number

    def numbers(self, count: int) -> list[float]:
        """A list of so many finite numbers."""
        items = self.items()
        if len(items) != count:
            raise self.fault(f"{count} numbers, one for each axis")
        return [item.number() for item in items]

    def _mapping(self) -> dict[str, Any]:
        if not isinstance(self.value, dict):
            raise self.fault("keys and values")
        return self.value


def shortened(value: Any) -> str:
    """A value as text of at most 60 characters."""
    # cut before it is written out: a value may be as large as a file, or nested a thousand times
    if isinstance(value, str):
        return repr(value if len(value) <= LONGEST else f"{value[:LONGEST]}...")
    if isinstance(value, dict | list | tuple):
        return (
            f"{'keys and values' if isinstance(value, dict) else 'a list'} of length {len(value)}"
        )
    if isinstance(value, int) and abs(value) >= 10**LONGEST:
        return "a whole number of more than 60 digits"
    return repr(value)
