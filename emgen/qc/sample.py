"""Which part of a volume is measured, and the voxels to measure there.

    volume    |----------|----------|----------|----------|      cells of at most qc.tile voxels
    tiles          x                     x                       at most qc.tiles, spread evenly

Cells do not overlap, so no voxel and no object counts twice; a small volume is measured whole.
Nothing is drawn by chance: the same settings measure the same voxels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt

from emgen.config.qc import Qc
from emgen.geometry import Box, Zyx, zyx
from emgen.physics.tissue import OUTSIDE
from emgen.run.calibration_facts import Calibration
from emgen.run.plan import Plan
from emgen.volumes.corrected import corrected
from emgen.volumes.inputs import open_input
from emgen.volumes.measured import Measured
from emgen.volumes.volume import Volume

Candidate = Literal["restored", "interpolated"]
CANDIDATES: tuple[Candidate, Candidate] = ("restored", "interpolated")
T = TypeVar("T")


def spread(shape: Zyx, tile: Zyx, most: int) -> list[Box]:
    """At most `most` boxes of at most `tile` voxels, evenly spread over a volume (z, y, x).

    If the cells that it takes to cover the volume are no more than `most`, it is all of them.

    >>> [box.start for box in spread((100, 40, 400), (100, 100, 100), 2)]
    [(0, 0, 100), (0, 0, 300)]
    """
    if min(shape) < 1 or min(tile) < 1 or most < 1:
        raise ValueError(
            f"expected a positive shape, tile and number of tiles, found {shape}, {tile}, {most}"
        )
    cells = zyx([-(-n // t) for n, t in zip(shape, tile, strict=True)])
    counts = _counts(cells, most)
    places = [
        [(2 * i + 1) * c // (2 * m) for i in range(m)] for c, m in zip(cells, counts, strict=True)
    ]
    return [
        Box(
            zyx([p * n // c for p, n, c in zip(place, shape, cells, strict=True)]),
            zyx([(p + 1) * n // c for p, n, c in zip(place, shape, cells, strict=True)]),
        )
        for place in itertools.product(*places)
    ]


def _counts(cells: Zyx, most: int) -> Zyx:
    """How many cells to take along each axis: as even a share of every axis as `most` allows."""
    counts = [1, 1, 1]
    while counts != list(cells):
        for axis in sorted(range(3), key=lambda k: counts[k] / cells[k]):
            more = [m + (k == axis) for k, m in enumerate(counts)]
            if more[axis] <= cells[axis] and math.prod(more) <= most:
                counts = more
                break
        else:
            break
    return zyx(counts)


def whole_blocks(shape: Zyx, block: Zyx, most: int) -> Box:
    """A box of whole blocks in the middle of a volume, of about `most` voxels, or all of it.

    Where seams are sought: blocks have to lie side by side, and every axis needs some faces.
    """
    counts = zyx([-(-n // b) for n, b in zip(shape, block, strict=True)])
    taken = _counts(counts, max(1, most // math.prod(block)))
    first = [(n - m) // 2 for n, m in zip(counts, taken, strict=True)]
    start = zyx([i * b for i, b in zip(first, block, strict=True)])
    stop = zyx([(i + m) * b for i, m, b in zip(first, taken, block, strict=True)])
    return Box(start, stop).clip(shape)


@dataclass(frozen=True, eq=False)
class Tile:
    """Grey values of one box, (z, y, x) float32: restored, interpolated and the reference."""

    box: Box
    restored: npt.NDArray[np.float32]
    interpolated: npt.NDArray[np.float32]
    reference: npt.NDArray[np.float32] | None
    restored_sections: npt.NDArray[np.bool_] = field(
        default_factory=lambda: np.ones(1, np.bool_)  # of every section, unless it is said
    )

    def without_copies(self, volume: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """A volume whose sections that are measured ones, as they are, give way to the mean of those beside them.

        What was copied agrees with the truth, noise and all, and says nothing of the restoration. Result and truth are
        both treated so: what is left depends on restored sections alone.
        """
        copies = np.flatnonzero(~np.broadcast_to(self.restored_sections, len(volume)))
        if not len(copies) or len(copies) == len(volume):
            return volume
        filled = volume.copy()
        for z in copies:
            beside = [volume[k] for k in (z - 1, z + 1) if 0 <= k < len(volume)]
            filled[z] = np.mean(beside, axis=0)
        return filled

    def candidate(self, name: Candidate) -> npt.NDArray[np.float32]:
        """Grey values of the restored volume or of linear interpolation."""
        return self.restored if name == "restored" else self.interpolated

    @property
    def truth(self) -> npt.NDArray[np.float32]:
        """The reference; `ValueError` where the run has none."""
        if self.reference is None:
            raise ValueError("this is measured against a reference, and the run has none")
        return self.reference


@dataclass(frozen=True)
class Sample:
    """What of a run is measured.

    Attributes:
        plan: of the run.
        qc: settings of quality control, which no plan holds.
        restored: its output.
        measured: its input.
        reference: ground truth on the output's voxels, if there is one.
        boxes: the tiles, in output voxels; extrapolated sections are not among them.
        uncertainty: calibrated standard deviation over posterior samples in grey values, on the
            output's voxels; None with one sample.
        calibration: the trial that the standard deviation was calibrated by, if there was one.
    """

    plan: Plan
    qc: Qc
    restored: Volume
    measured: Measured
    reference: Volume | None
    boxes: tuple[Box, ...]
    uncertainty: Volume | None = None
    calibration: Calibration | None = None

    @classmethod
    def of(cls, plan: Plan, run: str | Path, qc: Qc) -> Sample:
        """The sample of a run.

        Args:
            plan: of the run.
            run: the folder that the run's results are in.
            qc: settings of quality control.

        Raises:
            EmgenError: a volume cannot be opened, or the input is not the one that was planned.
        """
        part, folder = supported(plan), Path(run)
        several, trial = plan.several_samples, folder / "calibration.json"
        return cls(
            plan,
            qc,
            Volume.open(folder / "restored.ome.zarr"),
            corrected(open_input(plan.config.input), plan.corrections),
            Volume.open(qc.reference, missing=plan.config.input.missing_chunks)
            if qc.reference
            else None,
            tuple(tile.shift(part.start) for tile in spread(part.shape, qc.tile, qc.tiles)),
            Volume.open(folder / "uncertainty.ome.zarr") if several else None,
            Calibration.read(trial) if several and trial.exists() else None,
        )

    @property
    def middle(self) -> Box:
        """The box of the tile in the middle of the list."""
        return self.boxes[len(self.boxes) // 2]

    def read(self, box: Box) -> Tile:
        """The grey values of any box of the output; where there is no tissue all volumes are alike."""
        outside = self._outside(box)
        return Tile(
            box,
            self._alike(self.restored.read(box).astype(np.float32), outside),
            self._alike(self.plan.interpolated(self.measured, box), outside),
            None
            if self.reference is None
            else self._alike(self.reference.read(box).astype(np.float32), outside),
            restored_sections(self.plan, box),
        )

    def candidate(self, name: Candidate, box: Box) -> npt.NDArray[np.float32]:
        """Grey values of one volume; where there is no tissue both are continued alike, without a step."""
        continued = self.plan.continued(self.measured, box)
        if name == "interpolated":
            return continued
        restored, outside = self.restored.read(box).astype(np.float32), self._outside(box)
        return restored if outside is None else np.where(outside, continued, restored)

    def _outside(self, box: Box) -> npt.NDArray[np.bool_] | None:
        states = self.plan.states(self.measured, box)
        return None if states is None else states[0] == OUTSIDE

    def _alike(
        self, grey: npt.NDArray[np.float32], outside: npt.NDArray[np.bool_] | None
    ) -> npt.NDArray[np.float32]:
        """Grey values with one value where there is no tissue, so that it counts for neither volume."""
        if outside is None:
            return grey
        return np.where(outside, np.float32(self.plan.intensity.low), grey)

    def map(self, function: Callable[[Box], T], threads: int = 1) -> Iterator[T]:
        """Apply a function to the box of every tile, `threads` at a time; results come in order."""
        with ThreadPoolExecutor(threads) as pool:
            yield from pool.map(function, self.boxes)


def baseline(plan: Plan) -> str:
    """The name of what the result is compared with: linear interpolation, or the input itself where
    it has the output's voxels.
    """
    return "linear interpolation" if max(plan.scale) > 1 else "the input"


def restored_sections(plan: Plan, box: Box) -> npt.NDArray[np.bool_]:
    """Which sections of a box of the output were restored: all but measured ones that were kept as they are."""
    z = np.arange(box.start[0], box.stop[0])
    factor = plan.scale[0]
    if factor == 1 or not plan.mode.keeps_measured or plan.noise_model.sigma > 0:
        return np.ones(len(z), np.bool_)
    copied: npt.NDArray[np.bool_] = (z % factor == 0) & ~np.isin(z // factor, plan.missing)
    return ~copied


def supported(plan: Plan) -> Box:
    """The output without its extrapolated sections: those with measured ones on both sides."""
    first, stop = plan.bracketed_sections
    return Box((first, 0, 0), (stop, plan.shape[1], plan.shape[2]))
