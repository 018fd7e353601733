"""Every benchmark, and every script of the demo, keeps up with the package that it measures."""

import json
import subprocess
import sys

import numpy as np
import pytest
from runs import ROOT, environment

FOLDERS = [ROOT / name for name in ("benchmarks", "benchmarks/prior", "demo")]
SCRIPTS = [path for folder in FOLDERS for path in sorted(folder.glob("*.py"))]
CROP = (16, 72, 72)  # voxels; the axial U-Net learns from 64 x 64 pixels


@pytest.fixture(scope="module")
def lacking():
    """What every script lacks, by its path; None of one that lacks nothing."""
    # one process for all of them, because torch takes seconds to import
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests/lacking.py"), *map(str, SCRIPTS)],
        capture_output=True,
        text=True,
        env=environment() | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_script_finds_what_it_imports_and_says_how_it_is_called(lacking, script):
    assert lacking[str(script)] is None


@pytest.fixture
def benchmarks(monkeypatch):
    """Modules of the folder benchmarks by their names."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield __import__
    for path in (ROOT / "benchmarks").glob("*.py"):
        sys.modules.pop(path.stem, None)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_method_of_the_isotropic_table_restores_a_crop(benchmarks, fib25):
    isotropic = benchmarks("isotropic")
    truth = fib25[: CROP[0], : CROP[1], : CROP[2]]
    y = isotropic.measured(truth, 4, "slice", 10.0)
    methods = isotropic.rows(truth, y, 4, "slice", 10.0, minutes=0.01)
    del methods["ours, adapted"]  # its training is tested in test_adapt
    for name, method in methods.items():
        volume, _ = method()
        assert volume.shape == CROP and np.isfinite(volume).all(), name


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("task", ["denoise", "superres", "deblur"])
def test_every_method_of_the_tables_of_sections_restores_a_crop(benchmarks, fib25, task):
    sections = benchmarks("sections")
    truth = fib25[: CROP[0], : CROP[1], : CROP[2]].astype(np.float32)
    noisy = truth + 10 * np.random.default_rng(0).standard_normal(CROP).astype(np.float32)
    coarse = truth.reshape(CROP[0], CROP[1] // 2, 2, CROP[2] // 2, 2).mean((2, 4))
    volume, methods_of, setting = {
        "denoise": (noisy, sections.denoisers, 10.0),
        "superres": (coarse, sections.enlargers, 2),
        "deblur": (noisy, sections.deblurrers, 1.0),
    }[task]
    judged = sections.Task(task, truth[[8]], volume, [8])
    for name, method in methods_of(judged, setting).items():
        result = method()
        restored = result.mean if isinstance(result, sections.Result) else result
        assert restored.shape == (1, *CROP[1:]) and np.isfinite(restored).all(), name
