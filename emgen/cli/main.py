"""The `emgen` command. Thin: arguments in, one function called, one clear message where it fails.

Exit codes: 0 done, 2 an error that the user can mend, 130 interrupted, 143 terminated.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from emgen import __version__
from emgen.errors import EmgenError
from emgen.geometry import VoxelSize, Zyx, zyx

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    args = build_parser().parse_args(words)
    # a job that the scheduler ends cleans up behind itself too
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        args.run(args)
    except EmgenError as error:
        print(f"emgen: error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("emgen: interrupted", file=sys.stderr)
        return 130
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="emgen", description="Restoration of volume electron microscopy."
    )
    parser.add_argument("--version", action="version", version=f"emgen {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_import(commands)
    _add_train(commands)
    _add_convert(commands)
    return parser


def _add_import(commands: Commands) -> None:
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
        type=_voxel_size,
        metavar="Z,Y,X",
        help="in nm; needed where the format has none",
    )
    parser.add_argument(
        "--dataset", metavar="PATH", help="the data set inside an HDF5 file or an N5 container"
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
    parser.set_defaults(run=_import)


def _import(args: argparse.Namespace) -> None:
    from emgen.volumes.importers import import_volume

    with _progress("import") as progress:
        volume = import_volume(
            args.source,
            args.target,
            voxel=args.voxel_size,
            dataset=args.dataset,
            ngff=args.ngff,
            chunk=args.chunk,
            shard=args.shard,
            label=args.label,
            say=partial(print, flush=True),
            progress=progress,
        )
    shape = " x ".join(str(n) for n in volume.shape)
    what = f"{shape} voxels (z, y, x) of {volume.dtype.name}, {volume.voxel}"
    print(f"{args.target}: {what}, {len(volume.levels)} levels")


def _add_train(commands: Commands) -> None:
    parser = commands.add_parser(
        "train",
        help="train a prior by a recipe",
        description=(
            "Train a prior, or go on training it. Several GPUs and nodes: accelerate launch -m emgen.cli train RECIPE."
        ),
    )
    parser.add_argument("recipe", type=Path, help="such as config/prior/emgen-small.yaml")
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER", help="of the sources, instead of the recipe's"
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="for checkpoints, log, pictures and weights; training goes on from what is there (default: training/NAME)",
    )
    parser.add_argument("--steps", type=int, help="in all, instead of the recipe's")
    parser.add_argument(
        "--decay", type=int, help="of them at the end, while the rate falls to zero"
    )
    parser.set_defaults(run=_train)


def _train(args: argparse.Namespace) -> None:
    from emgen.training import recipe
    from emgen.training.loop import train

    found = recipe.read(args.recipe, data=args.data, steps=args.steps, decay=args.decay)
    card = train(found, args.output or Path("training") / found.name)
    print(f"weights: {card.path}")


def _add_convert(commands: Commands) -> None:
    parser = commands.add_parser(
        "convert",
        help="make a prior of published weights",
        description="Make a prior of EM Generalist's published weights, flow or diffusion.",
    )
    parser.add_argument(
        "source", type=Path, help=".pt, .pth, .ckpt, .bin, .safetensors, or a folder of diffusers"
    )
    parser.add_argument("target", type=Path, help="to make, such as em-generalist.safetensors")
    parser.add_argument("--name", help="of the prior (default: the target's)")
    parser.set_defaults(run=_convert)


def _convert(args: argparse.Namespace) -> None:
    from emgen.networks.published import convert

    card = convert(args.source, args.target, args.name)
    print(
        f"{card.path}: {card.facts['layout']}, {card.facts['parameters'] / 1e6:.1f} million weights"
    )


@contextmanager
def _progress(title: str) -> Iterator[Callable[[int, int], None]]:
    """A callback (voxels done, voxels in all): a bar on a terminal, elsewhere a line per tenth."""
    begun = time.monotonic()

    def rate(done: int) -> str:
        return f"{done / max(time.monotonic() - begun, 1e-3) / 1e6:.1f} Mvoxel/s"

    if not sys.stderr.isatty():
        tenths = 0

        def line(done: int, total: int) -> None:
            nonlocal tenths
            if done * 10 // total > tenths:
                tenths = done * 10 // total
                print(
                    f"emgen: {title} {done * 100 // total:3d} %, {rate(done)}",
                    file=sys.stderr,
                    flush=True,
                )

        yield line
        return

    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        "{task.description}",
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=None, rate="")
        yield lambda done, total: bar.update(task, completed=done, total=total, rate=rate(done))


def _voxel_size(text: str) -> VoxelSize:
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


def _terminate(number: int, frame: Any) -> NoReturn:
    raise SystemExit(128 + number)
