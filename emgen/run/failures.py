"""Blocks of a job that could not be restored: when the job stops for them, and what it says in the end."""

from __future__ import annotations

from dataclasses import dataclass, field

from emgen.errors import EmgenError
from emgen.run.plan import Plan
from emgen.volumes.ledger import Entry

FEWEST = 3
"""Failures that never stop a job: single blocks of a damaged input."""
SHARE = 0.1
"""Of a job's blocks: where more fail, something is wrong with all of them."""
MOST_NAMED = 10
"""Failed blocks that the error names, each with its place."""


@dataclass
class Failures:
    """What failed of a job so far.

    Attributes:
        plan: of the run.
        blocks: of the job.
        tried: how many blocks ended, well or not.
        failed: those that did not end well.
    """

    plan: Plan
    blocks: range
    tried: int = 0
    failed: list[Entry] = field(default_factory=list)

    def add(self, entry: Entry) -> None:
        """A block that ended."""
        self.tried += 1
        if not entry.finished:
            self.failed.append(entry)

    @property
    def too_many(self) -> bool:
        """Whether the job stops: at least three failed, and they are all that was tried or more than 10 % of all."""
        count = len(self.failed)
        return count >= FEWEST and (count == self.tried or count > SHARE * len(self.blocks))

    def refuse(self) -> None:
        """`EmgenError` if a block failed."""
        if not self.failed:
            return
        ended = "the job stopped there" if self.too_many else "the others are done"
        named = ", ".join(self._place(entry) for entry in self.failed[:MOST_NAMED])
        more = len(self.failed) - MOST_NAMED
        raise EmgenError(
            f"{len(self.failed)} of {len(self.blocks)} blocks could not be restored, {ended}: {named}"
            f"{f' and {more} more' if more > 0 else ''}. The first: {self.failed[0].reason}. Start again when the cause "
            "is gone: what is done stays"
        )

    def _place(self, entry: Entry) -> str:
        core = self.plan.grid[entry.unit].core
        return f"block {entry.unit} (voxels {core.start} to {core.stop})"


def reason(error: Exception) -> str:
    """What an error says, in one line; the kind of one that is no `EmgenError` comes first."""
    words = " ".join(str(error).split())
    return words if isinstance(error, EmgenError) else f"{type(error).__name__}: {words}"
