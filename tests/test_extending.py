"""A mode, a sampler, a metric: each is one file, and one word where the names are listed. They go through to the report."""

import json
from pathlib import Path

import extended
import numpy as np
import pytest
from runs import measured, read, settings, snakemake

from emgen.geometry import Box
from emgen.volumes.volume import Volume

SETTINGS = "config/restore.py"
FLAT = {
    "grid": {"block": [8, 40, 40], "halo": [0, 0, 0]},
    "output": {"chunk": [8, 40, 40], "shard": [8, 40, 40]},
}

TOY_MODE = '''"""A toy: stripes along x are taken out by the median of every row."""

from dataclasses import dataclass
from typing import ClassVar

from emgen.modes.sections import Sections
from emgen.physics.acquisition import same_voxels


@dataclass(frozen=True)
class Destripe(Sections):
    learned_start: ClassVar[float] = 0.9
    learned_steps: ClassVar[int] = 1

    acquisition = property(lambda self: same_voxels())
    returns_estimate = property(lambda self: True)
    trial_sentence = property(lambda self: "were striped")

    def operator(self, box):
        from emgen.physics.operators import Identity

        return Identity(self.shape, box=box)

    def estimate(self, observation, networks):
        rows = observation.y.median(dim=2, keepdim=True).values
        return observation.y - rows + observation.y.median()

    def trial(self, noise, estimator_context):
        return None

    def opening(self, planned):
        return f"Stripes were taken from {self.one_by_one(planned)} by a toy."


MODE = Destripe
'''

TOY_SAMPLER = '''"""A toy: the start, brought to what was measured."""

from emgen.sampling.sampler import Sampler


def nearest(problem):
    return problem.A.prox(problem.start, problem.y, 0.0)


SAMPLER = Sampler(nearest, 1, frozenset({"estimator"}), begins_from_estimate=True)
'''

TOY_METRIC = '''"""A toy: how bright the result is."""

from emgen.config.facts import Figures
from emgen.qc.metrics.metric import Measured, Metric, Needs
from emgen.qc.report.tables import row
from emgen.qc.verdict import Check


class BrightnessFigures(Figures):
    restored: float
    interpolated: float


class Brightness(Metric[BrightnessFigures]):
    name = "brightness"
    title = "Brightness"
    message = "Looking how bright the result is"
    figures = BrightnessFigures
    needs = Needs(memory_mb=1234)

    def measure(self, sample, threads):
        tile = sample.read(sample.middle)
        means = float(tile.restored.mean()), float(tile.interpolated.mean())
        return Measured(BrightnessFigures(restored=means[0], interpolated=means[1]))

    def checks(self, figures, plan):
        reason = "The result is as bright as it is."
        value = figures.restored
        return [Check(name="brightness", verdict="pass", measure="mean", value=value, reason=reason)]

    def rows(self, figures):
        return [row("mean grey value", [figures.restored, figures.interpolated], ".1f", compare=False)]


METRIC = Brightness()
'''


def run(tmp_path: Path, package: Path, config: dict) -> str:
    """The report of a run of the workflow with that copy of the package."""
    done = snakemake(tmp_path, config, root=package)
    assert done.returncode == 0, done.stderr
    return (tmp_path / "results/small/report.html").read_text()


@pytest.mark.slow
def test_a_mode_is_one_file_and_one_word(tmp_path):
    words = {SETTINGS: ('"deblur"],', '"deblur", "destripe"],')}
    package = extended.package(tmp_path / "package", {"modes/destripe.py": TOY_MODE}, words)
    volume = measured(tmp_path)
    changes = {"restore": {"mode": "destripe", "steps": None}, **FLAT}
    report = run(tmp_path, package, settings(volume, **changes))
    assert "Stripes were taken from 6 sections" in report and "destripe" in report
    before, after = Volume.open(volume), read(tmp_path / "results/small")
    striped = np.median(before.read(Box.whole(before.shape)), axis=2)
    assert np.median(after, axis=2).std() < striped.std() / 4


@pytest.mark.slow
def test_a_sampler_is_one_file_and_one_word(tmp_path):
    words = {SETTINGS: ('"em-generalist", "dps"],', '"em-generalist", "dps", "nearest"],')}
    package = extended.package(tmp_path / "package", {"sampling/nearest.py": TOY_SAMPLER}, words)
    volume = measured(tmp_path)
    config = settings(volume, restore={"sampler": "nearest", "steps": None})
    report = run(tmp_path, package, config)
    assert "the sampler nearest (" in report
    stored = Volume.open(volume)
    voxels = read(tmp_path / "results/small")
    np.testing.assert_array_equal(voxels[::6], stored.read(Box.whole(stored.shape)))
    summary = json.loads((tmp_path / "results/small/qc/summary.json").read_text())
    assert summary["verdict"] in ("pass", "warn", "fail", "not tested")


@pytest.mark.slow
def test_a_metric_is_one_file_and_one_word(tmp_path):
    words = {
        "qc/metrics/__init__.py": (
            '    "uncertainty",\n)',
            '    "uncertainty",\n    "brightness",\n)',
        )
    }
    files = {"qc/metrics/brightness.py": TOY_METRIC}
    package = extended.package(tmp_path / "package", files, words)
    report = run(tmp_path, package, settings(measured(tmp_path), restore={"steps": 1}))
    assert "<h2>Brightness</h2>" in report and "mean grey value" in report
    assert "The result is as bright as it is." in report
    results = tmp_path / "results/small"
    summary = json.loads((results / "qc/summary.json").read_text())
    assert summary["brightness"] == json.loads((results / "qc/brightness.json").read_text())
    assert "brightness" in [check["name"] for check in summary["checks"]]
    assert (results / "logs/brightness.log").exists()
