"""`emgen import`: make an OME-Zarr of a volume in another format."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from emgen.cli.progress import progress
from emgen.errors import sayable
from emgen.geometry import VoxelSize, Zyx, zyx

if TYPE_CHECKING:
    from emgen.cli import Commands


def add(commands: Commands) -> None:
    """Declare `emgen import`."""
    parser = commands.add_parser(
        "import",
        help="make an OME-Zarr of TIFF, PNG sections, MRC, HDF5, N5 or precomputed",
        description="Make an OME-Zarr, with all its levels, of a volume in another format.",
    )
    parser.add_argument("source", help="a file, a folder, or a URL after precomputed:// or n5://")
    parser.add_argument(
        "target", type=Path, help="what to make, such as data.ome.zarr; must not exist"
    )
    parser.add_argument(
        "--voxel-size",
        type=voxel_size,
        metavar="Z,Y,X",
        help="in nm; needed where the format has none",
    )
    parser.add_argument(
        "--dataset",
        metavar="PATH",
        help="the data set inside an HDF5 file or an N5 container, the scale of a precomputed volume",
    )
    parser.add_argument(
        "--ngff", choices=("0.5", "0.4"), default="0.5", help="OME-Zarr version (default: 0.5)"
    )
    parser.add_argument(
        "--chunk", type=_three, default=(64, 64, 64), metavar="Z,Y,X", help="default: 64,64,64"
    )
    parser.add_argument(
        "--shard",
        type=_three,
        default=(128, 128, 128),
        metavar="Z,Y,X",
        help="default: 128,128,128; not used by 0.4",
    )
    parser.add_argument(
        "--label", action="store_true", help="the voxels are object numbers, not grey values"
    )
    parser.add_argument(
        "--missing-chunks",
        choices=("refuse", "blank"),
        default="refuse",
        help="where chunks are not there: take them for blank (default: refuse)",
    )
    parser.add_argument(
        "--lost-sections",
        choices=("refuse", "blank", "close"),
        default="refuse",
        help="where file names skip a number: put blank sections there, or none (default: refuse)",
    )
    parser.add_argument(
        "--white-is-zero",
        choices=("refuse", "keep", "invert"),
        default="refuse",
        help="where the file says that zero is white: keep the numbers, or invert them (default: refuse)",
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Import a volume and say what was made."""
    from emgen.volumes.importers import import_volume
    from emgen.volumes.sources import Allowed

    allowed = Allowed(args.missing_chunks, args.lost_sections, args.white_is_zero)
    with progress("import") as tell:
        volume = import_volume(
            args.source,
            args.target,
            voxel=args.voxel_size,
            dataset=args.dataset,
            ngff=args.ngff,
            chunk=args.chunk,
            shard=args.shard,
            label=args.label,
            allowed=allowed,
            say=lambda sentence: print(sayable(sentence), flush=True),
            progress=tell,
        )
    shape = " x ".join(str(n) for n in volume.shape)
    what = f"{shape} voxels (z, y, x) of {volume.dtype.name}, {volume.voxel}"
    print(f"{args.target}: {what}, {len(volume.levels)} levels")


def voxel_size(text: str) -> VoxelSize:
    """The value of `--voxel-size`."""
    try:
        return VoxelSize.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _three(text: str) -> Zyx:
    try:
        return zyx([int(part) for part in text.split(",")])
    except ValueError:
        raise argparse.ArgumentTypeError(
            f'expected three whole numbers z,y,x, such as 64,64,64; found "{text}"'
        ) from None
