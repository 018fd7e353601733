"""Whether what a run wrote is still there and unchanged: looked at by every start, and thoroughly by `emgen verify`.

A start compares size and time of every file with the ledger, and reads those that differ. `emgen verify` reads all.
What is damaged is marked in the ledger. A start also takes away the JSON of each job that something is missing of, and
of what follows from it, so that Snakemake runs just these again; inside them, only what is missing is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from emgen.errors import EmgenError
from emgen.run.facts import read_facts, torn, with_what_follows
from emgen.run.results import Results
from emgen.volumes.ledger import Entry, Ledger
from emgen.volumes.stamp import clear, compared
from emgen.volumes.volume import Volume
from emgen.volumes.write_units import WriteUnits


@dataclass
class Examined:
    """Units of one kind, compared with their ledger.

    Attributes:
        name: of the kind, for messages.
        ledger: of them.
        count: how many there will be.
        sound: those that are done, and whose files hold what was written.
        damage: what is wrong with those that were done and no longer hold it.
        touched: sound ones whose files were written again with the same bytes.
    """

    name: str
    ledger: Ledger
    count: int
    sound: set[int] = field(default_factory=set)
    damage: dict[int, str] = field(default_factory=dict)
    touched: list[Entry] = field(default_factory=list)

    def examine(self, files: Callable[[int], Sequence[Path]], thorough: bool) -> Examined:
        """Compare the files of all units with what the ledger says of them."""
        for unit, entry in self.ledger.read().items():
            if unit >= self.count:
                continue
            if entry.state == "damaged":
                self.damage[unit] = entry.reason or "it was marked"
            elif entry.finished:
                damage, stamps = compared(files(unit), entry.files, thorough)
                if damage:
                    self.damage[unit] = damage
                    continue
                self.sound.add(unit)
                if stamps != entry.files:
                    self.touched.append(replace(entry, files=stamps))
        return self

    def note(self, by: str) -> None:
        """Write into the ledger what was found."""
        marked = {u for u, entry in self.ledger.read(self.damage).items() if not entry.finished}
        self.ledger.mark({u: words for u, words in self.damage.items() if u not in marked}, by)
        if self.touched:
            self.ledger.open([entry.unit for entry in self.touched], by).add(*self.touched)

    @property
    def missing(self) -> list[int]:
        """Units that have no sound result."""
        return [unit for unit in range(self.count) if unit not in self.sound]


@dataclass(frozen=True)
class Examination:
    """All units of a run.

    Attributes:
        results: of the run.
        blocks: None where all block results were removed, which nobody needs once everything is stitched.
        levels: of each volume, each level.
        unreadable: what is wrong with metadata.
    """

    results: Results
    blocks: Examined | None
    levels: dict[Path, list[Examined]]
    unreadable: list[str]

    @classmethod
    def of(cls, results: Results, thorough: bool = False) -> Examination:
        """Look at all units.

        Args:
            results: of the run.
            thorough: every byte is read.
        """
        levels, unreadable = {}, []
        for path in results.volumes:
            if path.exists():
                try:
                    levels[path] = list(_levels(results, path, thorough))
                except EmgenError as error:
                    unreadable.append(str(error))
        blocks = Examined("blocks", results.ledgers.blocks, len(results.plan.grid)).examine(
            lambda unit: list(results.blocks.files(unit).values()), thorough
        )
        stitched = bool(levels) and all(not each[0].missing for each in levels.values())
        removed = stitched and not results.blocks.existing()
        for store in results.blocks.existing().values():
            files = results.blocks.damaged_metadata(store)
            unreadable += [f"{path} is damaged" for path in files]
        return cls(results, None if removed else blocks, levels, unreadable)

    def __iter__(self) -> Iterator[Examined]:
        yield from [self.blocks] if self.blocks else []
        for levels in self.levels.values():
            yield from levels

    @property
    def damage(self) -> list[str]:
        """What is wrong, each in words."""
        found = [words for each in self for words in each.damage.values()]
        return [
            *self.unreadable,
            *found,
            *(f"{path} is damaged" for path in torn(self.results.folder)),
        ]

    def note(self, by: str) -> None:
        """Write into the ledgers what was found."""
        for each in self:
            each.note(by)

    def unfit(self) -> list[Path]:
        """JSON of jobs that is damaged, or stands for something that is missing, and of all that follows from it."""
        run, grid = self.results.folder, self.results.plan.grid
        blocks = {grid.job_of(unit) for unit in self.blocks.missing} if self.blocks else set()
        if self.blocks:
            blocks |= {n for n in range(grid.jobs) if not self._fits(f"blocks/{n}.json", n)}
        stitched = blocks | {n for n in range(grid.jobs) if not self._fits(f"stitch/{n}.json", n)}
        if self.results.plan.several_samples and read_facts(run / "calibration.json") is None:
            stitched |= set(range(grid.jobs))
        for path, levels in self.levels.items():
            units = WriteUnits(Volume.open(path))
            owners = (grid.owner(units.box(unit).start) for unit in levels[0].missing)
            stitched |= {grid.job_of(index) for index in owners}
        coarse = [
            level
            for levels in self.levels.values()
            for level in range(1, len(levels))
            if levels[level].missing or not self._fits(f"pyramid/{level}.json")
        ]
        unfit = [f"blocks/{n}.json" for n in sorted(blocks)]
        unfit += [f"stitch/{n}.json" for n in sorted(stitched)]
        if stitched or not self._fits("restored.json"):
            unfit.append("restored.json")
            coarse.append(1)
        depth = max((len(levels) for levels in self.levels.values()), default=1)
        unfit += [f"pyramid/{level}.json" for level in range(min(coarse, default=depth), depth)]
        there = [path for name in unfit if (path := run / name).exists()]
        return list(dict.fromkeys([*there, *with_what_follows(torn(run), run)]))

    def _fits(self, name: str, job: int | None = None) -> bool:
        """Whether a JSON file is whole, of this plan and, if it is of a job, of the blocks that the job has now."""
        facts, plan = read_facts(self.results.folder / name), self.results.plan
        if facts is None or facts.get("key") != plan.key:
            return False
        blocks = None if job is None else plan.grid.job(job)
        return blocks is None or [facts.get("first"), facts.get("stop")] == [
            blocks.start,
            blocks.stop,
        ]


def put_right(results: Results) -> list[str]:
    """Find what was lost or damaged since the last start, and see to it that it is made again.

    Args:
        results: of the run; no job of it is at work.

    Returns:
        What is damaged, each in words; nothing of what was never made.
    """
    examination = Examination.of(results)
    said = examination.damage
    examination.note(by="start")
    for first in results.blocks.existing():
        results.blocks.prepare(first)
    for path in examination.unfit():
        clear(path)
    return said


def _levels(results: Results, path: Path, thorough: bool) -> Iterator[Examined]:
    for level in range(len(Volume.open(path).levels)):
        units = WriteUnits(Volume.open(path, level))
        name = f"{path.name}, level {level}"
        examined = Examined(name, results.ledgers.level(path, level), len(units))
        yield examined.examine(units.files, thorough)
