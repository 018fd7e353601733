"""Isotropic restoration against what a user would do instead, on tissue that no shipped network was trained on.

    python benchmarks/isotropic.py [--factors 4 8] [--sections slice mean] [--noise 0 10] [--rows linear ours ...]
                                   [--minutes 60]

Sections of the demo's FIB-SEM crop are taken away (slice) or averaged (mean), with or without noise of that many grey
values, and restored. Every row is a line of isotropic.jsonl: rows that are there are not measured again. Ends with
isotropic.md and isotropic.png.
"""

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from axial_unet import operator
from axial_unet import restore as axial_unet
from scores import Rows, demo_volume, scores

from emgen import interpolate
from emgen.arrays import isotropic
from emgen.geometry import Box, VoxelSize

HERE = Path(__file__).parent
VOXEL = VoxelSize(8, 8, 8)
SEED = 0


def measured(truth: np.ndarray, factor: int, section: str, noise: float) -> np.ndarray:
    """Measured sections in grey values, float32."""
    A = operator(section, truth.shape, factor)
    y = A(torch.from_numpy(truth.astype(np.float32))).numpy()
    rng = np.random.default_rng(SEED)
    return (y + noise * rng.standard_normal(y.shape)).astype(np.float32)


def interpolated(y: np.ndarray, factor: int, section: str, kind: str) -> np.ndarray:
    """Nearest, linear or cubic interpolation along z."""
    A = operator(section, (len(y) * factor, *y.shape[1:]), factor)
    if kind == "nearest":
        place = np.clip(np.rint((np.arange(A.shape[0]) - A.centre[0]) / factor), 0, len(y) - 1)
        return y[place.astype(int)]
    how = interpolate.linear if kind == "linear" else interpolate.cubic
    return how(y, Box.whole(A.measured_shape), Box.whole(A.shape), A.scale, A.centre)


def rows(
    y: np.ndarray, factor: int, section: str, noise: float, minutes: float
) -> dict[str, Callable[[], tuple[np.ndarray, dict[str, Any]]]]:
    """What is compared, by the name of its row; each gives a volume and what else is worth knowing."""
    shape = (len(y) * factor, *y.shape[1:])

    def ours(**settings: Any) -> tuple[np.ndarray, dict[str, Any]]:
        settings = {"noise": noise, "seed": SEED, **settings}
        found = isotropic(y, factor, section=section, block=shape, **settings)
        more = {} if found.std is None else {"mean_std": float(found.std.mean())}
        return found.mean, {"steps": found.plan.config.restore.calls, **more}

    def trained() -> tuple[np.ndarray, dict[str, Any]]:
        found, steps = axial_unet(y, factor, section, noise, minutes, SEED)
        return found, {"training_minutes": minutes, "training_steps": steps}

    def plain(kind: str) -> Callable[[], tuple[np.ndarray, dict[str, Any]]]:
        return lambda: (interpolated(y, factor, section, kind), {})

    return {
        "nearest": plain("nearest"),
        "linear": plain("linear"),
        "cubic": plain("cubic"),
        "axial U-Net": trained,
        "em-generalist, 100 steps": lambda: ours(sampler="em-generalist", steps=100),
        "ours, linear start, 12 steps": lambda: ours(interpolator="linear", steps=12),
        "ours, 8 steps": lambda: ours(steps=8),
        "ours, 12 steps": lambda: ours(steps=12),
        "ours, 16 steps": lambda: ours(steps=16),
        "ours, 32 steps": lambda: ours(steps=32),
        "ours, default": lambda: ours(),
        "ours, mean of 4": lambda: ours(samples=4),
        "ours, adapted": lambda: ours(prior=adapted(y, factor)),
    }


def adapted(y: np.ndarray, factor: int) -> str:
    """The prior fine-tuned on the measured sections for 300 steps."""
    import tempfile

    from emgen.prior.adapt import adapt
    from emgen.volume import Volume

    folder = Path(tempfile.mkdtemp())
    volume = Volume.create(
        folder / "measured.ome.zarr",
        y.shape,
        y.dtype,
        VOXEL.scaled((factor, 1, 1)),
        chunk=y.shape,
        shard=y.shape,
    )
    volume.write(Box.whole(y.shape), y)
    card = adapt(
        "emgen-small", str(volume.path), 300, SEED, folder / "training", "adapted-benchmark"
    )
    return str(card.path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--factors", type=int, nargs="+", default=[4, 6, 8, 10])
    parser.add_argument("--sections", nargs="+", default=["slice", "mean"])
    parser.add_argument("--noise", type=float, nargs="+", default=[0.0, 10.0])
    parser.add_argument("--rows", nargs="+", help="only these")
    parser.add_argument("--minutes", type=float, default=60, help="of training the axial U-Net")
    args = parser.parse_args()
    table = Rows(HERE / "isotropic.jsonl", ("factor", "section", "noise", "row"))
    whole, neurons = demo_volume(), demo_volume("neurons")
    for noise in args.noise:
        for section in args.sections:
            for factor in args.factors:
                n = len(whole) // factor * factor
                truth, y = whole[:n], measured(whole[:n], factor, section, noise)
                for name, make in rows(y, factor, section, noise, args.minutes).items():
                    key = {"factor": factor, "section": section, "noise": noise, "row": name}
                    if (args.rows and name not in args.rows) or not table.missing(**key):
                        continue
                    begun = time.monotonic()
                    found, more = make()
                    seconds = round(time.monotonic() - begun, 1)
                    figures = scores(truth, found, VOXEL, neurons[:n])
                    table.add(**key, seconds=seconds, seed=SEED, **more, **figures)
    write(table.read())


def write(found: list[dict[str, Any]]) -> None:
    """`isotropic.md`: a table for every way of measuring."""
    lines = [
        "# Isotropic restoration",
        "",
        "Made by `python benchmarks/isotropic.py` from the rows in isotropic.jsonl, each with its commit, seed and machine.",
        "FIB-25 training sample 2, 8 nm, 160 x 160 pixels; PSNR over 255 grey values; SSIM of xz and yz planes; FSC at 0.5",
        "in nm; power of the finest axial detail over the truth's (1 is right); VOI (split + merge, bits) of a fixed segmenter",
        "against the segmentation of the truth, and against the neurons; seconds without training.",
    ]
    for noise, section, factor in sorted({(r["noise"], r["section"], r["factor"]) for r in found}):
        cell = [
            r for r in found if (r["noise"], r["section"], r["factor"]) == (noise, section, factor)
        ]
        lines += [
            "",
            f"## x{factor}, {section}, {f'noise {noise:g}' if noise else 'clean'}",
            "",
            "| | PSNR | SSIM | FSC axial | lateral | spherical | power | VOI truth | VOI neurons | split, merged | seconds |",
            "|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        for r in cell:
            fsc = [
                "-" if r[f"fsc_{s}"] is None else f"{r[f'fsc_{s}']:.1f}"
                for s in ("axial", "lateral", "spherical")
            ]
            row = [
                r["row"],
                f"{r['psnr']:.2f}",
                f"{r['ssim_xz']:.3f}",
                *fsc,
                f"{r['power_axial']:.2f}",
                f"{sum(r['consistency']):.2f}",
                f"{sum(r['voi']):.2f}",
                f"{r['split']}, {r['merged']} of {r['objects']}",
                f"{r['seconds']:.0f}",
            ]
            lines.append(f"| {' | '.join(row)} |")
    (HERE / "isotropic.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
