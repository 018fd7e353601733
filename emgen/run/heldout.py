"""Measured sections taken for lost at a few places, and restored from the rest: the test that every isotropic run makes.

     measured sections   0   1   2   3   4   5   6   7
     seen                o   .   o   .   o   o   o   o        sections 1 and 3 are held out at this place
     box restored        [===============]                    from section 0 to section 4

What was held out is then compared with what was measured: by the operator, as the result is a volume and the
measurement a section. Sections are twice as far apart as in the run, so the test is harder than the run was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from emgen.geometry import Box, zyx
from emgen.modes.isotropic import Isotropic
from emgen.run.degrade import degraded
from emgen.run.plan import Plan
from emgen.run.restore import Restorer, is_constant
from emgen.volumes.measured import Measured

Grey = npt.NDArray[np.float32]

SHARE = 0.12
"""Voxels restored for the test over those of the output, where that leaves enough places."""
SIDES = 64, 96
"""Pixels on a side of a place, in small runs and in others: whole tiles of the networks' coarsest level."""
PLACES = 6, 32
"""The fewest places and the most: an interval over fewer says little, one over more is narrow enough."""
LOST = 2
"""Sections held out at a place, every other one, where the volume is deep enough."""
MARGIN = 8
"""Pixels at the border of a place that are not compared: the networks see no neighbours there."""
SMALLEST_SIDE = 4 * MARGIN
"""Pixels on a side that a place must have to say something."""
TRIES = 4
"""Candidates for each place, of which some may show nothing."""
OTHER_SECTION = {"slice": "mean", "mean": "slice", "gaussian": "slice"}
"""The thickness model that the run's own is compared with."""


@dataclass(frozen=True)
class Place:
    """Where measured sections are held out.

    Attributes:
        box: of the output, from the measured section before to the one after those held out.
        sections: measured ones that are held out.
    """

    box: Box
    sections: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Held:
    """A part of a section that was held out, in grey values (y, x).

    Attributes:
        place: number of its place.
        section: its number.
        measured: what was measured.
        restored: what the restoration of the rest predicts for it.
        before, after: the measured sections on either side.
    """

    place: int
    section: int
    measured: Grey
    restored: Grey
    before: Grey
    after: Grey

    @property
    def linear(self) -> Grey:
        """Linear interpolation between the sections on either side."""
        return (self.before + self.after) * np.float32(0.5)


def places(
    plan: Plan, most: int = PLACES[1], usable: Callable[[Place], bool] = lambda place: True
) -> list[Place]:
    """Where to hold out sections: spread evenly over the volume, the same for the same plan.

    Args:
        plan: of an isotropic run.
        most: places at most.
        usable: whether a place shows something.
    """
    factor, (depth, height, width) = plan.scale[0], plan.measured_shape
    lone = [
        k
        for k in range(1, depth - 1, 2)
        if not any(near in plan.missing for near in (k - 1, k, k + 1))
    ]
    side, count = _size(plan, min(LOST, len(lone)))
    side = min(side, height, width) // MARGIN * MARGIN
    if not lone or side < SMALLEST_SIDE:
        return []
    chosen: list[Place] = []
    count = min(count, most)
    for i in range(TRIES * count):
        z, y, x = _spread(i)
        k = lone[int(z * len(lone))]
        beside = [near for near in (k + 2, k - 2) if near in lone][: LOST - 1]
        sections = tuple(sorted([k, *beside]))
        corner = [
            int(part * (n - side)) // MARGIN * MARGIN for part, n in ((y, height), (x, width))
        ]
        top, bottom = (sections[0] - 1) * factor, (sections[-1] + 1) * factor
        bottom += 1 if plan.mode.keeps_measured else factor
        start, stop = (top, *corner), (bottom, *(a + side for a in corner))
        place = Place(Box(zyx(start), zyx(stop)), sections)
        if usable(place):
            chosen.append(place)
        if len(chosen) == count:
            break
    return chosen


def _size(plan: Plan, lost: int) -> tuple[int, int]:
    """Side and number of the places that a run of this size affords."""
    depth = (2 * lost + 1) * plan.scale[0]
    # a place may be restored by two thickness models
    voxels = SHARE * math.prod(plan.shape) / 2
    count = int(voxels / (depth * SIDES[1] ** 2))
    if count >= PLACES[0]:
        return SIDES[1], min(count, PLACES[1])
    return SIDES[0], max(PLACES[0], int(voxels / (depth * SIDES[0] ** 2)))


def _spread(number: int) -> tuple[float, float, float]:
    """Points of [0, 1)^3 that fill it evenly however many are taken: a Kronecker sequence, Roberts (2018)."""
    golden = 1.22074408460575947536  # the root of x^4 = x + 1
    z, y, x = ((0.5 + (number + 1) / golden**axis) % 1 for axis in (1, 2, 3))
    return z, y, x


def hold_out(
    plan: Plan,
    measured: Measured,
    device: str = "cpu",
    workers: int = 1,
    *,
    most: int = PLACES[1],
) -> list[Held]:
    """Restore the sections of the chosen places from those around them.

    `emgen.networks.device.fixed_arithmetic` is entered by whoever calls.

    Args:
        plan: of an isotropic run.
        measured: its input.
        device: "cpu" or a CUDA device.
        workers: threads on a CPU.
        most: places at most.
    """
    chosen = places(plan, most, lambda place: _shows_something(place, plan, measured))
    if not chosen:
        return []
    lost = {k for place in chosen for k in place.sections}
    tried = replace(plan, missing=tuple(sorted({*plan.missing, *lost})))
    restorer = Restorer(tried, device, workers)
    return [
        held
        for number, place in enumerate(chosen)
        for held in _held(number, place, measured, restorer)
    ]


def by_the_other_model(plan: Plan) -> Plan:
    """The same restoration with sections taken for means where the plan takes them for slices, or the reverse.

    `hold_out` chooses the same places with it.
    """
    section = OTHER_SECTION[plan.config.restore.section]
    restore = plan.config.restore.model_copy(update={"section": section})
    return replace(plan, config=plan.config.model_copy(update={"restore": restore}))


def _shows_something(place: Place, plan: Plan, measured: Measured) -> bool:
    seen = plan.see(measured, _columns(place, min(place.sections) - 1, max(place.sections) + 2))
    return seen.states is None and not any(map(is_constant, seen.voxels))


def _columns(place: Place, first: int, stop: int) -> Box:
    """Measured sections of a place, over its whole side."""
    (_, y, x), (_, bottom, right) = place.box.start, place.box.stop
    return Box((first, y, x), (stop, bottom, right))


def _held(number: int, place: Place, measured: Measured, restorer: Restorer) -> Iterator[Held]:
    first = place.sections[0] - 1
    seen = measured.read(_columns(place, first, place.sections[-1] + 2)).astype(np.float32)
    inner = (slice(MARGIN, -MARGIN),) * 2
    for k, predicted in zip(place.sections, _predicted(place, measured, restorer), strict=True):
        before, here, after = (seen[k + d - first][inner] for d in (-1, 0, 1))
        yield Held(number, k, here, predicted[inner], before, after)


def _predicted(place: Place, measured: Measured, restorer: Restorer) -> list[Grey]:
    """What a restoration of the rest predicts for the sections held out at a place."""
    plan = restorer.plan
    stop = (place.sections[-1] + 1) * plan.scale[0] + (
        1 if plan.mode.keeps_measured else plan.scale[0]
    )
    box = plan.aligned(Box(place.box.start, (stop, *place.box.stop[1:])).clip(plan.shape))
    voxels: Any = restorer(box, restorer.fetch(box, measured))["mean"]
    footprint, again = degraded(plan, box, voxels.astype(np.float32))
    across = place.box.relative_to(box).slices[1:]
    return [again[k - footprint.start[0]][across] for k in place.sections]


def applies(plan: Plan) -> bool:
    """Whether a run interpolates sections, which can be held out."""
    return isinstance(plan.mode, Isotropic) and plan.scale[0] > 1
