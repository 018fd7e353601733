"""Kills a simulated run again and again, lets it go on, and compares what comes out: `python kills.py FOLDER SEED KILLS`.

Nothing but imports happens before the forks, so that no thread is lost in them.
"""

import os
import random
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path

import simulated

STEPS = 70  # of the 500 or so that a whole run takes
SECONDS = 0.5


def forked(work: Callable[[], object]) -> int:
    """How a process of its own that does this ends: 0, or the signal that killed it."""
    process = os.fork()
    if process == 0:
        code = 99
        try:
            work()
            code = 0
        except Exception:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)
    _, status = os.waitpid(process, 0)
    return os.WTERMSIG(status) if os.WIFSIGNALED(status) else -os.WEXITSTATUS(status)


def start(folder: Path, name: str, step: int | None = None, seconds: float = 0.0) -> None:
    """Go on with a run; it is killed at a step, or after so many seconds."""
    if seconds:
        signal.setitimer(signal.ITIMER_REAL, seconds)  # whose signal ends a process on the spot
    run = simulated.Run(simulated.spec(folder), folder / name)
    if step is None:
        run.start()
    else:
        with simulated.killed_at(step):
            run.start()


def compare(folder: Path, name: str) -> None:
    """One start more finds nothing damaged, and the outputs are those of the run that nobody killed."""
    run, whole = (simulated.Run(simulated.spec(folder), folder / each) for each in (name, "whole"))
    run.start()
    assert run.said == [], run.said
    assert run.contents() == whole.contents()


def main(folder: Path, seed: int, kills: int) -> None:
    chance, killed, runs = random.Random(seed), 0, 0
    assert forked(lambda: start(folder, "whole")) == 0
    while killed < kills:
        name, ended = f"run-{runs}", 1
        while ended and killed < kills:
            if chance.random() < 0.7:
                step, seconds = chance.randrange(STEPS), 0.0
            else:
                step, seconds = None, chance.uniform(0.02, SECONDS)
            ended = forked(partial(start, folder, name, step, seconds))
            assert ended in (0, signal.SIGKILL, signal.SIGALRM), f"{name}: exit code {-ended}"
            killed += ended != 0
        if ended:  # the last kill may have left a file that its line does not tell of, which is mended and said
            assert forked(partial(start, folder, name)) == 0, name
        assert forked(partial(compare, folder, name)) == 0, name
        shutil.rmtree(folder / name)
        runs += 1
    print(f"{killed} kills, {runs} runs, all identical")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
