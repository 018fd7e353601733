"""A real Slurm on this one machine: a controller, two GPU nodes, a CPU node.

    python tests/slurm/cluster.py      # starts one and stops it at Ctrl-C

    munged <- slurmctld <- slurmd gpu1  2 made-up GPUs   partition gpu
                        <- slurmd gpu2  2 made-up GPUs   partition gpu
                        <- slurmd cpu1                   partition cpu

Debian: apt-get install --no-install-recommends slurm-wlm slurmctld slurmd slurm-client munge
"""

import os
import shutil
import signal
import socket
import stat
import string
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

# The executor's job step drops SLURM_CONF from the environment, so only Slurm's own place will do.
ETC = Path("/etc/slurm")
MARK = "# of an emgen test cluster"
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol")
NODES = {"gpu1": 2, "gpu2": 2, "cpu1": 0}


def missing() -> str | None:
    """Why no cluster can be started here, in words; None if one can."""
    if os.name != "posix" or os.geteuid() != 0:
        return "starting a Slurm cluster needs root"
    lacking = [name for name in PROGRAMS if shutil.which(name) is None]
    if lacking:
        return f"Slurm is not installed ({', '.join(lacking)} not found)"
    foreign = ETC / "slurm.conf"
    if foreign.exists() and MARK not in foreign.read_text():
        return f"another Slurm is configured here in {foreign}"
    try:
        socket.gethostbyname(socket.gethostname())
    except OSError:
        return f"this machine's name, {socket.gethostname()}, does not resolve"
    return None


@dataclass(frozen=True)
class Job:
    """What Slurm knows of a job: number, the executor's comment, state, partition, memory and GPUs."""

    number: int
    comment: str
    state: str
    partition: str
    memory_mb: int
    gres: str


@contextmanager
def cluster() -> Iterator[None]:
    """A running cluster; every process and file of it is gone afterwards.

    Raises:
        RuntimeError: a daemon does not come up; the message ends with the daemons' logs.
    """
    with ExitStack() as stack:
        base = Path(
            stack.enter_context(
                tempfile.TemporaryDirectory(prefix="slurm-", ignore_cleanup_errors=True)
            )
        )
        stack.enter_context(_configured(base))
        try:
            stack.enter_context(_daemon(base, "munged", *_munge_options(base)))
            _wait(base, (base / "munge.socket").exists, "munged")
            stack.enter_context(_daemon(base, "slurmctld", "-D"))
            _wait(base, lambda: " is UP" in _output("scontrol", "ping"), "slurmctld")
            for node in NODES:
                stack.enter_context(_daemon(base, "slurmd", "-D", "-N", node))
            _wait(
                base,
                lambda: len(_output("sinfo", "-hNt", "idle").split("\n")) > len(NODES),
                "slurmd",
            )
            stack.callback(_cancel_all)
        except BaseException as error:
            error.add_note(_logs(base))
            raise
        yield


def jobs() -> list[Job]:
    """All jobs that the cluster has seen, the oldest first."""
    lines = _output("scontrol", "show", "job", "-o").splitlines()
    facts = [dict(word.split("=", 1) for word in line.split() if "=" in word) for line in lines]
    return sorted((_job(fact) for fact in facts if "JobId" in fact), key=lambda job: job.number)


def _job(fact: dict[str, str]) -> Job:
    return Job(
        number=int(fact["JobId"]),
        comment=fact.get("Comment", ""),
        state=fact["JobState"],
        partition=fact["Partition"],
        memory_mb=_megabytes(fact["MinMemoryNode"]),
        gres=fact.get("TresPerNode", ""),
    )


def _megabytes(text: str) -> int:
    """Slurm's 4000M, 3.50G or 0."""
    unit = {"K": 1 / 1024, "M": 1, "G": 1024, "T": 1024**2}.get(text[-1])
    return round(float(text[:-1]) * unit) if unit else int(text)


@contextmanager
def _configured(base: Path) -> Iterator[None]:
    """Slurm's configuration in its place, and the folders and devices that it names."""
    for folder in ("log", "state", *(f"spool/{node}" for node in NODES)):
        (base / folder).mkdir(parents=True)
    base.chmod(0o755)
    key = base / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(1024))
    gres = [f"{MARK}"]
    for node, gpus in NODES.items():
        for gpu in range(gpus):
            # only for a character device does Slurm set CUDA_VISIBLE_DEVICES; this one is another /dev/null
            device = base / f"{node}-gpu{gpu}"
            os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
            gres.append(f"NodeName={node} Name=gpu Type=made-up File={device}")
    ports = dict(
        zip(
            ("controller_port", *(f"{node}_port" for node in NODES)),
            _free_ports(1 + len(NODES)),
            strict=True,
        )
    )
    template = string.Template((Path(__file__).parent / "slurm.conf.in").read_text())
    files = {
        "slurm.conf": template.substitute(
            mark=MARK, host=socket.gethostname().split(".")[0], base=base, **ports
        ),
        "gres.conf": "\n".join(gres) + "\n",
    }
    if _version() >= (23, 11):  # older ones refuse the word, newer ones look for cgroups without it
        files["cgroup.conf"] = f"{MARK}\nCgroupPlugin=disabled\n"
    ETC.mkdir(exist_ok=True)
    try:
        for name, text in files.items():
            (ETC / name).write_text(text)
        yield
    finally:
        for name in files:
            (ETC / name).unlink(missing_ok=True)


def _munge_options(base: Path) -> list[str]:
    """A munged of our own, beside one that may be running."""
    places = {
        "socket": "munge.socket",
        "key-file": "munge.key",
        "pid-file": "munge.pid",
        "log-file": "log/munged.log",
        "seed-file": "munge.seed",
    }
    return [
        "--foreground",
        "--force",
        *(f"--{option}={base / place}" for option, place in places.items()),
    ]


@contextmanager
def _daemon(base: Path, *command: str) -> Iterator[None]:
    with (base / "log" / f"{command[0]}.out").open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _cancel_all() -> None:
    """Without this the jobs would outlive their cluster."""
    subprocess.run(["scancel", "--user", "root"], check=False, timeout=20)
    deadline = time.monotonic() + 20
    while _output("squeue", "-h") and time.monotonic() < deadline:
        time.sleep(0.2)


def _wait(base: Path, ready: Callable[[], bool], name: str, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{name} did not come up within {seconds:g} s")
        time.sleep(0.1)


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=30).stdout


def _version() -> tuple[int, int]:
    """Of `slurm-wlm 22.05.8` or `slurm 24.11.1`."""
    year, month = _output("slurmctld", "-V").split()[1].split(".")[:2]
    return int(year), int(month)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _logs(base: Path) -> str:
    return "\n".join(
        f"--- {path.name}\n{path.read_text(errors='replace')[-2000:]}"
        for path in sorted((base / "log").iterdir())
    )


if __name__ == "__main__":
    if reason := missing():
        raise SystemExit(reason)
    with cluster():
        print(_output("sinfo", "-N", "-o", "%N %P %T %c %m %G"), end="", flush=True)
        try:
            signal.pause()
        except KeyboardInterrupt:
            print("stopping")
