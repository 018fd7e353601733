"""How far simple interpolation comes between sections, if it is blurred in the plane by the width that is best for it.

    python benchmarks/blurred.py

Sections of the demo's FIB-SEM crop are taken away (slice) or averaged (mean), as in isotropic.py; interpolated; and blurred.
Only restored sections are compared: of slices, those that were taken away. Ends with blurred.md.
"""

import argparse
from pathlib import Path

import numpy as np
import scipy.ndimage
from isotropic import interpolated, measured
from scores import demo_volume, psnr

HERE = Path(__file__).parent
WIDTHS = np.arange(0, 3.01, 0.25)  # pixels


def best_width(truth: np.ndarray, volume: np.ndarray) -> tuple[float, float]:
    """PSNR with the best width of a Gaussian in the plane, and this width in pixels."""
    return max(
        (psnr(truth, scipy.ndimage.gaussian_filter(volume, (0, width, width))) or 0.0, float(width))
        for width in WIDTHS
    )


def line(truth: np.ndarray, factor: int, section: str) -> str:
    """A row of the table."""
    truth = truth[: len(truth) // factor * factor].astype(np.float32)
    restored = (
        np.arange(len(truth)) % factor != 0 if section == "slice" else np.full(len(truth), True)
    )
    y = measured(truth, factor, section, 0)
    cells = [f"x{factor} {section}", str(restored.sum())]
    for kind in ("linear", "cubic"):
        volume = interpolated(y, factor, section, kind)[restored]
        best, width = best_width(truth[restored], volume)
        cells += [f"{psnr(truth[restored], volume):.2f}", f"{best:.2f} ({width:g} px)"]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    truth = demo_volume()
    lines = [
        "# Interpolation, blurred by its best width",
        "",
        "Made by `python benchmarks/blurred.py`. FIB-25 training sample 2, 8 nm, 160 x 160 pixels, no noise; PSNR in dB over",
        "255 grey values, of restored sections only. The width is the best of a range for this very volume, which a user",
        "cannot know.",
        "",
        "| | sections | linear | blurred | cubic | blurred |",
        "|---|---|---|---|---|---|",
        *(
            line(truth, factor, section)
            for section in ("slice", "mean")
            for factor in (4, 6, 8, 10)
        ),
    ]
    (HERE / "blurred.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
