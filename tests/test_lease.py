"""One worker at a time, whatever happened to the one before."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time

import pytest
from runs import ROOT, environment

from emgen.run import lease as module
from emgen.run.lease import Holder, Lease, leased, started


@pytest.fixture
def path(tmp_path):
    return tmp_path / "blocks" / "3.lease"


def process(code: str, path) -> subprocess.Popen:
    """A process of its own that runs some code, and says `held` when it has the lease at `path`."""
    start = f"import signal, sys, time\nfrom pathlib import Path\nfrom emgen.run.lease import *\npath = Path({str(path)!r})\n"
    return subprocess.Popen(
        [sys.executable, "-c", start + textwrap.dedent(code)],
        env={**environment(), "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )


HOLDS = """
with leased(path, print):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_lease_is_taken_kept_and_given_back(path):
    with leased(path, print):
        facts = json.loads(path.read_text())
        assert (facts["pid"], facts["host"]) == (os.getpid(), Holder.here().host)
        assert Lease(path).take().pid == os.getpid()
    assert not path.exists() and list(path.parent.iterdir()) == []


def test_it_is_given_back_after_a_fault(path):
    def fail():
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"), leased(path, print):
        fail()
    assert not path.exists()


def test_a_worker_that_was_killed_gives_way_at_once(path):
    other = process(HOLDS, path)
    assert other.stdout.readline() == "held\n"
    assert Lease(path).take().pid == other.pid
    other.kill()
    for _ in range(1000):
        if started(other.pid) is None:  # a zombie too does no work any more
            break
        time.sleep(0.01)
    said = []
    with leased(path, said.append):
        assert json.loads(path.read_text())["pid"] == os.getpid() and said == []
    other.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_gives_it_back_and_still_ends_the_process(path, number):
    other = process(HOLDS, path)
    assert other.stdout.readline() == "held\n"
    other.send_signal(number)
    other.communicate()
    assert other.returncode != 0 and not path.exists()


def test_the_second_worker_waits_and_says_for_whom(path, monkeypatch):
    monkeypatch.setattr(module, "LOOKED_AGAIN_AFTER_S", 0.01)
    first, said, order = Lease(path), [], []
    assert first.take() is None

    def second():
        with leased(path, said.append):
            order.append("second")

    thread = threading.Thread(target=second)
    thread.start()
    while not said:
        time.sleep(0.01)
    order.append("first")
    first.give_back()
    thread.join()
    assert order == ["first", "second"]
    (words,) = said
    assert f"process {os.getpid()} on {Holder.here().host}" in words and "waiting" in words


def elsewhere(path, age_s: float) -> Holder:
    """A lease of a process on another machine that was renewed so long ago."""
    holder = dataclasses.replace(Holder.here(), host="gpu7", slurm_job="4711", token="theirs")
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(dataclasses.asdict(holder)))
    os.utime(path, (time.time() - age_s,) * 2)
    return holder


def test_a_worker_on_another_machine_lives_while_it_renews(path):
    holder = elsewhere(path, module.DEAD_AFTER_S - 60)
    assert Lease(path).take() == holder
    assert "on gpu7, Slurm job 4711" in str(holder)


def test_a_worker_on_another_machine_is_dead_without_a_sign_for_minutes(path, monkeypatch):
    monkeypatch.setattr(module, "SETTLED_AFTER_S", 0.0)
    elsewhere(path, module.DEAD_AFTER_S + 60)
    lease = Lease(path)
    assert lease.take() is None and lease.is_mine()


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"pid": "x"}'])
def test_a_lease_that_cannot_be_read_is_waited_for_only_seconds(path, text):
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert Lease(path).take() == module.UNKNOWN
    os.utime(path, (time.time() - 60,) * 2)
    assert Lease(path).take() is None


def test_another_process_with_the_number_of_the_dead_one_is_not_the_holder(path):
    lease = Lease(path, dataclasses.replace(Holder.here(), started="0"))
    assert lease.take() is None
    assert Lease(path).take() is None and not lease.is_mine()


def test_who_lost_a_lease_learns_it_and_does_not_take_it_from_the_next(path, monkeypatch):
    monkeypatch.setattr(module, "RENEWED_EVERY_S", 0.01)
    lease, lost = Lease(path), threading.Event()
    assert lease.take() is None
    os.utime(path, (1, 1))
    lease.keep(lost.set)
    while path.stat().st_mtime < 2:
        time.sleep(0.01)
    assert not lost.is_set()
    theirs = dataclasses.replace(lease.mine, token="theirs")
    path.write_text(json.dumps(dataclasses.asdict(theirs)))
    assert lost.wait(30)
    lease.give_back()
    assert Lease(path).holder() == theirs


def test_of_many_that_take_at_once_one_has_it(path):
    Lease(path, dataclasses.replace(Holder.here(), started="0")).take()  # of a dead process
    leases = [Lease(path) for _ in range(16)]
    taken = []
    threads = [
        threading.Thread(target=lambda one=lease: taken.append(one.take())) for lease in leases
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert taken.count(None) == 1 == sum(lease.is_mine() for lease in leases)
