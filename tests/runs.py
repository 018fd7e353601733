"""Small real runs for the tests: a corner of the demo, through the package or through Snakemake."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import yaml

from emgen.config.run import parse
from emgen.geometry import Box
from emgen.run.job import restore_job
from emgen.run.output import create_output
from emgen.run.plan import Plan, make
from emgen.run.resolve import resolve
from emgen.run.stitch import write_cores
from emgen.volumes.volume import Volume

ROOT = Path(__file__).parent.parent
CORNER = Box((0, 30, 40), (6, 70, 80))


def measured(
    folder: Path, corner: Box = CORNER, name: str = "measured", dtype=None, change=None
) -> Path:
    """A corner of the demo's measured volume as a store of its own."""
    whole = Volume.open(ROOT / "demo/measured.ome.zarr")
    voxels = whole.read(corner)
    voxels = voxels if change is None else change(voxels)
    target = Volume.create(
        folder / f"{name}.ome.zarr",
        voxels.shape,
        dtype or voxels.dtype,
        whole.voxel,
        chunk=(4, 16, 16),
        shard=(8, 32, 32),
    )
    target.write(Box.whole(voxels.shape), voxels.astype(target.dtype))
    return Path(target.path)


def settings(volume: Path, run: str = "small", **changes) -> dict:
    """Settings of a small quick run; keyword arguments update the sections of that name."""
    base = {
        "run": run,
        "input": {"volume": str(volume)},
        "restore": {"steps": 3},
        "grid": {"block": [16, 16, 32], "halo": [6, 6, 8], "blocks_per_job": 4},
        "output": {"chunk": [8, 16, 16], "shard": [16, 16, 16]},
        "qc": {},
    }
    return {
        key: {**value, **changes.get(key, {})} if isinstance(value, dict) else value
        for key, value in base.items()
    }


def restore(folder: Path, config: dict, workers: int = 1) -> tuple[Plan, np.ndarray]:
    """Plan, restore and stitch without Snakemake; the voxels of the output's level 0."""
    folder.mkdir(parents=True, exist_ok=True)
    found = resolve(parse(config))
    plan = make(found)
    create_output(plan, found, folder / "restored.ome.zarr")
    for job in range(plan.grid.jobs):
        restore_job(plan, job, folder, "cpu", workers, lambda text: None)
    for job in range(plan.grid.jobs):
        write_cores(plan, job, folder, "mean")
    return plan, read(folder)


def read(folder: Path) -> np.ndarray:
    """All voxels of a run's output."""
    volume = Volume.open(folder / "restored.ome.zarr")
    return volume.read(Box.whole(volume.shape))


def snakemake(
    folder: Path, config: dict | Path, *arguments: str, root: Path = ROOT, **more
) -> subprocess.CompletedProcess[str]:
    """Run the project's workflow with `folder` as its working directory; `root` is a copy of the project."""
    return subprocess.run(
        command(folder, config, *arguments, root=root),
        capture_output=True,
        text=True,
        env=environment() | {"PYTHONPATH": str(root)},
        cwd=folder,  # `python -m` looks for modules here first
        check=False,
        **more,
    )


def command(folder: Path, config: dict | Path, *arguments: str, root: Path = ROOT) -> list[str]:
    """The command line of `snakemake`, with its configuration written to `folder`."""
    if isinstance(config, dict):
        path = folder / f"{config.get('run', 'config')}.yaml"
        path.write_text(yaml.safe_dump(config))
        config = path
    extra = () if "--cores" in arguments else ("--cores", "2")
    start = [
        sys.executable,
        "-m",
        "snakemake",
        "--snakefile",
        str(root / "Snakefile"),
        "--directory",
        str(folder),
    ]
    return [*start, "--configfile", str(config), "--workflow-profile", "none", *extra, *arguments]


def environment() -> dict[str, str]:
    """Without what a surrounding pytest or Snakemake run would change."""
    return {
        key: value
        for key, value in os.environ.items()
        if not key.startswith(("SNAKEMAKE", "PYTEST"))
    }
