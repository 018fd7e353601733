"""A run that is killed at any moment and started again gives the voxels of one that was not."""

import subprocess
import sys

import pytest
from runs import ROOT, environment


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
