"""Sections of the input measured once more by hand and restored: problems whose answer is known.

The test of the modes that restore section by section, as sections held out are that of isotropic restoration. A
problem is restored as the run restores, with the sections beside it, and once without them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from emgen.modes.mode import Known, Trial
from emgen.run.calibration import crops, planned
from emgen.run.plan import Plan
from emgen.run.restore import Restorer
from emgen.volumes.measured import Measured

Grey = npt.NDArray[np.float32]
FEWEST = 8
"""Problems that are tried at least, where the volume has so many places that show something."""
MOST = 24


@dataclass(frozen=True, eq=False)
class Answer:
    """One section (y, x) that was measured again, in grey values.

    Attributes:
        measured: what was measured again, on the input's pixels.
        truth: what to compare with; it has noise of its own.
        noise_power: the mean square of that noise.
        restored: what the run makes of it.
        alone: what it makes of it without the sections beside it; None where there are none.
    """

    measured: Grey
    truth: Grey
    noise_power: float
    restored: Grey
    alone: Grey | None


def known_answers(
    plan: Plan, measured: Measured, device: str = "cpu", workers: int = 1, most: int = MOST
) -> list[Answer]:
    """Try the restoration of a plan on sections of its input; none where nothing can be told.

    Args:
        plan: of a run that restores section by section.
        measured: its input.
        device: "cpu" or a CUDA device.
        workers: threads on a CPU.
        most: problems at most.
    """
    trial = plan.mode.trial(plan.noise_model, plan.estimator_context)
    if trial is None or plan.noise_model.is_correlated:
        return []
    rng = np.random.default_rng(plan.config.restore.seed)
    one = replace(trial, crops=(min(FEWEST, most), most))
    tried = Restorer(replace(planned(plan, trial), config=_once(plan)), device, workers)
    alone = _alone(tried, trial) if trial.sections > 1 else None
    return [
        answer
        for crop in crops(plan, measured, one, rng)
        for known in trial.problems(crop, rng)
        for answer in _answers(known, trial, tried, alone)
    ]


def _once(plan: Plan) -> Any:
    """The settings with one sample: the spread is not asked for."""
    restore = plan.config.restore.model_copy(update={"samples": 1, "start": None})
    if not plan.mode.returns_estimate:
        restore = plan.config.restore
    return plan.config.model_copy(update={"restore": restore})


def _alone(tried: Restorer, trial: Trial) -> Restorer:
    shape = (1, *trial.mode.measured_shape[1:])
    lone = Restorer(replace(tried.plan, measured_shape=shape), tried.device, tried.workers)
    vars(lone)["networks"] = tried.networks
    return lone


def _answers(
    known: Known, trial: Trial, tried: Restorer, alone: Restorer | None
) -> Iterator[Answer]:
    middle = len(known.y) // 2
    by_itself = None
    if alone is not None:
        box = replace(trial.box, start=(0, 0, 0), stop=(1, *trial.box.stop[1:]))
        by_itself = alone(box, known.y[middle : middle + 1])["mean"][0]
    yield Answer(
        known.y[middle],
        np.asarray(known.truth, np.float32),
        known.noise_power,
        tried(trial.box, known.y)["mean"][trial.compared],
        by_itself,
    )
