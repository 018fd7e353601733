"""Good runs pass and broken ones do not: a part of benchmarks/trust.py that fits the tests, on the demo's reference."""

import importlib

import numpy as np
import pytest
from runs import ROOT

from emgen.qc.verdict import overall

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture(scope="module")
def trust():
    """The benchmark as a module."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        return importlib.import_module("trust")


@pytest.fixture(scope="module")
def tissue():
    """FIB-SEM (96, 160, 160) at 8 nm."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(ROOT / "benchmarks"))
        return importlib.import_module("scores").demo_volume()


@pytest.mark.parametrize("section", ["slice", "mean"])
def test_good_runs_pass(trust, tissue, section):
    made = trust.slices(tissue) if section == "slice" else trust.means(tissue)
    trial = trust.Trial("good", True, lambda: made, 4, {"section": section})
    checks = trust.checks_of(trial, places=6)
    assert overall(checks) == "pass", checks


BROKEN = {
    "means as slices": ("means", None, 4, {}),
    "x4 taken for x8": ("slices", None, 8, {}),
    "x4 taken for x2": ("slices", None, 2, {}),
    "noise of 20 said to be 0": ("slices", "noisy", 4, {}),
    "noise of 20 said to be 6": ("slices", "noisy", 4, {"noise": 6}),
    "noise of 20 said to be 60": ("slices", "noisy", 4, {"noise": 60}),
    "sections moved": ("slices", "shifted", 4, {}),
    "flickering": ("slices", "flickering", 4, {}),
    "sections in any order": ("slices", "shuffled", 4, {}),
    "two sections black": ("slices", "blacked", 4, {}),
    "sections swapped and copied": ("slices", "swapped", 4, {}),
    "no tissue": ("slices", "white", 4, {}),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_and_mis_set_runs_do_not_pass(trust, tissue, name):
    made, spoilt, factor, restore = BROKEN[name]
    volume = getattr(trust, made)(tissue)
    volume = volume if spoilt is None else getattr(trust, spoilt)(volume)
    trial = trust.Trial(name, False, lambda: np.ascontiguousarray(volume), factor, restore)
    assert overall(trust.checks_of(trial, places=6, lazily=True)) != "pass"
