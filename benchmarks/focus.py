"""A defocused scan deblurred, beside classical methods and a sharp scan of the same field: by eye, since nobody knows the blur.

    python benchmarks/focus.py TRIO.tif

TRIO.tif holds scans of one field, defocused first and sharpest last (DeepFocus). Draws focus.png.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import tifffile
from matplotlib.figure import Figure
from scores import made_with
from sections import Task, deblurrers
from skimage import registration

from emgen.arrays import deblur

HERE = Path(__file__).parent
FOCUS = (2.5, 4.0)  # pixels of blur that a defocused scan may have


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("scans", type=Path)
    draw(parser.parse_args().scans, HERE / "focus.png")


def draw(scans: Path, path: Path) -> None:
    """A defocused scan, deblurred with a function fitted to it and with given ones, beside a sharp scan of the same field.

    The networks learnt from the other two scans of the field, not from the defocused one.
    """
    first, *_, sharp = tifffile.imread(scans).astype(np.float32)
    wide = np.s_[200:456, 300:556]
    near = first[wide] - first[wide].mean()
    shift = registration.phase_cross_correlation(near, sharp[wide] - sharp[wide].mean())[0]
    place = tuple(
        slice(int(s.start - d), int(s.stop - d)) for s, d in zip(wide, shift, strict=True)
    )
    truth, y = sharp[place], first[wide]
    blind = deblur(y, "blind")
    fitted = " x ".join(f"{s:.1f}" for s in _deviations(np.array(blind.plan.psf)))
    # of a range, that which is most like the sharp scan
    classical = deblurrers(Task("", truth[None], y[None], [0], neighbours=False), FOCUS[-1])
    panels = {
        "defocused": y,
        f"Wiener, {FOCUS[-1]} pixels": classical["Wiener"]()[0],
        f"Richardson-Lucy, {FOCUS[-1]}": classical["Richardson-Lucy"]()[0],
        f"ours, blind: {fitted}": blind.mean,
        **{f"ours, {sigma} pixels": deblur(y, sigma).mean for sigma in FOCUS},
        "the sharpest scan": truth,
    }
    figure = Figure(figsize=(3.2 * len(panels), 6.6), layout="constrained")
    for column, (name, image) in enumerate(panels.items()):
        low, high = np.percentile(image, (0.5, 99.5))
        for row, part in enumerate((np.s_[:, :], np.s_[64:160, 64:160])):
            axes = figure.add_subplot(2, len(panels), 1 + column + row * len(panels))
            axes.imshow(image[part], cmap="gray", vmin=low, vmax=high, interpolation="nearest")
            axes.set_axis_off()
            if row == 0:
                axes.set_title(name, fontsize=13)
    figure.savefig(path, dpi=100)
    facts = {"scans": scans.name, "fitted": fitted, "panels": list(panels), **made_with()}
    path.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n")


def _deviations(kernel: np.ndarray) -> np.ndarray:
    """Standard deviations of a point spread function (y, x) along its axes, the larger first."""
    grid = np.indices(kernel.shape).reshape(2, -1)
    return np.sqrt(np.linalg.eigvalsh(np.cov(grid, aweights=kernel.ravel(), bias=True)))[::-1]


if __name__ == "__main__":
    main()
