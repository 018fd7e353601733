"""`emgen train`: train a prior by a recipe."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from emgen.cli import Commands


def add(commands: Commands) -> None:
    """Declare `emgen train`."""
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
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> None:
    """Train by the recipe and say where the weights are."""
    from emgen.training import recipe
    from emgen.training.loop import train

    chosen = recipe.read(args.recipe, data=args.data, steps=args.steps, decay=args.decay)
    card = train(chosen, args.output or Path("training") / chosen.name)
    print(f"weights: {card.path}")
