"""Isotropic restoration against what a user would do instead, on tissue that no shipped network was trained on.

    python benchmarks/isotropic.py [--factors 4 8] [--sections slice mean] [--noise 0 10] [--rows linear ours ...]
                                   [--minutes 6] [--outputs FOLDER]

Sections of the demo's FIB-SEM crop are taken away (slice) or averaged (mean), with or without noise of that many grey
values, and restored; our networks in bfloat16. Every row is a line of isotropic.jsonl: rows that are there are not
measured again. `--minutes` is how long the axial U-Net learns, a row for each. `--outputs` adds what other programs
(EMDiffuse and the like) made of the measured sections: FOLDER/inputs/CELL.tif, read as FOLDER/NAME/CELL.tif. Ends with isotropic.md and isotropic.png.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from axial_unet import operator
from axial_unet import restore as axial_unet
from cubic import cubic
from matplotlib.figure import Figure
from scores import Rows, coverage, demo_volume, others, scores

from emgen.arrays import isotropic
from emgen.geometry import Box, VoxelSize
from emgen.physics import interpolation
from emgen.volumes.volume import Volume

HERE = Path(__file__).parent
VOXEL = VoxelSize(8, 8, 8)
SEED = 0
PUBLISHED = {"sampler": "em-generalist", "steps": 100, "noise": "auto"}  # it heeds no noise


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
    how = interpolation.linear if kind == "linear" else cubic
    return how(y, Box.whole(A.measured_shape), Box.whole(A.shape), A.scale, A.centre)


def rows(
    truth: np.ndarray, y: np.ndarray, factor: int, section: str, noise: float, minutes: float
) -> dict[str, Callable[[], tuple[np.ndarray, dict[str, Any]]]]:
    """What is compared, by the name of its row; each gives a volume and what else is worth knowing."""
    shape = truth.shape

    def ours(**settings: Any) -> tuple[np.ndarray, dict[str, Any]]:
        settings = {"noise": noise, "seed": SEED, "precision": "bfloat16", **settings}
        result = isotropic(y, factor, section=section, block=shape, **settings)
        more: dict[str, Any] = {"steps": result.plan.mode.steps}
        if result.std is not None:
            ratio = result.plan.mode.error_variance_ratio
            more["coverage"] = coverage(truth, result.mean, result.std, ratio)
        return result.mean, more

    def trained() -> tuple[np.ndarray, dict[str, Any]]:
        restored, steps = axial_unet(y, factor, section, noise, minutes, SEED)
        return restored, {"training_minutes": minutes, "training_steps": steps}

    def plain(kind: str) -> Callable[[], tuple[np.ndarray, dict[str, Any]]]:
        return lambda: (interpolated(y, factor, section, kind), {})

    return {
        "nearest": plain("nearest"),
        "linear": plain("linear"),
        "cubic": plain("cubic"),
        f"axial U-Net, {minutes:g} min": trained,
        "em-generalist, 100 steps": lambda: ours(**PUBLISHED),
        "ours, linear start, 12 steps": lambda: ours(estimator="linear", steps=12),
        "ours, 8 steps": lambda: ours(steps=8),
        "ours, 12 steps": lambda: ours(steps=12),
        "ours, 16 steps": lambda: ours(steps=16),
        "ours, 32 steps": lambda: ours(steps=32),
        "ours, default": lambda: ours(),
        "ours, mean of 4": lambda: ours(samples=4),
        "ours, adapted": lambda: ours(prior=adapted(y, factor, noise)),
    }


def adapted(y: np.ndarray, factor: int, noise: float) -> str:
    """Path of the prior fine-tuned on the measured sections for 300 steps."""
    from emgen.training.adapt import adapt  # with accelerate, which no other row needs

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
        "emgen-small",
        str(volume.path),
        300,
        SEED,
        folder / "training",
        "adapted-benchmark",
        noise=noise,
    )
    return str(card.path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--factors", type=int, nargs="+", default=[4, 6, 8, 10])
    parser.add_argument("--sections", nargs="+", default=["slice", "mean"])
    parser.add_argument("--noise", type=float, nargs="+", default=[0.0, 10.0])
    parser.add_argument("--rows", nargs="+", help="only those that begin so")
    parser.add_argument("--minutes", type=float, default=6, help="of training the axial U-Net")
    parser.add_argument("--outputs", type=Path, help="folder with results of other programs")
    args = parser.parse_args()
    table = Rows(HERE / "isotropic.jsonl", ("factor", "section", "noise", "row"))
    whole, neurons = demo_volume(), demo_volume("neurons")
    for noise in args.noise:
        for section in args.sections:
            for factor in args.factors:
                n = len(whole) // factor * factor
                truth, y = whole[:n], measured(whole[:n], factor, section, noise)
                methods = rows(truth, y, factor, section, noise, args.minutes)
                if args.outputs:
                    cell = f"x{factor}_{section}_noise_{noise:g}.tif"
                    images = others(args.outputs, cell, y, truth.shape)
                    methods |= {
                        name: lambda image=image: (image, {}) for name, image in images.items()
                    }
                for name, make in methods.items():
                    key = {"factor": factor, "section": section, "noise": noise, "row": name}
                    chosen = not args.rows or name.startswith(tuple(args.rows))
                    if not chosen or not table.missing(**key):
                        continue
                    begun = time.monotonic()
                    volume, more = make()
                    seconds = round(time.monotonic() - begun, 1)
                    figures = scores(truth, volume, VOXEL, neurons[:n])
                    table.add(**key, seconds=seconds, seed=SEED, **more, **figures)
    write(table.read())
    draw(table.read(), HERE / "isotropic.png")


def draw(table: list[dict[str, Any]], path: Path) -> None:
    """PSNR and axial FSC against the factor, for every way of measuring."""
    shown = {
        "linear": ("0.6", "--"),
        "cubic": ("0.3", "--"),
        "axial U-Net": ("tab:green", "-"),
        "em-generalist, 100 steps": ("tab:purple", "-"),
        "ours, default": ("tab:orange", "-"),
        "ours, mean of 4": ("tab:red", "-"),
    }
    cells = sorted(
        {(r["section"], r["noise"]) for r in table}, key=lambda c: (c[1], c[0] != "slice")
    )
    figure = Figure(figsize=(3 * len(cells), 5.4), layout="constrained")
    axes = figure.subplots(2, len(cells), sharex=True, sharey="row", squeeze=False)
    for column, (section, noise) in enumerate(cells):
        for row, (key, label) in enumerate(
            (("psnr", "PSNR / dB"), ("fsc_axial", "axial FSC 0.5 / nm"))
        ):
            place = axes[row, column]
            for name, (colour, style) in shown.items():
                # of axial U-Nets the one trained longest comes last and stays
                points = {
                    r["factor"]: r[key]
                    for r in sorted(table, key=lambda r: r.get("training_steps", 0))
                    if (r["section"], r["noise"]) == (section, noise)
                    and r["row"].startswith(name)
                    and r[key]
                }
                if points:
                    place.plot(
                        *zip(*sorted(points.items()), strict=True),
                        style,
                        marker=".",
                        color=colour,
                        label=name,
                    )
            place.grid(alpha=0.3)
            place.spines[["top", "right"]].set_visible(False)
            if column == 0:
                place.set_ylabel(label)
        axes[0, column].set_title(
            f"{section}, {f'noise {noise:g}' if noise else 'clean'}", fontsize=10
        )
        axes[1, column].set_xlabel("factor")
        axes[1, column].set_xticks(sorted({r["factor"] for r in table}))
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    figure.savefig(path, dpi=150)


def write(table: list[dict[str, Any]]) -> None:
    """`isotropic.md`: a table for every way of measuring."""
    lines = [
        "# Isotropic restoration",
        "",
        "Made by `python benchmarks/isotropic.py` from the rows in isotropic.jsonl, each with its commit, seed and machine.",
        "FIB-25 training sample 2, 8 nm, 160 x 160 pixels; PSNR over 255 grey values; SSIM of xz and yz planes; FSC at 0.5",
        "in nm; power of the finest axial detail over the truth's (1 is right); VOI (split + merge, bits) of a fixed segmenter",
        "against the segmentation of the truth, and against the neurons; objects split and merged; share of the voxels whose truth",
        "lies within 1, 2 and 3 standard deviations of four samples (.61, .86, .94 if errors are normal and the spread is right);",
        "seconds, of the axial U-Net with its training. Of means the FSC runs along 0.5 over a wide range, so that its crossing jumps.",
        "Our networks in bfloat16; adapted: for 300 steps. Standard deviations are calibrated on the measured sections. Seconds of an idle machine: x4 and x8 without noise and every axial U-Net of 6 minutes; those of 12 and 60 minutes",
        "had one core, or at x8 two thirds of one. Read other seconds as two to three times too long.",
    ]
    for noise, section, factor in sorted({(r["noise"], r["section"], r["factor"]) for r in table}):
        cell = [
            r for r in table if (r["noise"], r["section"], r["factor"]) == (noise, section, factor)
        ]
        lines += [
            "",
            f"## x{factor}, {section}, {f'noise {noise:g}' if noise else 'clean'}",
            "",
            "| | PSNR | SSIM | FSC axial | lateral | spherical | power | VOI truth | VOI neurons | split, merged | covered | seconds |",
            "|---|---|---|---|---|---|---|---|---|---|---|---|",
        ]
        for r in cell:
            fsc = [
                "-" if r[f"fsc_{s}"] is None else f"{r[f'fsc_{s}']:.1f}"
                for s in ("axial", "lateral", "spherical")
            ]
            steps = r.get("training_steps")
            row = [
                f"{r['row']}, {steps} steps" if steps else r["row"],
                f"{r['psnr']:.2f}",
                f"{r['ssim_xz']:.3f}",
                *fsc,
                f"{r['power_axial']:.2f}",
                f"{sum(r['consistency']):.2f}",
                f"{sum(r['voi']):.2f}",
                f"{r['split']}, {r['merged']} of {r['objects']}",
                " ".join(f"{share:.2f}" for share in r.get("coverage", [])) or "-",
                f"{r['seconds']:.0f}",
            ]
            lines.append(f"| {' | '.join(row)} |")
    (HERE / "isotropic.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
