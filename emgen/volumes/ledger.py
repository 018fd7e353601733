"""What of a run is finished: one line for each block, and for each write unit of the output and its pyramid.

    ledger/blocks/0-63.jsonl                      the blocks that a restore job did
    ledger/restored.ome.zarr/0/0-63.jsonl         write units of the finest level, which stitch jobs wrote
    ledger/restored.ome.zarr/1/0-511.jsonl        those of the next level

A file is named after the first and the last unit that may be in it, and has one writer; lines are only ever added. A
unit is done when its line says so and its files hold the bytes that the line describes. So files and lines may be torn,
lost or foreign: what does not fit is made again, and nothing else.

    {"unit": 7, "turn": 0, "key": ..., "state": "done", "files": [{"size": ..., "mtime_ns": ..., "crc32c": ...}], ...,
     "line": "1f9a03c4"}

`line` is the CRC-32C of what stands before it. `turn` counts the lines of a unit, over all files: the last one holds.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import time
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import google_crc32c

from emgen.volumes.stamp import Stamp, clear, sync_folder

State = Literal["done", "empty", "failed", "damaged"]
"""done: made; empty: there was nothing to make, and the result stands for that; failed: it could not be made; damaged:
it was made, and its files no longer hold it."""
FINISHED = ("done", "empty")
_NAME = re.compile(r"(\d+)-(\d+)(\.\w+)?\.jsonl")
_SEAL = ', "line": "%08x"}'
_SEAL_LENGTH = len(_SEAL % 0)


@dataclass(frozen=True)
class Entry:
    """What a line says of a unit.

    Attributes:
        unit: its number.
        state: of it.
        files: the stamps of its files in their order, None for one that does not exist because all of its voxels are 0.
        made_of: digest of what it was computed from, where that can change.
        seconds: that it took.
        mean: of its voxels in grey values.
        sd: their standard deviation.
        reason: why it failed, or what is damaged.
        turn: how many lines the unit had before.
    """

    unit: int
    state: State
    files: tuple[Stamp | None, ...] = ()
    made_of: str | None = None
    seconds: float | None = None
    mean: float | None = None
    sd: float | None = None
    reason: str | None = None
    turn: int = 0

    @property
    def finished(self) -> bool:
        """Whether the line says that the unit has its result."""
        return self.state in FINISHED

    @property
    def checksums(self) -> list[int | None]:
        """CRC-32C of its files: what is made of the unit depends on nothing else of it."""
        return [stamp.crc32c if stamp else None for stamp in self.files]


@dataclass(frozen=True)
class Ledger:
    """The lines of units of one kind, made with one plan; lines of other plans are as if they were not there.

    Attributes:
        folder: of its files; made when the first line is written.
        key: of the plan.
    """

    folder: Path
    key: str

    def read(self, units: Iterable[int] | None = None) -> dict[int, Entry]:
        """The last line of each unit, by rising number.

        Args:
            units: those that are wanted, all by default; only files that may hold them are read.
        """
        wanted = None if units is None else sorted(set(units))
        found: dict[int, Entry] = {}
        for path, first, last in self._files():
            if wanted is None or bisect_left(wanted, first) < bisect_right(wanted, last):
                for entry in _entries(path, self.key):
                    before = found.get(entry.unit)
                    if before is None or entry.turn >= before.turn:
                        found[entry.unit] = entry
        return {unit: found[unit] for unit in (wanted or sorted(found)) if unit in found}

    def open(self, units: Collection[int], by: str = "") -> Book:
        """What is known of these units, and where more is written about them.

        Args:
            units: at least one.
            by: who writes, a word, if it is not the job that makes the units.
        """
        name = f"{min(units)}-{max(units)}{by and '.'}{by}.jsonl"
        return Book(self.folder / name, self.key, self.read(units))

    def mark(self, damage: dict[int, str], by: str) -> None:
        """Write that units are damaged, so that they are made again.

        Args:
            damage: what is wrong with each.
            by: who found it, a word.
        """
        if damage:
            book = self.open(list(damage), by)
            book.add(*(Entry(unit, "damaged", reason=words) for unit, words in damage.items()))

    def _files(self) -> Iterator[tuple[Path, int, int]]:
        """Every file, and the first and the last unit that may be in it."""
        if self.folder.is_dir():
            for path in sorted(self.folder.iterdir()):
                if match := _NAME.fullmatch(path.name):
                    yield path, int(match[1]), int(match[2])


@dataclass(frozen=True)
class Book:
    """One file of a ledger, to which this process alone adds lines, from any of its threads.

    Attributes:
        path: of the file.
        key: of the plan.
        entries: the last line of each unit.
    """

    path: Path
    key: str
    entries: dict[int, Entry]
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def add(self, *entries: Entry) -> None:
        """Write lines that outlive a power failure; their turn is set here. The files they speak of must be safe already.

        Raises:
            OSError: they cannot be written.
        """
        with self._lock:
            numbered = [replace(entry, turn=self._turn(entry.unit)) for entry in entries]
            _append(self.path, b"".join(_line(entry, self.key) for entry in numbered))
            self.entries.update({entry.unit: entry for entry in numbered})

    def _turn(self, unit: int) -> int:
        return self.entries[unit].turn + 1 if unit in self.entries else 0


@dataclass(frozen=True)
class Ledgers:
    """All ledgers of a run.

    Attributes:
        folder: where they lie.
        key: of the run's plan.
    """

    folder: Path
    key: str

    @property
    def blocks(self) -> Ledger:
        """Of blocks, by their number in the grid."""
        return Ledger(self.folder / "blocks", self.key)

    def level(self, volume: str | Path, level: int) -> Ledger:
        """Of the write units of a level of one of the run's volumes."""
        return Ledger(self.folder / Path(volume).name / str(level), self.key)


def digest(*parts: Any) -> str:
    """A short hash of numbers and words that go into JSON."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]


def _line(entry: Entry, key: str) -> bytes:
    facts: dict[str, Any] = {
        "unit": entry.unit,
        "turn": entry.turn,
        "key": key,
        "state": entry.state,
        "files": [stamp and stamp.facts() for stamp in entry.files],
        "made_of": entry.made_of,
        "seconds": entry.seconds,
        "mean": entry.mean,
        "sd": entry.sd,
        "reason": entry.reason,
        "host": socket.gethostname(),
        "time": round(time.time(), 1),
    }
    text = json.dumps({name: value for name, value in facts.items() if value is not None})[:-1]
    checksum: int = google_crc32c.value(text.encode())
    return (text + _SEAL % checksum + "\n").encode()


def _append(path: Path, lines: bytes) -> None:
    if path.is_dir():
        clear(path)
    new = not path.exists()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab+") as file:
        if file.tell():
            file.seek(-1, os.SEEK_END)
            # the last line may have been torn: it must not take the next one with it
            lines = lines if file.read(1) == b"\n" else b"\n" + lines
        file.write(lines)
        file.flush()
        os.fsync(file.fileno())
    if new:
        sync_folder(path.parent)


def _entries(path: Path, key: str) -> Iterator[Entry]:
    """Of every line of a file that is whole, and of this key."""
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError:
        return  # as if it had been lost
    for line in lines:
        text, seal = line[:-_SEAL_LENGTH], line[-_SEAL_LENGTH:]
        if seal != (_SEAL % google_crc32c.value(text)).encode():
            continue
        try:
            facts = json.loads(text + b"}")
            if facts["key"] == key:
                yield _entry(facts)
        except (ValueError, KeyError, TypeError):
            continue  # of a version that writes other lines


def _entry(facts: dict[str, Any]) -> Entry:
    return Entry(
        unit=facts["unit"],
        state=facts["state"],
        files=tuple(each and Stamp.read(each) for each in facts["files"]),
        made_of=facts.get("made_of"),
        seconds=facts.get("seconds"),
        mean=facts.get("mean"),
        sd=facts.get("sd"),
        reason=facts.get("reason"),
        turn=facts["turn"],
    )
