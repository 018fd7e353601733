"""Draw the README's picture from a finished demo: one xz section, as measured, interpolated, restored and true.

python demo/make_picture.py [RUN] [PICTURE]
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from emgen.geometry import Box
from emgen.run.plan import Plan
from emgen.volumes.inputs import open_input
from emgen.volumes.volume import Volume

ROW = 80


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, nargs="?", default=Path("results/demo"))
    parser.add_argument("picture", type=Path, nargs="?", default=Path("docs/demo.png"))
    args = parser.parse_args()
    draw(args.run, args.picture)


def draw(run: Path, target: Path) -> None:
    """Draw the picture of a finished run."""
    plan = Plan.of(run)
    box = Box((0, ROW, 0), (plan.shape[0], ROW + 1, plan.shape[2]))
    measured = open_input(plan.config.input)
    sections = {
        "input, every 6th section": measured.read(plan.interpolation_support(box))[:, 0].repeat(
            6, axis=0
        ),
        "linear interpolation": plan.interpolated(measured, box)[:, 0],
        "emgen": Volume.open(run / "restored.ome.zarr").read(box)[:, 0],
        "what was really there": Volume.open(str(plan.config.qc.reference)).read(box)[:, 0],
    }
    figure, axes = plt.subplots(2, 2, figsize=(9, 5.9), layout="constrained")
    for axis, (title, section) in zip(np.ravel(axes), sections.items(), strict=True):
        axis.imshow(section, cmap="gray", vmin=plan.intensity.low, vmax=plan.intensity.high)
        axis.set_title(title, fontsize=11)
        axis.set_axis_off()
    length = round(200 / plan.voxel.x)
    axes[0, 0].plot([6, 6 + length], [90, 90], color="white", linewidth=3)
    axes[0, 0].text(
        6 + length / 2, 86, "200 nm", color="white", ha="center", va="bottom", fontsize=9
    )
    target.parent.mkdir(exist_ok=True)
    figure.savefig(target, dpi=110)


if __name__ == "__main__":
    main()
