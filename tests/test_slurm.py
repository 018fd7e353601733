"""The workflow on a real Slurm with the shipped profile: a job that dies is submitted anew with more memory.

EMGEN_SLURM_CONFIG=my.yaml runs another configuration than the demo's, with its paths taken from the checkout.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from runs import ROOT, environment, read, snakemake
from slurm.cluster import Job, cluster, jobs, missing

from emgen.run.plan import Plan
from emgen.run.results import Results

LIMIT = 900  # seconds

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(2 * LIMIT),
    pytest.mark.skipif(missing() is not None, reason=str(missing())),
]


@pytest.fixture(scope="module")
def config(tmp_path_factory) -> Path:
    """The configuration to run: by default the demo's, with fewer steps to save time."""
    if given := os.environ.get("EMGEN_SLURM_CONFIG"):
        return ROOT / given
    settings = yaml.safe_load((ROOT / "config/demo.yaml").read_text())
    settings["restore"]["steps"] = 3
    path = tmp_path_factory.mktemp("config") / "slurm.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


@pytest.fixture(scope="module")
def dispatched(config, tmp_path_factory) -> tuple[Path, list[Job], int]:
    """The run's folder, Slurm's jobs, and the number of the one whose process was killed."""
    folder = working_folder(tmp_path_factory.mktemp("cluster"))
    name = yaml.safe_load(config.read_text())["run"]
    waiting = {
        "slurm-init-seconds-before-status-checks": 1,
        "seconds-between-status-checks": 2,
        "latency-wait": 10,
    }
    command = [
        sys.executable,
        "-m",
        "snakemake",
        "--configfile",
        config,
        "--profile",
        "profiles/slurm",
        "--directory",
        folder,
    ]
    command += [
        word for option, seconds in waiting.items() for word in (f"--{option}", str(seconds))
    ]
    with cluster(), (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=ROOT, env=environment(), stdout=log, stderr=log)
        try:
            killed = kill_one_restore(folder, folder / "results" / name, process)
            process.wait(LIMIT)
        finally:
            process.terminate()
            process.wait(60)
        found = jobs()
    assert process.returncode == 0, (folder / "log").read_text()[-8000:]
    return folder / "results" / name, found, killed


def working_folder(folder: Path) -> Path:
    """Where paths of the configuration lead into the checkout, and results do not."""
    for entry in ROOT.iterdir():
        if not entry.name.startswith(".") and entry.name != "results":
            (folder / entry.name).symlink_to(entry)
    return folder


def kill_one_restore(folder: Path, run: Path, process: subprocess.Popen[bytes]) -> int:
    """Kill a restore process that has finished a block, as the kernel does when memory is short.

    Returns:
        The number of its Slurm job.
    """
    deadline = time.monotonic() + LIMIT
    while process.poll() is None and time.monotonic() < deadline:
        for victim in restore_processes(folder):
            words = (victim / "environ").read_bytes().decode().split("\0")
            number = int(
                next(word for word in words if word.startswith("SLURM_JOB_ID=")).split("=")[1]
            )
            comment = next(job.comment for job in jobs() if job.number == number)
            plan = Plan.of(run)
            blocks = plan.grid.job(int(comment.removeprefix("rule_restore_wildcards_")))
            if Results(plan, run).ledgers.blocks.read(blocks):
                os.kill(int(victim.name), signal.SIGKILL)
                return number
        time.sleep(0.1)
    raise AssertionError(
        f"no restore job was caught at work\n{(folder / 'log').read_text()[-8000:]}"
    )


def restore_processes(folder: Path) -> list[Path]:
    """/proc entries of the processes that run scripts/restore.py in a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
            if (entry / "cwd").readlink() == folder and any(
                word.endswith(b".restore.py") for word in words[1:2]
            ):
                found.append(entry)
        except OSError:
            continue  # ended in the meantime
    return found


def restore_jobs(found: list[Job]) -> list[Job]:
    return [job for job in found if job.comment.startswith("rule_restore_wildcards_")]


def test_every_promised_output_is_there(dispatched):
    run, _, _ = dispatched
    for name in ("report.html", "qc/summary.json", "provenance/run.json"):
        assert (run / name).stat().st_size > 500, name


def test_a_killed_job_is_submitted_anew_with_more_memory_and_keeps_its_blocks(dispatched):
    run, found, killed = dispatched
    first = next(job for job in found if job.number == killed)
    assert [job for job in found if job.state != "COMPLETED"] == [first] and first.state == "FAILED"
    again = [job for job in found if job.comment == first.comment and job.number != killed]
    assert len(again) == 1 and again[0].memory_mb > first.memory_mb
    number = first.comment.removeprefix("rule_restore_wildcards_")
    facts = json.loads((run / f"blocks/{number}.json").read_text())
    assert facts["slurm_job"] == str(again[0].number) and facts["found"] >= 1


def test_what_computes_with_networks_gets_a_gpu_each_and_nothing_else_does(dispatched):
    _, found, _ = dispatched
    computing = [
        job for job in found if job.comment.startswith(("rule_restore_wildcards_", "rule_heldout"))
    ]
    assert len(computing) > len(restore_jobs(found))
    assert {(job.partition, job.gres) for job in computing} == {("gpu", "gres:gpu:1")}
    assert {(job.partition, job.gres) for job in found if job not in computing} == {("cpu", "")}


def test_the_voxels_are_those_of_a_local_run(dispatched, config, tmp_path):
    run, _, _ = dispatched
    local = snakemake(working_folder(tmp_path), config, f"results/{run.name}/restored.json")
    assert local.returncode == 0, local.stderr
    assert (read(run) == read(tmp_path / "results" / run.name)).all()
