"""A run without networks and without Snakemake: its jobs as the rules call them, and the same rules for what runs again.

Every step through the disk is the real one; only the voxels of blocks are made up, and each job's facts are short.
"""

import json
import os
import signal
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
from runs import measured, settings

from emgen.config.run import parse
from emgen.geometry import Box
from emgen.run.job import restore_job
from emgen.run.mend import begin, mend
from emgen.run.plan import Plan, make
from emgen.run.resolve import RunSpec, resolve
from emgen.run.restore import Restorer
from emgen.run.results import Results
from emgen.run.stitch import write_cores
from emgen.volumes.pyramid import build


def spec(folder: Path, **changes) -> RunSpec:
    """Of a small run with a pyramid of three levels: 20 blocks, 40 write units, 10 and 5."""
    volume = folder / "measured.ome.zarr"
    if not volume.exists():
        corner = Box((0, 0, 0), (2, 24, 160))
        measured(folder, corner, change=lambda voxels: np.tile(voxels, (1, 1, 2)))
    grid = {"block": [16, 16, 32], "halo": [2, 4, 4], "blocks_per_job": 4}
    output = {"chunk": [8, 8, 8], "shard": [16, 16, 16]}
    changes = {"grid": grid, "output": output, **changes}
    return resolve(parse(settings(volume, **changes)))


def voxels_of(restorer: Restorer, outer: Box, voxels: np.ndarray) -> dict[str, np.ndarray]:
    """What stands for a restored block: every voxel another, and neighbouring blocks do not agree."""
    z, y, x = np.ogrid[outer.slices]
    pattern = (7 * z + 3 * y + 5 * x + 11 * outer.start[2] + outer.start[1]) % 251
    fields = {"mean": pattern.astype(restorer.plan.dtype)}
    if restorer.plan.several_samples:
        fields["std"] = (pattern / 251).astype(np.float32)
    return fields


class Run:
    """A run in a folder.

    Attributes:
        spec: what its metadata says.
        folder: of it.
        restored: numbers of the blocks that were restored since the object was made.
        written: write units that were written, by level.
        said: what the last start found damaged.
    """

    def __init__(self, spec: RunSpec, folder: Path) -> None:
        self.spec, self.folder = spec, folder
        self.restored: list[int] = []
        self.written: dict[int, int] = {}
        self.said: list[str] = []

    @property
    def results(self) -> Results:
        return Results(Plan.of(self.folder), self.folder)

    def start(self) -> None:
        """Go on until everything is there, as Snakemake would after the start's own checks."""
        self.said = mend(self.spec, self.folder)
        if not (self.folder / "planned.json").exists():
            begin(make(self.spec), self.spec, self.folder)
        plan, grid = Plan.of(self.folder), self.spec.grid
        numbers = range(grid.jobs)
        again = {n for n in numbers if self._restore(plan, n)}
        stitched = [self._stitch(plan, n, bool(again & set(grid.sources(n)))) for n in numbers]
        if plan.several_samples:
            self._mark("calibration.json", {"factor": 1.0}, False)
        new = self._mark("restored.json", {"key": plan.key}, bool(again) or any(stitched))
        for level in (1, 2):
            new = self._average(plan, level, new)

    def _restore(self, plan: Plan, number: int) -> bool:
        name = f"blocks/{number}.json"
        if (self.folder / name).exists():
            return False
        outers = {plan.grid[index].outer: index for index in plan.grid.job(number)}

        def block(restorer: Restorer, outer: Box, voxels: np.ndarray) -> dict[str, np.ndarray]:
            self.restored.append(outers[outer])
            return voxels_of(restorer, outer, voxels)

        networks = mock.patch.object(Restorer, "networks", mock.Mock())
        with mock.patch.object(Restorer, "block", block), networks:
            facts = restore_job(plan, number, self.folder, "cpu", 1, lambda text: None)
        return self._mark(name, {"key": plan.key, **facts})

    def _stitch(self, plan: Plan, number: int, again: bool) -> bool:
        name = f"stitch/{number}.json"
        if (self.folder / name).exists() and not again:
            return False
        for field in Results(plan, self.folder).fields:
            before = self._lines(field, 0)
            write_cores(plan, number, self.folder, field)
            self.written[0] = self.written.get(0, 0) + self._lines(field, 0) - before
        blocks = plan.grid.job(number)
        return self._mark(name, {"key": plan.key, "first": blocks.start, "stop": blocks.stop})

    def _lines(self, field: str, level: int) -> int:
        folder = self.folder / "ledger" / self.results.volume(field).name / str(level)
        files = folder.glob("*.jsonl") if folder.exists() else []
        return sum(path.read_bytes().count(b"\n") for path in files)

    def _average(self, plan: Plan, level: int, again: bool) -> bool:
        name = f"pyramid/{level}.json"
        if (self.folder / name).exists() and not again:
            return False
        results = Results(plan, self.folder)
        for path in results.volumes:
            units = build(path, level, results.ledgers)
            self.written[level] = self.written.get(level, 0) + units
        return self._mark(name, {"key": plan.key, "level": level})

    def _mark(self, name: str, facts: dict, wanted: bool = True) -> bool:
        path = self.folder / name
        if not wanted and path.exists():
            return False
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(facts))
        return True

    def contents(self) -> dict[str, bytes]:
        """Every file of the outputs, by its path."""
        found = {}
        for path in self.results.volumes:
            for file in sorted(path.rglob("*")):
                if file.is_file():
                    found[str(file.relative_to(self.folder))] = file.read_bytes()
        return found


@contextmanager
def killed_at(step: int):
    """The process kills itself at this step that makes something last: before a flush to the disk, or a change of name."""
    left = [step]

    def counted(function):
        def call(*arguments, **more):
            left[0] -= 1
            if left[0] < 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **more)

        return call

    with (
        mock.patch.object(os, "fsync", counted(os.fsync)),
        mock.patch.object(os, "replace", counted(os.replace)),
        mock.patch.object(Path, "replace", counted(Path.replace)),
        mock.patch.object(Path, "unlink", counted(Path.unlink)),
    ):
        yield
