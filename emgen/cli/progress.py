"""What a long command shows of its progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Progress = Callable[[int, int], None]


def progress(title: str) -> AbstractContextManager[Progress]:
    """A callback (voxels done, voxels in all): a bar on a terminal, elsewhere a line per tenth."""
    return _bar(title) if sys.stderr.isatty() else _lines(title)


@contextmanager
def _lines(title: str) -> Iterator[Progress]:
    begun, tenths = time.monotonic(), 0

    def line(done: int, total: int) -> None:
        nonlocal tenths
        if done * 10 // total > tenths:
            tenths = done * 10 // total
            share = f"{done * 100 // total:3d} %"
            print(f"emgen: {title} {share}, {_rate(done, begun)}", file=sys.stderr, flush=True)

    yield line


@contextmanager
def _bar(title: str) -> Iterator[Progress]:
    from rich import progress as rich
    from rich.console import Console

    begun = time.monotonic()
    columns = (
        "{task.description}",
        rich.BarColumn(),
        rich.TaskProgressColumn(),
        rich.TextColumn("{task.fields[rate]}"),
        rich.TimeRemainingColumn(),
    )
    with rich.Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None, rate="")
        yield lambda done, total: bar.update(
            task, completed=done, total=total, rate=_rate(done, begun)
        )


def _rate(done: int, begun: float) -> str:
    return f"{done / max(time.monotonic() - begun, 1e-3) / 1e6:.1f} Mvoxel/s"
