"""Sections that were lost: what stands in their place, against interpolation between their neighbours.

    python benchmarks/lost.py [--factors 4 8] [--counts 1 2]

Every factor-th section of the demo's FIB-SEM crop is measured, and of these one or two in a row are lost, at four places.
Scored are the output sections that only lost ones stood for: those between the measured neighbours. Writes lost.jsonl and
lost.md.
"""

import argparse
from pathlib import Path

import numpy as np
from isotropic import SEED, VOXEL, interpolated
from scores import Rows, demo_volume, section_scores

from emgen.arrays import isotropic
from emgen.physics import missing

HERE, PLACES, SIDE = Path(__file__).parent, 4, 96
BESIDE = 3  # measured sections on either side that are restored with them


def interpolated_past(y: np.ndarray, lost: tuple[int, ...], factor: int, kind: str) -> np.ndarray:
    """Interpolation along z of what is left."""
    return interpolated(missing.fill_missing(y, 0, lost).astype(np.float32), factor, "slice", kind)


def scored(truth: np.ndarray, factor: int, count: int) -> dict[str, dict[str, float | None]]:
    """Figures of every method over all places."""
    y = truth[::factor].astype(np.float32)
    results: dict[str, list[np.ndarray]] = {}
    truths = []
    for first in np.linspace(BESIDE, len(y) - BESIDE - count, PLACES).astype(int):
        near = slice(first - BESIDE, first + count + BESIDE)
        lost = tuple(range(BESIDE, BESIDE + count))
        blank = y[near].copy()
        blank[list(lost)] = 0
        between = slice((BESIDE - 1) * factor + 1, (BESIDE + count) * factor)
        truths.append(truth[near.start * factor :][between])
        ways = {
            "linear": interpolated_past(blank, lost, factor, "linear"),
            "cubic": interpolated_past(blank, lost, factor, "cubic"),
            "ours": isotropic(blank, factor, lost=lost, seed=SEED).mean,
            "ours, mean of 4": isotropic(blank, factor, lost=lost, seed=SEED, samples=4).mean,
        }
        for name, volume in ways.items():
            results.setdefault(name, []).append(volume[between])
    return {
        name: section_scores(np.concatenate(truths), np.concatenate(parts), VOXEL)
        for name, parts in results.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--factors", type=int, nargs="+", default=[4, 8])
    parser.add_argument(
        "--counts", type=int, nargs="+", default=[1, 2], help="of lost sections in a row"
    )
    args = parser.parse_args()
    table = Rows(HERE / "lost.jsonl", ("factor", "lost", "row"))
    whole = demo_volume()
    for factor in args.factors:
        truth = whole[: len(whole) // factor * factor, :SIDE, :SIDE]
        for count in args.counts:
            if table.missing(factor=factor, lost=count, row="linear"):
                for name, figures in scored(truth, factor, count).items():
                    table.add(factor=factor, lost=count, row=name, seed=SEED, **figures)
    write(table.read())


def write(table: list[dict]) -> None:
    """`lost.md`."""
    cells = list(dict.fromkeys((r["factor"], r["lost"]) for r in table))
    names = [f"x{factor}, {count} lost" for factor, count in cells]
    lines = [
        "# Lost sections",
        "",
        "Made by `python benchmarks/lost.py` from the rows in lost.jsonl, each with its commit, seed and machine. Every 4th or 8th",
        f"section ({SIDE} x {SIDE} pixels) of FIB-25 training sample 2 is measured, one or two in a row are lost at {PLACES} places; the output sections",
        "between those left. PSNR over 255 grey values, SSIM in the plane.",
        "",
        f"| | {' | '.join(names)} |",
        f"|---|{'---|' * len(cells)}",
    ]
    for row in dict.fromkeys(r["row"] for r in table):
        mine = {(r["factor"], r["lost"]): r for r in table if r["row"] == row}
        figures = [f"{mine[cell]['psnr']:.2f}, {mine[cell]['ssim']:.3f}" for cell in cells]
        lines.append(f"| {row} | {' | '.join(figures)} |")
    (HERE / "lost.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
