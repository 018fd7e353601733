"""A run that is killed at any moment and started again gives the voxels of one that was not."""

import os
import signal
import subprocess
import sys
import time

import pytest
from runs import ROOT, command, environment, measured, read, restore, settings, snakemake


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_workflow_that_is_killed_gives_what_it_would_have_given(tmp_path):
    """Its head alone by turns, whose jobs live on for a while, and all of its processes."""
    config = settings(measured(tmp_path), restore={"steps": 1}, grid={"blocks_per_job": 9})
    target, kills, said = "results/small/restored.json", 0, tmp_path / "said"
    # of 18 blocks and 27 write units of the output, written by two jobs each
    for kill, lines in ((os.kill, 3), (os.killpg, 12), (os.kill, 30)):
        with said.open("w") as log:
            process = subprocess.Popen(
                command(tmp_path, config, target, "--rerun-incomplete"),
                env=environment() | {"PYTHONPATH": str(ROOT)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
            while process.poll() is None and written(tmp_path) < lines:
                time.sleep(0.02)
        if process.poll() is None:
            kill(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
        assert snakemake(tmp_path, config, "--unlock").returncode == 0
    done = snakemake(tmp_path, config, target, "--rerun-incomplete")
    assert done.returncode == 0, done.stderr
    assert kills >= 2, said.read_text()
    _, voxels = restore(tmp_path / "expected", config)
    assert (read(tmp_path / "results/small") == voxels).all()


def written(folder) -> int:
    """Lines of all ledgers."""
    return sum(
        path.read_bytes().count(b"\n") for path in folder.glob("results/small/ledger/*/**/*.jsonl")
    )


@pytest.mark.parametrize("kills", [8, pytest.param(100, marks=pytest.mark.slow)])
def test_runs_that_are_killed_give_what_they_would_have_given(tmp_path, kills):
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/kills.py"), str(tmp_path), "16", str(kills)],
        capture_output=True,
        text=True,
        env=environment() | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(f"{kills} kills, ") and done.stdout.endswith("identical\n")
