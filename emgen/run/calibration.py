"""By how much the spread of samples falls short of their error: the restoration is tried on the input's own sections.

Samples that begin late, from one estimate, share its error and are surer than they should be. `emgen.modes.trial`
makes problems of the input whose answer is known; the same sampler restores them, and error / spread is one number
for the run, by which the spread is multiplied.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from emgen.geometry import Box
from emgen.modes.mode import Known, Trial
from emgen.run.calibration_facts import Calibration
from emgen.run.plan import Plan
from emgen.run.restore import Restorer, is_constant
from emgen.volumes.measured import Measured

VOXELS_PER_TRIED = 8
"""Voxels of the output for each that is restored in trials, between the fewest and the most crops."""
TRIES = 4
"""Places to look for a crop that shows something."""


def calibrate(plan: Plan, measured: Measured, device: str = "cpu", workers: int = 1) -> Calibration:
    """Try the restoration of a plan with several samples on crops of the volume's sections.

    The result does not depend on blocks, jobs or workers. There is no trial where noise that neighbouring pixels share
    cannot be told from tissue. `emgen.networks.device.fixed_arithmetic` is entered by whoever calls.

    Args:
        plan: of the run.
        measured: its input.
        device: "cpu" or a CUDA device.
        workers: threads on a CPU.
    """
    trial = plan.mode.trial(plan.noise_model, plan.estimator_context)
    if trial is None or plan.noise_model.is_correlated:
        return Calibration(factor=None, crops=0)
    rng = np.random.default_rng(plan.config.restore.seed)
    problems = [trial.problems(crop, rng) for crop in crops(plan, measured, trial, rng)]
    # a volume's planes are shared out, planes by themselves are not
    lanes = workers if trial.box.shape[0] == 1 and device == "cpu" else 1
    restorer = Restorer(planned(plan, trial), device, workers // lanes)
    restorer.networks.load()

    def tried(known: Known) -> tuple[float, float]:
        fields = restorer(trial.box, known.y)
        error = np.square(fields["mean"][trial.compared] - known.truth).mean() - known.noise_power
        spread = np.square(fields["std"][trial.compared], dtype=np.float64).mean()
        return float(error), float(spread)

    # one thread for a plane, as in restore jobs: the order of every sum is fixed
    one: dict[str, Any] = {"initializer": torch.set_num_threads, "initargs": (1,)}
    with ThreadPoolExecutor(lanes, **one) as pool:
        outcomes = list(pool.map(tried, [known for crop in problems for known in crop]))
    errors, spread = (sum(part) for part in zip(*outcomes, strict=True)) if outcomes else (0, 0)
    expected = spread * plan.mode.error_variance_ratio
    factor = math.sqrt(errors / expected) if errors > 0 and expected > 0 else None
    return Calibration(factor=factor, crops=len(problems))


def planned(plan: Plan, trial: Trial) -> Plan:
    """The same restoration of the trial's volume."""
    return replace(
        plan,
        measured_shape=trial.mode.measured_shape,
        noise_model=trial.noise,
        missing=(),
        no_data=(),
        absent=False,
        blank=0.0,
        inferred=0.0,
        dtype="float32",
    )


def crops(
    plan: Plan, measured: Measured, trial: Trial, rng: np.random.Generator
) -> Iterator[npt.NDArray[np.float32]]:
    """Parts of sections (sections, side, side), in grey values, from anywhere in the volume that shows something."""
    depth, height, width = measured.shape
    fewest, most = trial.crops
    count = math.prod(plan.shape) // (VOXELS_PER_TRIED * trial.cost)
    side, context = trial.side, trial.sections // 2
    sections = [k for k in range(context, depth - context) if k not in plan.missing]
    for _ in range(min(max(count, fewest), most) if sections else 0):
        for _ in range(TRIES):
            k = sections[rng.integers(len(sections))]
            y, x = (int(rng.integers(n - side + 1)) for n in (height, width))
            box = Box((k - context, y, x), (k + context + 1, y + side, x + side))
            crop = plan.see(measured, box)
            if crop.states is None and not is_constant(crop.voxels[context]):
                yield crop.voxels.astype(np.float32)
                break
