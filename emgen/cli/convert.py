"""`emgen convert`: make a prior of published weights."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emgen.cli import Commands


def add(commands: Commands) -> None:
    """Declare `emgen convert`."""
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
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Convert the weights and say what they are."""
    from emgen.networks.published import convert

    card = convert(args.source, args.target, args.name)
    print(
        f"{card.path}: {card.facts['layout']}, {card.facts['parameters'] / 1e6:.1f} million weights"
    )
