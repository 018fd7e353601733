"""`emgen inspect`: what is in a volume, before anything is restored."""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from typing import TYPE_CHECKING

from emgen.cli.import_ import voxel_size
from emgen.errors import sayable

if TYPE_CHECKING:
    from emgen.cli import Commands


def add(commands: Commands) -> None:
    """Declare `emgen inspect`."""
    parser = commands.add_parser(
        "inspect",
        help="look at a volume before it is restored",
        description=(
            "Say what is in a volume that its user should know: copied, blank, blurred or displaced sections, the wrong order, "
            "jumps of brightness, saturation, a voxel size that does not fit the texture, and so on. A few columns through all "
            "sections are read, whatever the size."
        ),
        epilog="exit codes: 0 nothing is refused; 2 a volume that would not be restored, or none",
    )
    parser.add_argument("volume", help="OME-Zarr image, a folder or a URL")
    parser.add_argument(
        "--voxel-size",
        type=voxel_size,
        metavar="Z,Y,X",
        help="in nm, in place of what the file says",
    )
    parser.add_argument(
        "--factor", type=int, help="output sections per measured one that you will ask for"
    )
    parser.add_argument(
        "--noise", type=float, help="noise that you will say it has, in grey values"
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print what is found; the exit code."""
    from emgen.config.input import Input
    from emgen.config.restore import Restore
    from emgen.physics.shown import shown
    from emgen.run.inspection import inspected
    from emgen.run.inspection.look import Look
    from emgen.run.inspection.words import lines
    from emgen.volumes.inputs import refuse_absurd_voxel
    from emgen.volumes.volume import Volume

    volume = Volume.open(args.volume)
    volume = replace(volume, voxel=args.voxel_size) if args.voxel_size else volume
    refuse_absurd_voxel(volume.voxel, volume.path, "give --voxel-size (z, y, x in nm)")
    # nobody asks to make an isotropic volume isotropic, unless by a factor
    coarse = args.factor is not None or round(volume.voxel.anisotropy) > 1
    restore = Restore.model_validate(
        {"mode": "isotropic" if coarse else "denoise"}
        | ({"factor": args.factor} if args.factor else {})
        | ({"noise": args.noise} if args.noise is not None else {})
    )
    found = inspected(Look.at(shown(volume, Input(volume=volume.path)), restore))
    # JSON has no letters that a terminal would obey
    said = (json.dumps(found.model_dump(), indent=2),) if args.json else map(sayable, lines(found))
    print("\n".join(said))
    return 2 if found.of("refuse") else 0
