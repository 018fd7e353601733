"""How much the choice of the block size changes the result.

    python benchmarks/block_size.py [--prior NAME]

Restores one 96 x 96 x 96 corner of the demo with several block sizes (halo 16 each), against one block
that holds everything, and prints how many voxels agree within one grey value. "Cores" are all voxels
of the output; "inside" are those at least 8 voxels away from a face between blocks.
"""

import argparse
import tempfile
from pathlib import Path

import numpy as np
from scores import DEMO

from emgen.config.run import parse
from emgen.geometry import Box
from emgen.run.job import restore_job
from emgen.run.output import create_output
from emgen.run.plan import make
from emgen.run.resolve import resolve
from emgen.run.stitch import write_cores
from emgen.volumes.volume import Volume

DEEP = 8  # voxels from a face, from which on a voxel is called inside


def restored(folder: Path, block: int, prior: str) -> np.ndarray:
    """The corner restored in blocks of this size."""
    whole = Volume.open(DEMO / "measured.ome.zarr")
    voxels = whole.read(Box((0, 30, 30), (16, 126, 126)))
    source = folder / "measured.ome.zarr"
    if not source.exists():
        Volume.create(
            source, voxels.shape, "uint8", whole.voxel, chunk=(16, 96, 96), shard=(16, 96, 96)
        ).write(Box.whole(voxels.shape), voxels)
    config = parse(
        {
            "run": "block",
            "input": {"volume": str(source)},
            "restore": {"prior": prior},
            "grid": {"block": [block] * 3, "halo": [16] * 3},
            "output": {"chunk": [block] * 3, "shard": [block] * 3},
        }
    )
    spec = resolve(config)
    plan, run = make(spec), folder / str(block)
    output = create_output(plan, spec, run / "restored.ome.zarr")
    restore_job(plan, 0, run, "cpu", 2, lambda text: None)
    write_cores(plan, 0, run, "mean")
    return output.read(Box.whole(plan.shape)).astype(int)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--prior", default="emgen-small", help="name of a shipped prior, or path")
    prior = parser.parse_args().prior
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        whole = restored(folder, 96, prior)
        print("block | cores: within 1 grey value, RMS | inside: within 1 grey value, RMS")
        for block in (48, 32):
            difference = np.abs(restored(folder, block, prior) - whole)
            offset = np.arange(96) % block
            near = np.minimum(offset, block - 1 - offset)
            near[: block // 2], near[-(block // 2) :] = (
                DEEP,
                DEEP,
            )  # the ends of the volume are no faces
            deep = np.minimum.reduce(np.meshgrid(near, near, near, indexing="ij")) >= DEEP
            parts = (difference, difference[deep])
            figures = " | ".join(
                f"{(d <= 1).mean():.2%}, {np.sqrt((d**2).mean()):.2f}" for d in parts
            )
            print(f"{block} | {figures}", flush=True)


if __name__ == "__main__":
    main()
