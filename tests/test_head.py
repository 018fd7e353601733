"""One head a run, and how it ends: with small processes in Snakemake's place."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from runs import ROOT, environment

from emgen.cli import workflow
from emgen.errors import EmgenError
from emgen.run import head, standing
from emgen.run.head import LEASE_FILE, TOLD, lead, leading, second_head
from emgen.run.lease import Holder, started
from emgen.run.standing import done_blocks, on_disk, stopped
from emgen.volumes.ledger import Entry, Ledgers


@pytest.fixture
def run(tmp_path):
    return tmp_path / "results" / "small"


def living(pid: int) -> bool:
    return started(pid) is not None


def until(condition) -> None:
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not happen within half a minute")


def test_a_second_head_is_told_who_and_where(run):
    with leading(run):
        assert second_head(run).pid == os.getpid()
        with pytest.raises(EmgenError, match=rf"by process {os.getpid()} on .*kill {os.getpid()}"):
            lead(run)
    assert second_head(run) is None and not run.exists() and not run.parent.exists()


def test_a_head_on_another_machine_is_refused_while_it_renews(run):
    run.mkdir(parents=True)
    there = dataclasses.replace(Holder.here(), host="login2", slurm_job="99", token="theirs")
    (run / LEASE_FILE).write_text(json.dumps(dataclasses.asdict(there)))
    words = r"on login2, Slurm job 99.*or remove .*running\.lease"
    with pytest.raises(EmgenError, match=words), leading(run):
        pass
    os.utime(run / LEASE_FILE, (1, 1))
    assert second_head(run) is None


def test_snakemake_takes_the_lease_on_and_leaves_it_to_the_next(run, monkeypatch):
    registered = []
    monkeypatch.setattr(head.atexit, "register", registered.append)
    monkeypatch.setattr(head.os, "getppid", lambda: 4711)
    with leading(run) as told:
        monkeypatch.setenv(TOLD, told[TOLD].split()[0] + " 4711")
        monkeypatch.setattr(head, "_end_with", lambda parent: None)
        assert second_head(run) is None
        lead(run)
        holder = json.loads((run / LEASE_FILE).read_text())
        assert (holder["pid"], holder["parent"]) == (os.getpid(), 4711)
        registered[0]()
        assert not (run / LEASE_FILE).exists()
        with pytest.raises(EmgenError, match="has ended"):
            lead(run)


LEADS = """
import os, subprocess, sys, time
from pathlib import Path
from emgen.run.head import lead
lead(Path(sys.argv[1]))
job = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
Path(sys.argv[2]).write_text(f"{os.getpid()} {job.pid}")
try:
    job.wait()
except KeyboardInterrupt:
    pass
"""


def test_snakemake_and_its_jobs_end_when_emgen_run_is_killed(run, tmp_path):
    starts = (
        "import sys; from pathlib import Path; from emgen.cli import workflow; from emgen.run.head import leading\n"
        "with leading(Path(sys.argv[2])) as told:\n"
        "    workflow.run([sys.executable, *sys.argv[1:]], Path('.'), told)\n"
    )
    (tmp_path / "leads.py").write_text(LEADS)
    pids = tmp_path / "pids"
    emgen = subprocess.Popen(
        [sys.executable, "-c", starts, str(tmp_path / "leads.py"), str(run), str(pids)],
        env={**environment(), "PYTHONPATH": str(ROOT)},
    )
    until(lambda: pids.exists() and pids.read_text())
    snakemake, job = map(int, pids.read_text().split())
    assert living(snakemake) and living(job)
    emgen.kill()
    emgen.wait()
    # the next start waits for the end of what is left of the one before
    with leading(run):
        assert not living(snakemake)
    until(lambda: not living(job))


PRINTS = "import sys, time; print('begun', file=sys.stderr, flush=True); "


@pytest.mark.parametrize("code", [0, 1, 2])
def test_what_snakemake_prints_and_ends_with_is_handed_on(tmp_path, capsys, code):
    words = [sys.executable, "-c", PRINTS + f"print('out é'); sys.exit({code})"]
    assert workflow.run(words, tmp_path) == code
    assert capsys.readouterr() == ("out é\n", "begun\n")


def test_a_signal_interrupts_snakemake_and_silences_it(tmp_path, capsys, monkeypatch):
    code = PRINTS + "\ntry: time.sleep(600)\nexcept KeyboardInterrupt: print('noise'); sys.exit(1)"
    waits = subprocess.Popen.wait

    def wait(process, timeout=None):
        if "begun" in capsys.readouterr().err:
            os.kill(os.getpid(), signal.SIGTERM)
        return waits(process, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", wait)
    before = signal.getsignal(signal.SIGTERM)
    assert workflow.run([sys.executable, "-c", code], tmp_path) == 128 + signal.SIGTERM
    assert capsys.readouterr() == ("", "") and signal.getsignal(signal.SIGTERM) == before


def test_one_that_does_not_end_is_killed_with_its_jobs(tmp_path, monkeypatch):
    monkeypatch.setattr(workflow, "KILLED_AFTER_S", 0.0)
    (tmp_path / "deaf.py").write_text(
        "import signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "job = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])\n"
        "open('pid', 'w').write(str(job.pid))\n"
        "time.sleep(600)\n"
    )
    waits, pid = subprocess.Popen.wait, tmp_path / "pid"

    def wait(process, timeout=None):
        if pid.exists() and pid.read_text() and process.args[1] == "deaf.py":
            os.kill(os.getpid(), signal.SIGINT)
        return waits(process, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", wait)
    assert workflow.run([sys.executable, "deaf.py"], tmp_path) == 128 + signal.SIGINT
    until(lambda: not living(int(pid.read_text())))


def test_how_far_a_run_is_and_what_lies_on_the_disk(run, monkeypatch):
    assert "nothing" in stopped(run) and done_blocks(run) is None
    book = Ledgers(run / "ledger", "k").blocks.open(range(9))
    book.add(Entry(0, "done"), Entry(1, "empty"), Entry(2, "failed"), Entry(3, "done"))
    (run / "planned.json").write_text('{"blocks": 18, "key": "k"}')
    assert done_blocks(run) == (3, 18, True) and ": " not in stopped(run)
    assert stopped(run).startswith("3 of 18 blocks are done")
    monkeypatch.setattr(standing, "MOST_LEDGER_BYTES", 0)
    assert stopped(run).startswith("about 3 of 18 blocks")
    (run / "blocks/0.zarr").mkdir(parents=True)
    (run / "blocks/0.zarr/c.0").write_bytes(b"1" * 4_200_000)
    (run / "uncertainty.ome.zarr").mkdir()
    (run / "uncertainty.ome.zarr/c").write_bytes(b"1" * 10)
    words = on_disk(run, finished=True)
    assert "4.2 MB of blocks" in words and "0.01 kB of result" in words
    assert str(Path(run) / "blocks") in words
    assert "the next start goes on" in on_disk(run, finished=False)
