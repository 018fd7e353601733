"""One worker at a time: a small file that says which process works on something, and that it is still alive.

    results/r/blocks/3.lease   {"host": "gpu7", "pid": 4711, ...}      renewed by touching it while the work goes on

A process on this machine is asked for by its number and start time, so one that was killed gives way at once. One on
another machine is taken for dead when its lease was not renewed for some minutes. Nothing else is needed of the file
system than that a new file can be made by one process only.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import signal
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile

from emgen.run.log import logged
from emgen.run.signals import before_the_end

RENEWED_EVERY_S = 20
DEAD_AFTER_S = 180
"""Without a sign from another machine: nine renewals, more than what network file systems hold back."""
MADE_WITHIN_S = 10
"""A lease that cannot be read yet may be a file that its holder is about to fill; later it is damaged."""
SETTLED_AFTER_S = 2.0
"""After a lease of another machine is taken over: if two did so at once, the later of the two has it then."""
LOOKED_AGAIN_AFTER_S = 1.0


@dataclass(frozen=True)
class Holder:
    """The process that holds a lease.

    Attributes:
        host: name of its machine.
        machine: what tells this start of the machine, and the numbers of its processes, from others.
        pid: its number.
        started: when it started, as the machine counts.
        slurm_job: number of its Slurm job, if it has one.
        since: when it took the lease, in words.
        parent: number of a process whose end ends this one too; 0 where there is none.
        token: no other lease has it.
    """

    host: str
    machine: str
    pid: int
    started: str
    slurm_job: str | None
    since: str
    parent: int = 0
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    @classmethod
    def here(cls, parent: int = 0) -> Holder:
        """This process."""
        return cls(
            platform.node(),
            _machine(),
            os.getpid(),
            started(os.getpid()) or "",
            os.environ.get("SLURM_JOB_ID"),
            time.strftime("%Y-%m-%d %H:%M:%S"),
            parent,
        )

    @property
    def is_here(self) -> bool:
        """Whether it is a process of this machine, of which this machine can be asked."""
        return (self.host, self.machine) == (platform.node(), _machine())

    def __str__(self) -> str:
        job = f", Slurm job {self.slurm_job}" if self.slurm_job else ""
        return f"process {self.pid} on {self.host}{job}, since {self.since}"


class Lease:
    """A lease at a path, taken and given back; `leased` holds one for as long as a block of code runs."""

    def __init__(self, path: Path, holder: Holder | None = None) -> None:
        self.path, self.mine = path, holder or Holder.here()
        self._over = threading.Event()

    def take(self) -> Holder | None:
        """Take it: None, or the living process that has it. What a dead process left is taken over.

        Raises:
            OSError: no file can be made there.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with _one_at_a_time(self.path.parent):
            holder = self.holder()
            if holder is None and self._made():
                return None
            holder = holder or self.holder()
            if holder is not None and self._lives(holder):
                return holder
            self._replace()
        if holder is not None and not holder.is_here:
            time.sleep(SETTLED_AFTER_S)
        return None if self.is_mine() else self.holder()

    def living(self) -> Holder | None:
        """The living process that has it, without taking it; None where there is none."""
        holder = self.holder()
        return holder if holder is not None and self._lives(holder) else None

    def take_on(self) -> None:
        """Make this process the holder of a lease that it was given by another one, with the same token."""
        self._replace()

    def holder(self) -> Holder | None:
        """Who has it; None where nobody has, and one without a name where the file cannot be read."""
        try:
            facts = json.loads(self.path.read_text())
            return Holder(**{part.name: facts[part.name] for part in fields(Holder)})
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, TypeError, KeyError):
            return UNKNOWN

    def is_mine(self) -> bool:
        """Whether it is still this process's own."""
        holder = self.holder()
        return holder is not None and holder.token == self.mine.token

    def keep(self, lost: Callable[[], None]) -> None:
        """Renew it from a thread until it is given back; `lost` is called if another process has it by then."""

        def renew() -> None:
            while not self._over.wait(RENEWED_EVERY_S):
                with contextlib.suppress(OSError):
                    if not self.is_mine():
                        lost()
                        return
                    os.utime(self.path)

        threading.Thread(target=renew, name="lease", daemon=True).start()

    def give_back(self) -> None:
        """Let the next process have it; nothing where another one has it already."""
        self._over.set()
        with contextlib.suppress(OSError):
            if self.is_mine():
                self.path.unlink(missing_ok=True)

    def _text(self) -> str:
        return json.dumps(asdict(self.mine)) + "\n"

    def _made(self) -> bool:
        try:
            with self.path.open("x") as file:
                file.write(self._text())
        except FileExistsError:
            return False
        return True

    def _replace(self) -> None:
        beside = self.path.with_name(f"{self.path.name}.{os.getpid()}.{threading.get_ident()}")
        beside.write_text(self._text())
        beside.replace(self.path)

    def _lives(self, holder: Holder) -> bool:
        if holder == UNKNOWN:
            return self._age_s() < MADE_WITHIN_S
        if holder.is_here:
            return started(holder.pid) == holder.started
        return self._age_s() < DEAD_AFTER_S

    def _age_s(self) -> float:
        """Seconds since it was renewed, by the clock of the file system that it lies on."""
        try:
            with TemporaryFile(dir=self.path.parent) as file:
                now = os.fstat(file.fileno()).st_mtime
        except OSError:
            now = time.time()  # who may not write there only looks
        try:
            return now - self.path.stat().st_mtime
        except OSError:
            return 0.0


UNKNOWN = Holder("an unknown machine", "", 0, "", None, "an unknown time", token="")


@contextmanager
def leased(path: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lease at a path; wait while another process has it.

    A signal that ends the process gives the lease back before. A process that lost its lease ends: it was stopped for so
    long that another one goes on with its work.

    Args:
        path: of the lease.
        say: is told who has it, and that it was lost.

    Raises:
        OSError: no file can be made there.
    """
    lease, told = Lease(path), None
    while holder := lease.take():
        if holder != told:
            say(
                f"{path.with_suffix('')}: {holder} works on it; waiting until it has ended. If it hangs, end it there: "
                "what it finished stays"
            )
        told = holder
        time.sleep(LOOKED_AGAIN_AFTER_S)

    def lost() -> None:
        say(
            f"{path.with_suffix('')}: another process took it over, because this one gave no sign for minutes; ending"
        )
        os.kill(os.getpid(), signal.SIGTERM)

    lease.keep(lost)
    try:
        with before_the_end(lambda _: lease.give_back()):
            yield
    finally:
        lease.give_back()


@contextmanager
def working_alone(log: str | Path, output: str | Path) -> Iterator[None]:
    """What the job of a rule does, with its words in its log, and with the lease beside its output.

    Args:
        log: where everything printed goes, see `emgen.run.log`.
        output: the file that the rule promises; the lease has its name and ends with .lease.
    """
    with logged(log) as say, leased(Path(output).with_suffix(".lease"), say):
        yield


@contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Between processes of one machine, and of several where the file system can: one looks and takes at a time."""
    number = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems lock no folder
            fcntl.flock(number, fcntl.LOCK_EX)
        yield
    finally:
        os.close(number)


def started(pid: int) -> str | None:
    """When a process of this machine started, as the machine counts; None where there is none that runs."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return _started_by_ps(pid) if not Path("/proc/self/stat").exists() else None
    return None if state in "ZX" else rest[18]


def _started_by_ps(pid: int) -> str | None:
    """The same on systems without /proc."""
    done = subprocess.run(
        ["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return done.stdout.strip() or None


@cache
def _machine() -> str:
    """One start of one machine, and one space of process numbers in it (a container has its own)."""
    parts = []
    for read in (
        lambda: Path("/proc/sys/kernel/random/boot_id").read_text().strip(),
        lambda: str(Path("/proc/self/ns/pid").readlink()),
    ):
        with contextlib.suppress(OSError):
            parts.append(read())
    return " ".join(parts)
