"""What a process does first when it is told to end."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

ENDING = signal.SIGINT, signal.SIGTERM


@contextmanager
def before_the_end(first: Callable[[signal.Signals], None]) -> Iterator[None]:
    """Call a function when SIGINT or SIGTERM comes, and then do what the signal did before.

    Nothing is done in other threads than the main one: only that hears signals.

    Args:
        first: is called with the signal; it may end the process itself.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handler(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number)
        first(name)
        before = former[name]
        if callable(before):
            before(number, frame)
        elif before != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    former = {number: signal.signal(number, handler) for number in ENDING}
    try:
        yield
    finally:
        for number, before in former.items():
            signal.signal(number, before)
