"""How far the report's verdict can be trusted: runs that are good, and runs that are broken, mis-set or of other tissue.

    python benchmarks/trust.py FOLDER [NAME ...]

FOLDER holds the volumes as zlib TIFF (fib25_a.tif, fib25_c.tif, hemibrain_cube.tif, ...). Every trial is judged as a run
without a reference is: by what is found in the input, by what the input says of the settings, and by sections held
out. Nothing here was used to train; fib25_b is not among the volumes. A row of trust.jsonl for each trial.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from emgen.arrays import Array
from emgen.config import parse
from emgen.errors import EmgenError
from emgen.geometry import VoxelSize
from emgen.physics.missing import drop_missing
from emgen.physics.noise_model import white_noise
from emgen.qc import heldout_figures
from emgen.qc.metrics import heldout, measurement
from emgen.qc.section_model import texture
from emgen.qc.summary import inspected
from emgen.qc.verdict import Check, advice, overall
from emgen.run.inspection import inspect, refuse
from emgen.run.plan import make
from emgen.run.resolve import resolve
from emgen.volumes.intensity import tissue
from emgen.volumes.samples import read_samples

HERE = Path(__file__).parent
Grey = np.ndarray[Any, Any]
NM = 8.0


@dataclass(frozen=True)
class Trial:
    """A run that is judged.

    Attributes:
        name: of the trial.
        good: whether its result should be used.
        volume: makes the measured sections.
        factor: of the settings.
        restore: further settings.
    """

    name: str
    good: bool
    volume: Callable[[], Grey]
    factor: int = 4
    restore: dict[str, Any] = field(default_factory=dict)


def slices(volume: Grey, factor: int = 4) -> Grey:
    """Every `factor`-th section."""
    return volume[: len(volume) // factor * factor : factor]


def means(volume: Grey, factor: int = 4) -> Grey:
    """The mean of `factor` sections each."""
    parts = volume[: len(volume) // factor * factor].reshape(-1, factor, *volume.shape[1:])
    return np.rint(parts.mean(1)).astype(volume.dtype)


def noisy(volume: Grey, sigma: float = 20.0) -> Grey:
    """With white noise."""
    noise = np.random.default_rng(0).normal(0, sigma, volume.shape)
    return np.clip(np.rint(volume + noise), 0, 255).astype(np.uint8)


def shifted(volume: Grey) -> Grey:
    """Every section moved by 2 to 5 pixels."""
    rng = np.random.default_rng(0)
    moves = rng.integers(2, 6, (len(volume), 2)) * rng.choice([-1, 1], (len(volume), 2))
    return np.stack([np.roll(s, tuple(m), (0, 1)) for s, m in zip(volume, moves, strict=True)])


def flickering(volume: Grey) -> Grey:
    """Every section brighter or darker by up to 30 grey values."""
    steps = np.random.default_rng(0).integers(-30, 31, len(volume))
    return np.clip(volume.astype(int) + steps[:, None, None], 0, 255).astype(np.uint8)


def shuffled(volume: Grey) -> Grey:
    """Sections in any order."""
    return volume[np.random.default_rng(0).permutation(len(volume))]


def blacked(volume: Grey) -> Grey:
    """Two sections hold faint noise in place of an image."""
    changed, middle = volume.copy(), len(volume) // 2
    changed[middle : middle + 2] = np.random.default_rng(0).integers(0, 4, changed[:2].shape)
    return changed


def swapped(volume: Grey) -> Grey:
    """Two neighbours change places, and one section is a copy of the one before it."""
    changed, middle = volume.copy(), len(volume) // 2
    changed[[middle, middle + 1]] = changed[[middle + 1, middle]]
    changed[3] = changed[2]
    return changed


def white(volume: Grey) -> Grey:
    """No tissue."""
    return np.random.default_rng(0).integers(0, 256, volume.shape).astype(np.uint8)


def trials(load: Callable[[str], Grey]) -> Iterator[Trial]:
    """The trials, good ones first.

    Args:
        load: reads a volume by its name.
    """

    def part(name: str, *corner: tuple[int, int]) -> Callable[[], Grey]:
        return lambda: load(name)[tuple(slice(a, b) for a, b in corner)]

    places = {
        "fly 1": part("fib25_a", (0, 128), (0, 250), (0, 250)),
        "fly 2": part("fib25_a", (122, 250), (0, 250), (0, 250)),
        "fly 3": part("fib25_c", (0, 128), (0, 260), (0, 260)),
        "fly 4": part("fib25_c", (0, 128), (260, 520), (260, 520)),
        "fly 5": part("fib25_c", (92, 220), (0, 260), (260, 520)),
        "hemibrain": part("hemibrain_cube"),
        "hippocampus": part("deepimagej_hippocampus"),
    }
    for name, volume in places.items():
        yield Trial(f"{name}, slice x4", True, lambda v=volume: slices(v()))
        yield Trial(f"{name}, mean x4", True, lambda v=volume: means(v()), 4, {"section": "mean"})
    first, second = places["fly 1"], places["fly 3"]
    yield Trial("fly 3, slice x8", True, lambda: slices(second(), 8), 8)
    yield Trial("fly 1, noise 20 said", True, lambda: noisy(slices(first())), 4, {"noise": 20})
    yield Trial("means as slices", False, lambda: means(first()))
    yield Trial("slices as means", False, lambda: slices(first()), 4, {"section": "mean"})
    yield Trial("x4 taken for x8", False, lambda: slices(first()), 8)
    yield Trial("x4 taken for x2", False, lambda: slices(first()), 2)
    for said in (0, 6, 60):
        restore = {"noise": said}
        yield Trial(f"noise 20 said {said}", False, lambda: noisy(slices(first())), 4, restore)
    for change in (shifted, flickering, shuffled, blacked, swapped, white):
        yield Trial(change.__name__, False, lambda c=change: c(slices(first())))
    yield Trial(
        "every third missing", False, lambda: np.delete(slices(first()), slice(2, None, 3), 0)
    )
    yield Trial("inverted", False, lambda: 255 - slices(first()))
    yield Trial("worm", False, lambda: slices(load("platynereis")))
    yield Trial("rat cortex", False, lambda: load("mitoem_rat"))
    yield Trial("ssTEM", False, lambda: load("vnc_sstem")[:, 300:600, 300:600], 10)
    yield Trial("axes swapped", False, lambda: slices(first()).transpose(2, 1, 0).copy(), 1)


def checks_of(trial: Trial, places: int = 32, *, lazily: bool = False) -> list[Check]:
    """The checks of a run without a reference; a refusal is one that fails.

    Args:
        trial: what is judged.
        places: at which sections are held out, at most.
        lazily: whether nothing is restored where the input alone keeps the run from passing.
    """
    voxels = np.ascontiguousarray(trial.volume())
    measured = Array(voxels, voxel=VoxelSize(NM * trial.factor, NM, NM))
    settings = {"factor": trial.factor, **trial.restore}
    config = parse({"run": "trial", "input": {"volume": "array"}, "restore": settings})
    try:
        spec = resolve(config, measured)
        found = inspect(measured, config)
        refuse(found)
        plan = make(spec)
    except EmgenError as error:
        reason = str(error)
        return [Check(name="refused", verdict="fail", measure="", value=None, reason=reason)]
    samples = drop_missing(read_samples(measured), measured.shape, plan.missing)
    said = measurement.MeasurementFigures(
        noise_measured_grey=white_noise(samples),
        noise_said_grey=plan.noise_model.true_sigma,
        noise_estimated=isinstance(plan.mode.noise_setting, str),
        contrast_grey=float(np.std(tissue(samples))),
        texture=texture(samples, plan.scale[0]) if plan.scale[0] > 1 else None,
    )
    known = [*inspected(found), *measurement.METRIC.checks(said, plan)]
    if lazily and any(check.verdict == "warn" for check in known):
        return known
    if plan.scale[0] == 1:
        return [*known, *heldout.METRIC.checks(heldout_figures.compared([], 255.0), plan)]
    _, figures = heldout.tried(plan, measured, samples, most=places)
    return [*known, *heldout.METRIC.checks(figures, plan)]


def main() -> None:
    """Judge the trials, or those of some names."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, help="a folder with the volumes as TIFF")
    parser.add_argument("names", nargs="*", help="of trials; without any, all of them")
    args = parser.parse_args()
    for trial in trials(lambda name: tifffile.imread(args.data / f"{name}.tif")):
        if args.names and trial.name not in args.names:
            continue
        begun = time.monotonic()
        checks = checks_of(trial)
        row = {
            "trial": trial.name,
            "good": trial.good,
            "verdict": overall(checks),
            "checks": {check.name: check.verdict for check in checks},
            "sentence": advice(checks),
            "seconds": round(time.monotonic() - begun, 1),
        }
        with (HERE / "trust.jsonl").open("a") as rows:
            rows.write(json.dumps(row) + "\n")
        print(row["trial"], row["verdict"], row["checks"], flush=True)


if __name__ == "__main__":
    main()
