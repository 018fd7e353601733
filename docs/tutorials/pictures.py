"""What the tutorials share: pictures side by side, the error against the truth, and its table."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import numpy.typing as npt

Grey = npt.NDArray[Any]


def psnr(image: Grey, truth: Grey) -> float:
    """Peak signal-to-noise ratio in dB over 255 grey values; higher is nearer to the truth."""
    error = image.astype(np.float64) - truth
    return 20 * math.log10(255 / math.sqrt(np.square(error).mean()))


def side_by_side(panels: dict[str, Grey], target: Path, columns: int = 2) -> None:
    """Save images (y, x) with their titles; images of 8 bits share one grey scale, others have their own."""
    eight_bits = np.concatenate([image.ravel() for image in panels.values() if image.dtype == "u1"])
    low, high = np.percentile(eight_bits, (0.5, 99.5))
    rows = -(-len(panels) // columns)
    height, width = next(iter(panels.values())).shape
    size = (3.6 * columns, (3.6 * height / width + 0.35) * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, layout="constrained", squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, (title, image) in zip(axes.flat, panels.items(), strict=False):
        scale = {"vmin": low, "vmax": high} if image.dtype == "u1" else {}
        axis.imshow(image, cmap="gray", interpolation="nearest", **scale)
        axis.set_title(title, fontsize=10)
    target.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(target, dpi=110)
    plt.close(figure)


def table(scores: dict[str, float], target: Path) -> None:
    """Print the scores, and save them beside the pictures."""
    text = "".join(f"{name:40} {value:6.2f}\n" for name, value in scores.items())
    target.write_text(text)
    print(text, end="")
