"""The figures of the EM Generalist supplement (2, 3, 4, 5, 12 and 13) with our prior: `snakemake figures --cores all`.

    python benchmarks/figures.py NUMBER FILE.png

All on the demo's FIB-SEM crop, which no shipped network was trained on, 8 nm pixels, seed 0; figures beside the
pictures are PSNR over 255 grey values and SSIM, resolution is Fourier ring correlation at 0.5. The numbers are written
beside the picture as JSON. The supplement finds a step size of 15 best for dps, the released
programs take 0.3 to 1, and do not say of what norm; ours is that of `emgen.sampling.dps`, so that only the shape of the sweep
compares.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import scipy.ndimage
from cubic import cubic as cubic_interpolation
from isotropic import interpolated, measured
from matplotlib.figure import Figure
from PIL import Image
from scores import demo_volume, made_with, scores, section_scores
from sections import Task, deblurrers

from emgen.arrays import deblur, denoise, isotropic, superres
from emgen.geometry import Box, VoxelSize

VOXEL, SEED = VoxelSize(8, 8, 8), 0
Panel = tuple[str, np.ndarray]
Facts = list[dict[str, Any]]


def section() -> np.ndarray:
    """One section (128 x 128)."""
    return demo_volume()[48, 16:144, 16:144].astype(np.float32)


def scored(name: str, truth: np.ndarray, image: np.ndarray, facts: Facts, **more: Any) -> Panel:
    """A panel and its figures."""
    figures = section_scores(truth[None], image[None], VOXEL)
    facts.append({"name": name, **more, **figures})
    return f"{name}\n{figures['psnr']:.2f} dB, {figures['ssim']:.3f}", image


def sheet(rows: list[list[Panel]], path: Path, title: str, curve: Any = None) -> None:
    """Grey pictures in rows, and below them a plot that `curve` draws."""
    columns, extra = max(map(len, rows)), 1 if curve else 0
    height, width = rows[0][0][1].shape
    tall = 0.35 + 1.9 * height / width
    figure = Figure(figsize=(1.9 * columns, tall * (len(rows) + 1.3 * extra)), layout="constrained")
    figure.suptitle(title, fontsize=10)
    grid = figure.add_gridspec(
        len(rows) + extra, columns, height_ratios=[1] * len(rows) + [1.3] * extra
    )
    for i, row in enumerate(rows):
        for j, (name, image) in enumerate(row):
            if not image.size:
                continue
            axes = figure.add_subplot(grid[i, j])
            axes.imshow(image, cmap="gray", vmin=50, vmax=220, interpolation="nearest")
            axes.set_title(name, fontsize=7)
            axes.set_axis_off()
    if curve:
        curve([figure.add_subplot(place) for place in grid[-1, :].subgridspec(1, 2)])
    figure.savefig(path, dpi=150)


def plot(axes: Any, x: list[float], y: dict[str, list[float]], xlabel: str, ylabel: str) -> None:
    """Lines of one kind of figure."""
    for name, values in y.items():
        axes.plot(x, values, ".-", label=name)
    axes.set_xlabel(xlabel, fontsize=8)
    axes.set_ylabel(ylabel, fontsize=8)
    axes.tick_params(labelsize=7)
    if len(x) < 5:
        axes.set_xticks(x)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    if len(y) > 1:
        axes.legend(fontsize=7, frameon=False)


def step_size(path: Path, facts: Facts) -> None:
    """2: the gradient's scale in diffusion posterior sampling, and the exponent of the published loop."""
    truth, sigma = section()[:96, :96], 25.5
    y = truth + sigma * np.random.default_rng(SEED).standard_normal(truth.shape).astype(np.float32)
    scales, alphas = [0.1, 0.2, 0.3, 0.5, 1, 3, 15, 50], [0.0, 0.1, 0.3, 0.5, 1.0, 2.0]
    first = [
        scored("truth", truth, truth, []),
        scored("noisy", truth, y, facts),
        scored("ours, one call", truth, denoise(y, sigma).mean, facts),
    ]
    first[0] = ("truth", truth)
    dps = [
        scored(f"dps, step size {s}", truth, denoise(y, sampler="dps", alpha=s).mean, facts)
        for s in scales
    ]
    loop = [
        scored(
            f"published loop, alpha {a}",
            truth,
            denoise(y, sampler="em-generalist", alpha=a).mean,
            facts,
        )
        for a in alphas
    ]

    def curve(axes: list[Any]) -> None:
        psnr = {row["name"]: row["psnr"] for row in facts}
        plot(
            axes[0],
            scales,
            {"dps": [psnr[f"dps, step size {s}"] for s in scales]},
            "step size",
            "PSNR / dB",
        )
        axes[0].set_xscale("log")
        values = [psnr[f"published loop, alpha {a}"] for a in alphas]
        plot(axes[1], alphas, {"loop": values}, "alpha", "PSNR / dB")

    title = "Denoising, sigma 0.1 of the range: step size of dps (1000 steps), alpha of the published loop (100)"
    sheet([first, dps, loop], path, title, curve)


def superresolution(path: Path, facts: Facts) -> None:
    """3: coarser and coarser pixels, and what FRC says of the result."""
    truth, rows = section(), []
    truth = truth[:120, :120]
    for factor in (2, 3, 4):
        n = 120 // factor
        y = truth.reshape(n, factor, n, factor).mean((1, 3))
        middle = (factor - 1) / 2
        lanczos = Image.fromarray(y, mode="F").resize((120, 120), Image.Resampling.LANCZOS)
        cubic = cubic_interpolation(
            y[None],
            Box((0, 0, 0), (1, n, n)),
            Box((0, 0, 0), (1, 120, 120)),
            (1, factor, factor),
            (0.0, middle, middle),
        )[0]
        rows.append(
            [
                (f"x{factor}: measured", np.kron(y, np.ones((factor, factor)))),
                *(
                    scored(f"x{factor}: {name}", truth, image, facts, factor=factor, method=name)
                    for name, image in (
                        ("cubic", cubic),
                        ("Lanczos", np.asarray(lanczos)),
                        ("ours", superres(y, factor).mean),
                        ("ours, mean of 4", superres(y, factor, samples=4).mean),
                    )
                ),
                ("truth", truth),
            ]
        )
    sheet(
        rows, path, "Super-resolution of pixels averaged 2, 3 and 4 fold", _curves(facts, "factor")
    )


def defocus(path: Path, facts: Facts) -> None:
    """4: slight, moderate and severe defocus."""
    truth, rows = section(), []
    for severity, sigma in (("slight", 1.0), ("moderate", 2.0), ("severe", 4.0)):
        y = scipy.ndimage.gaussian_filter(truth, sigma, mode="mirror")
        y = y + 2 * np.random.default_rng(SEED).standard_normal(y.shape).astype(np.float32)
        results = {
            "blurred": y,
            "Wiener": wiener(y, truth, sigma),
            "ours": deblur(y, sigma, noise=2.0).mean,
            "ours, mean of 4": deblur(y, sigma, noise=2.0, samples=4).mean,
            "ours, blind": deblur(y, "blind", noise=2.0).mean,
        }
        rows.append(
            [
                *(
                    scored(f"{severity}: {name}", truth, image, facts, sigma=sigma, method=name)
                    for name, image in results.items()
                ),
                ("truth", truth),
            ]
        )
    sheet(
        rows,
        path,
        "Defocus of sigma 1, 2 and 4 pixels, noise 2 grey values",
        _curves(facts, "sigma"),
    )


def wiener(y: np.ndarray, truth: np.ndarray, sigma: float) -> np.ndarray:
    """With the best of a range of balances, which only who knows the truth can choose."""
    task = Task("", truth[None], y[None], [0])
    return deblurrers(task, sigma)["Wiener"]()[0]


def _curves(facts: Facts, key: str) -> Callable[[list[Any]], None]:
    def draw(axes: list[Any]) -> None:
        x = sorted({row[key] for row in facts})
        for place, (figure, label) in zip(
            axes, (("psnr", "PSNR / dB"), ("frc_nm", "FRC 0.5 / nm")), strict=True
        ):
            lines = {
                name: [row[figure] for row in facts if row["method"] == name]
                for name in dict.fromkeys(row["method"] for row in facts)
            }
            plot(place, x, lines, key, label)

    return draw


def axial(path: Path, facts: Facts) -> None:
    """5: every 6th section, seen in xz."""
    truth = demo_volume()[:, :128, :128]
    y = measured(truth, 6, "slice", 0.0)
    results = {
        "linear": interpolated(y, 6, "slice", "linear"),
        "cubic": interpolated(y, 6, "slice", "cubic"),
        "published loop, 100 steps": isotropic(y, 6, sampler="em-generalist").mean,
        "ours": isotropic(y, 6).mean,
        "ours, mean of 4": isotropic(y, 6, samples=4).mean,
    }
    panels = []
    for name, volume in results.items():
        row = {"name": name, **scores(truth, volume, VOXEL)}
        facts.append(row)
        text = f"{name}\n{row['psnr']:.2f} dB, {row['ssim_xz']:.3f}, {row['fsc_axial']:.0f} nm"
        panels.append((text, volume))
    panels.append(("truth", truth))
    rows = [[(name, volume[:, 40]) for name, volume in panels]]
    rows.append([("", volume[:, 90]) for _, volume in panels])
    sheet(
        rows,
        path,
        "Every 6th section measured: two xz planes; PSNR, SSIM of axial planes and axial FSC 0.5 of the volume",
    )


def tiling(path: Path, facts: Facts) -> None:
    """12: a large image in blocks, against the same image whole."""
    base = demo_volume()[48]
    truth = np.pad(base, ((0, 160), (0, 160)), mode="symmetric").astype(np.float32)
    y = truth + 25.5 * np.random.default_rng(SEED).standard_normal(truth.shape).astype(np.float32)
    whole = denoise(y, 25.5, block=(1, 320, 320), halo=(0, 0, 0)).mean
    rows = [("noisy", y), scored("whole", truth, whole, facts)]
    differences: list[Panel] = [("truth", truth), ("", np.empty(0))]
    for block, halo in ((64, 0), (64, 16), (128, 16)):
        tiled = denoise(y, 25.5, block=(1, block, block), halo=(0, halo, halo)).mean
        rows.append(scored(f"blocks of {block}, halo {halo}", truth, tiled, facts))
        difference = tiled - whole
        facts[-1]["rms_from_whole"] = float(np.sqrt(np.square(difference).mean()))
        text = f"20 x difference from whole\nRMS {facts[-1]['rms_from_whole']:.2f} grey values"
        differences.append((text, 135 + 20 * difference))
    sheet(
        [rows, differences], path, "One image in blocks: sigma 0.1 of the range, one network call"
    )


def flow_or_diffusion(path: Path, facts: Facts) -> None:
    """13: the same network as a flow and as a diffusion of 1000 steps."""
    truth = demo_volume()[24:48, 40:80, 40:80]
    y = measured(truth, 6, "slice", 0.0)
    results, seconds = {}, {}
    for name, settings in {
        "diffusion: dps, step size 0.3": {"sampler": "dps", "alpha": 0.3},
        "diffusion: dps, step size 1": {"sampler": "dps", "alpha": 1},
        "flow: published loop, 100 steps": {"sampler": "em-generalist"},
        "flow: ours": {},
        "flow: ours, mean of 4": {"samples": 4},
    }.items():
        begun = time.perf_counter()
        results[name] = isotropic(y, 6, workers=1, **settings).mean
        seconds[name] = time.perf_counter() - begun
    panels: list[Panel] = [("linear", interpolated(y, 6, "slice", "linear")), *results.items()]
    rows: list[Panel] = []
    for name, volume in panels:
        row = {"name": name, "seconds": seconds.get(name), **scores(truth, volume, VOXEL)}
        facts.append(row)
        spent = f", {seconds[name]:.1f} s" if name in seconds else ""
        rows.append((f"{name}\n{row['psnr']:.2f} dB, {row['ssim_xz']:.3f}{spent}", volume[:, 20]))
    title = "One network as flow and as diffusion: x6 slice, 24 x 40 x 40 voxels, xz plane; seconds on one core, of several samples with their calibration"
    sheet([[*rows, ("truth", truth[:, 20])]], path, title)


FIGURES: dict[int, Callable[[Path, Facts], None]] = {
    2: step_size,
    3: superresolution,
    4: defocus,
    5: axial,
    12: tiling,
    13: flow_or_diffusion,
}


def draw(number: int, path: Path) -> None:
    """Draw a figure, and write its numbers beside it."""
    facts: Facts = []
    path.parent.mkdir(parents=True, exist_ok=True)
    FIGURES[number](path, facts)
    text = json.dumps({"seed": SEED, **made_with(), "figures": facts}, indent=1)
    path.with_suffix(".json").write_text(text + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("number", type=int, choices=FIGURES, help="of the figure in the supplement")
    parser.add_argument("picture", type=Path, help="PNG that is written")
    args = parser.parse_args()
    draw(args.number, args.picture)


if __name__ == "__main__":
    main()
