"""Cut the demo's volumes from FIB-25 training sample 2 (Janelia FlyEM, CC-BY; README, Credits).

    python demo/make_demo.py fib25_b.tif fib25_b_neurons.tif

The measured input is every 6th section; the whole crop is the reference; labels are renumbered from 1.
"""

import argparse
from pathlib import Path

import numpy as np
import tifffile

from emgen.geometry import Box, VoxelSize
from emgen.volumes.volume import Volume

FACTOR, CROP = 6, Box((0, 40, 40), (96, 200, 200))
VOXEL = VoxelSize(8, 8, 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("image", type=Path, help="training sample 2 (TIFF)")
    parser.add_argument("labels", type=Path, help="its neurons (TIFF)")
    parser.add_argument("folder", type=Path, nargs="?", default=Path(__file__).parent)
    args = parser.parse_args()
    cut(args.image, args.labels, args.folder)


def cut(image: Path, labels: Path, folder: Path) -> None:
    """Write the measured, reference and neurons volumes of the crop to a folder."""
    reference = tifffile.imread(image)[CROP.slices]
    neurons = tifffile.imread(labels)[CROP.slices]
    _, numbers = np.unique(np.append(neurons.ravel(), 0), return_inverse=True)
    neurons = numbers[:-1].reshape(CROP.shape).astype(np.uint16)
    folder.mkdir(exist_ok=True)
    for name, voxels, voxel in [
        ("measured", reference[::FACTOR], VOXEL.scaled((FACTOR, 1, 1))),
        ("reference", reference, VOXEL),
        ("neurons", neurons, VOXEL),
    ]:
        chunk = (voxels.shape[0], 80, 80)
        window = (
            None
            if name == "neurons"
            else (0.0, *map(float, np.percentile(voxels, (0.1, 99.9))), 255.0)
        )
        volume = Volume.create(
            folder / f"{name}.ome.zarr",
            voxels.shape,
            voxels.dtype,
            voxel,
            chunk=chunk,
            shard=(chunk[0], 160, 160),
            window=window,
            label=name == "neurons",
        )
        volume.write(Box.whole(voxels.shape), voxels)


if __name__ == "__main__":
    main()
