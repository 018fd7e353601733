"""The wheel in an empty environment: it carries the workflow, and restores a volume from any folder."""

import json
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
import yaml
from pins import FOR_USERS
from runs import ROOT, environment, measured, read, restore, settings

from emgen import __version__

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

# where the checkout is on Python's path, it is not looked at
APART = {key: value for key, value in environment().items() if key != "PYTHONPATH"}
CARRIED = ("Snakefile", "workflow", "rules", "scripts", "envs", "profiles", "config", "report")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """Built from a copy of the sources, so that nothing is left in the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    hidden = shutil.ignore_patterns(".*", "*.egg-info", "results", "build", "dist", "__pycache__")
    shutil.copytree(ROOT, folder / "sources", ignore=hidden)
    words = [
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(folder),
        str(folder / "sources"),
    ]
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", "--quiet", *words], cwd=folder, env=APART, check=True
    )
    return folder / f"emgen-{__version__}-py3-none-any.whl"


@pytest.fixture(scope="module")
def emgen(wheel, tmp_path_factory) -> Path:
    """The command of an environment that holds the wheel and what it needs, and nothing else."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=True)
    words = ["--quiet", "--quiet", "--constraint", str(ROOT / FOR_USERS), str(wheel)]
    subprocess.run([folder / "bin/python", "-m", "pip", "install", *words], env=APART, check=True)
    return folder / "bin/emgen"


def test_the_wheel_carries_the_workflow_and_nothing_of_the_developers(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    for entry in CARRIED:
        for path in [ROOT / entry, *(ROOT / entry).rglob("*")]:
            if path.is_file() and "__pycache__" not in path.parts:
                assert f"emgen/workflow/{path.relative_to(ROOT)}" in names
    for volume in ("measured", "reference", "neurons"):
        assert f"emgen/workflow/demo/{volume}.ome.zarr/zarr.json" in names
    assert "emgen/training/datasets.yaml" in names and "emgen/py.typed" in names
    assert not [name for name in names if "__pycache__" in name or "make_" in name]
    assert {name.split("/")[0] for name in names} == {"emgen", f"emgen-{__version__}.dist-info"}
    assert wheel.stat().st_size < 48e6  # 42 MB, most of it weights


def test_it_restores_a_volume_from_any_folder(emgen, tmp_path):
    config = settings(measured(tmp_path))
    (tmp_path / "small.yaml").write_text(yaml.safe_dump(config))
    done = subprocess.run(
        [emgen, "run", "small.yaml", "--cores", "2"],
        cwd=tmp_path,
        env=APART,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 3), done.stderr
    assert done.stdout.splitlines()[-1].startswith("Verdict: ")
    run = tmp_path / "results/small"
    assert (run / "report.html").exists()
    assert json.loads((run / "provenance/run.json").read_text())["emgen"] == __version__
    _, voxels = restore(tmp_path / "expected", config)
    assert (read(run) == voxels).all()


def test_its_demo_can_start_anywhere(emgen, tmp_path):
    done = subprocess.run(
        [emgen, "demo", "--cores", "2", "--dry-run"],
        cwd=tmp_path,
        env=APART,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Restoring blocks, job 1 of 2" in done.stdout
