"""How far a run is, and what lies on the disk of it: said when it ends and when it is stopped."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

from emgen.run.plan import PLANNED_FILE
from emgen.volumes.ledger import Ledgers

MOST_FILES = 200_000
"""Files whose sizes are added up, some seconds; of a larger folder the size is said to be more."""
MOST_LEDGER_BYTES = 20_000_000
"""Of lines that are read one by one, some seconds; in larger ledgers those that say `done` are counted."""
FINISHED_LINE = re.compile(rb'"state": "(?:done|empty)"')
SCRATCH = "blocks"


def done_blocks(run: Path) -> tuple[int, int, bool] | None:
    """How many blocks of a run are done, of how many, and whether they were counted one by one.

    None before the run was planned.
    """
    try:
        facts = json.loads((run / PLANNED_FILE).read_text())
        total, key = int(facts["blocks"]), str(facts["key"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
    ledger = Ledgers(run / "ledger", key).blocks
    files = list(ledger.folder.glob("*.jsonl"))
    if sum(path.stat().st_size for path in files) <= MOST_LEDGER_BYTES:
        return sum(entry.finished for entry in ledger.read().values()), total, True
    # a block that was done twice has two lines
    done = sum(len(FINISHED_LINE.findall(path.read_bytes())) for path in files)
    return min(total, done), total, False


def stopped(run: Path) -> str:
    """One line for a run that ended before its end: what is done, and how to go on."""
    blocks = done_blocks(run)
    if blocks is None:
        return f"nothing of {run} is restored yet; start again to begin anew"
    done, total, exact = blocks
    counted = f"{'' if exact else 'about '}{done} of {total} blocks"
    return f"{counted} are done and stay in {run}; start again to go on"


def on_disk(run: Path, finished: bool) -> str:
    """One line: what takes space in a run's folder, and what of it may be removed, after its end or before."""
    scratch = _size(run / SCRATCH)
    result = [_size(path) for path in sorted(run.glob("*.ome.zarr"))]
    words = [f"{_gigabytes(*_sum(result))} of result", f"{_gigabytes(*scratch)} of blocks"]
    advice = (
        f"{run / SCRATCH} is scratch: remove it when you are content with the result"
        if finished
        else "Keep both: the next start goes on from them"
    )
    return f"On disk in {run}: {', '.join(words)}. {advice}"


def _size(folder: Path) -> tuple[int, bool]:
    """Bytes of a folder's files, and whether they are all counted."""
    total, files, folders = 0, 0, [folder]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(Path(entry.path))
                    else:
                        total += entry.stat(follow_symlinks=False).st_size
                        files += 1
        except OSError:
            continue  # removed meanwhile, or never made
        if files > MOST_FILES:
            return total, False
    return total, True


def _sum(sizes: list[tuple[int, bool]]) -> tuple[int, bool]:
    return sum(size for size, _ in sizes), all(whole for _, whole in sizes)


def _gigabytes(size: int, whole: bool) -> str:
    for factor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB")):
        if size >= factor:
            return f"{'' if whole else 'more than '}{size / factor:.3g} {unit}"
    return f"{'' if whole else 'more than '}{size / 1e3:.3g} kB"
