"""What a training run leaves for people to look at: its log, its curves, and samples beside real patches."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emgen.training.validation import Psnr, mean

LOG, CURVES, SAMPLES = "log.jsonl", "curves.png", "samples.png"
COLUMNS = 8  # images in a row of the samples


def append(
    folder: Path, step: int, seconds: float, loss: float | None, psnr: Mapping[str, Psnr]
) -> None:
    """Add a line to the log: step, seconds of training so far, mean loss and validation by source."""
    line = {
        "step": step,
        "seconds": round(seconds, 1),
        "loss": None if loss is None else round(loss, 5),
        "psnr_db": mean(psnr),
        "by_source": psnr,
    }
    with (folder / LOG).open("a") as log:
        log.write(json.dumps(line) + "\n")


def read(folder: Path) -> list[dict[str, Any]]:
    """The lines of the log, oldest first; nothing if there is none. A last line that broke off is left out."""
    path = folder / LOG
    lines = path.read_text().splitlines(keepends=True) if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def forget_after(folder: Path, step: int) -> None:
    """Drop the lines of steps that will be done again, and what broke off."""
    if (folder / LOG).exists():
        kept = [line for line in read(folder) if line["step"] <= step]
        partial = folder / f".{LOG}.partial"
        partial.write_text("".join(json.dumps(line) + "\n" for line in kept))
        partial.replace(folder / LOG)


def seconds(folder: Path) -> float:
    """Seconds that the run has trained for, all starts together."""
    lines = read(folder)
    return float(lines[-1]["seconds"]) if lines else 0.0


def draw_curves(folder: Path) -> None:
    """`curves.png`: the loss, and the PSNR on held-out tissue for every time or kind of problem, against the step."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    lines = read(folder)
    figure = Figure(figsize=(10, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    with_loss = [line for line in lines if line["loss"] is not None]
    left.plot(
        [line["step"] for line in with_loss], [line["loss"] for line in with_loss], ".-", color="0.3"
    )
    left.set(xlabel="step", ylabel="training loss, mean of 500 steps")
    tasks = list(lines[-1]["psnr_db"])
    for task, shade in zip(tasks, np.linspace(0.85, 0.1, len(tasks)), strict=True):
        values = [line["psnr_db"][task] for line in lines]
        right.plot(
            [line["step"] for line in lines],
            [value - values[0] for value in values],
            ".-",
            color=colormaps["viridis"](shade),
            label=f"{task}: {values[-1]:.2f} dB",
        )
    right.set(xlabel="step", ylabel="PSNR on held-out tissue,\ngain since the first / dB")
    right.legend(title="one network call, t or task", fontsize="small", frameon=False)
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(folder / CURVES, dpi=120)


def draw_samples(folder: Path, rows: Mapping[str, npt.NDArray[np.float32]]) -> None:
    """`samples.png`: rows of images (n, height, width) of [-1, 1], each under its title."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.3 * COLUMNS, 1.45 * len(rows)), layout="constrained")
    grid = figure.subplots(len(rows), COLUMNS, squeeze=False)
    for line, (title, images) in zip(grid, rows.items(), strict=True):
        line[0].set_title(title, loc="left", fontsize=8)
        for axes in line:
            axes.set_axis_off()
        for axes, image in zip(line, images, strict=False):
            axes.imshow(image, cmap="gray", vmin=-1, vmax=1, interpolation="nearest")
    figure.savefig(folder / SAMPLES, dpi=110)
