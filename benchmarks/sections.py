"""Denoising, super-resolution and deblurring against the classical methods, section by section.

    python benchmarks/sections.py [--tasks denoise superres deblur] [--rows ours ...]
                                  [--dwell CLEAN.tif NOISY.tif] [--focus TRIO.tif] [--outputs FOLDER]

Eight sections of the demo's FIB-SEM crop, which no shipped network was trained on. The parameters of the classical
methods are the best of a range on the very sections they are measured on, which favours them; ours are the defaults.
`--dwell` adds pairs of slow and fast scans, registered. `--focus` takes scans of one field, defocused first and sharpest
last, and draws what deblurring makes of the first: sections_focus.png, by eye, since nobody knows the blur. `--outputs` adds what other programs (SCUNet, EMDiffuse and the
like) made of the inputs, which are written there: FOLDER/inputs/TASK.tif, and read as FOLDER/NAME/TASK.tif.
Every row is a line of sections.jsonl; ends with sections.md.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import scipy.ndimage
import tifffile
from matplotlib.figure import Figure
from PIL import Image
from scores import Rows, demo_volume, section_scores
from skimage import registration, restoration

from emgen import interpolate
from emgen.arrays import deblur, denoise, superres
from emgen.errors import EmgenError
from emgen.geometry import Box, VoxelSize
from emgen.psf import gaussian

HERE = Path(__file__).parent
VOXEL, SEED = VoxelSize(8, 8, 8), 0
BLUR_NOISE = 2.0  # grey values, of what is blurred
LEARNT = 6  # dwell-time pairs whose slow scans the prior learnt from

Sections = np.ndarray
Method = Callable[[], Sections]


def best(truth: Sections, values: list[float], method: Callable[[float], Sections]) -> Sections:
    """What a method gives with the best of its parameters, by squared error."""
    return min(map(method, values), key=lambda found: float(np.square(found - truth).mean()))


def each(function: Callable[[np.ndarray], np.ndarray], sections: Sections) -> Sections:
    """A function of an image in [0, 1] on every section."""
    return np.stack([255 * function(section / 255) for section in sections.astype(np.float64)])


def denoisers(truth: Sections, y: Sections, sigma: float | None) -> dict[str, Method]:
    """All methods; where nobody knows the noise, the classical ones are told what it is."""
    level = float((y - truth).std()) if sigma is None else sigma
    own: dict[str, Any] = {"known": sigma, "estimated": "auto"}
    if sigma is None:
        own = {"estimated as correlated": "correlated", "estimated as white": "auto"}
    first = next(iter(own.values()))

    def nlm(h: float) -> Sections:
        return each(
            lambda a: restoration.denoise_nl_means(
                a, patch_size=5, patch_distance=7, h=h * level / 255, sigma=level / 255
            ),
            y,
        )

    return {
        "noisy": lambda: y,
        "Gaussian": lambda: best(
            truth,
            [0.5, 0.7, 0.9, 1.2, 1.6, 2.2, 3.0],
            lambda s: scipy.ndimage.gaussian_filter(y, (0, s, s)),
        ),
        "median": lambda: best(
            truth, [3, 5, 7, 9], lambda n: scipy.ndimage.median_filter(y, (1, int(n), int(n)))
        ),
        "non-local means": lambda: best(truth, [0.4, 0.6, 0.8, 1.0, 1.3], nlm),
        "total variation": lambda: best(
            truth,
            [0.02, 0.04, 0.07, 0.1, 0.15, 0.25, 0.4],
            lambda w: each(lambda a: restoration.denoise_tv_chambolle(a, weight=w), y),
        ),
        "wavelet": lambda: best(
            truth,
            [0.5, 0.75, 1.0, 1.3, 2.0],
            lambda k: each(
                lambda a: restoration.denoise_wavelet(a, sigma=k * level / 255, rescale_sigma=True),
                y,
            ),
        ),
        **_bm3d(truth, y, level),
        **{
            f"ours, noise {name}": lambda noise=noise: denoise(y, noise).mean
            for name, noise in own.items()
        },
        "em-generalist, 100 steps": lambda: denoise(y, first, sampler="em-generalist").mean,
    }


def _bm3d(truth: Sections, y: Sections, sigma: float) -> dict[str, Method]:
    """Only where the package bm3d is installed, whose licence forbids commercial use."""
    try:
        from bm3d import bm3d
    except ImportError:
        return {}
    return {
        "BM3D": lambda: best(
            truth, [0.8, 1.0, 1.3, 1.8], lambda k: each(lambda a: bm3d(a, k * sigma / 255), y)
        )
    }


def enlargers(truth: Sections, y: Sections, factor: int) -> dict[str, Method]:
    n, height, width = truth.shape
    box, support = Box.whole((n, height, width)), Box.whole(y.shape)
    middle = (factor - 1) / 2

    def resized(how: Any) -> Sections:
        return how(y, support, box, (1, factor, factor), (0.0, middle, middle))

    def lanczos() -> Sections:
        images = [Image.fromarray(a.astype(np.float32), mode="F") for a in y]
        kind = Image.Resampling.LANCZOS
        return np.stack([np.asarray(a.resize((width, height), kind)) for a in images])

    return {
        "linear": lambda: resized(interpolate.linear),
        "cubic": lambda: resized(interpolate.cubic),
        "Lanczos": lanczos,
        "ours": lambda: superres(y, factor).mean,
        "ours, mean of 4": lambda: superres(y, factor, samples=4).mean,
        "em-generalist, 100 steps": lambda: superres(y, factor, sampler="em-generalist").mean,
    }


def deblurrers(truth: Sections, y: Sections, sigma: float) -> dict[str, Method]:
    psf = gaussian(sigma, sigma)

    def wiener(balance: float) -> Sections:
        return each(lambda a: restoration.wiener(_wide(a), psf, balance, clip=False)[_inner(a)], y)

    def lucy(count: float) -> Sections:
        return each(
            lambda a: restoration.richardson_lucy(_wide(a), psf, int(count), clip=False)[_inner(a)],
            y,
        )

    def unsharp(amount: float) -> Sections:
        return y + amount * (y - scipy.ndimage.gaussian_filter(y, (0, sigma, sigma)))

    return {
        "blurred": lambda: y,
        "unsharp mask": lambda: best(truth, [0.25, 0.5, 1, 1.5, 2.5], unsharp),
        "Wiener": lambda: best(truth, [1e-4, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3], wiener),
        "Richardson-Lucy": lambda: best(truth, [3, 5, 10, 20, 40], lucy),
        "ours": lambda: deblur(y, sigma, noise=BLUR_NOISE).mean,
        "ours, mean of 4": lambda: deblur(y, sigma, noise=BLUR_NOISE, samples=4).mean,
        "em-generalist, 100 steps": lambda: (
            deblur(y, sigma, noise=BLUR_NOISE, sampler="em-generalist").mean
        ),
    }


MARGIN = 16  # mirrored around an image: classical deconvolution wraps around


def _wide(a: np.ndarray) -> np.ndarray:
    return np.pad(a, MARGIN, mode="reflect")


def _inner(a: np.ndarray) -> tuple[slice, slice]:
    return np.s_[MARGIN : MARGIN + a.shape[0], MARGIN : MARGIN + a.shape[1]]


def tasks(wanted: list[str]) -> Iterator[tuple[str, Sections, Sections, dict[str, Method]]]:
    """Name, truth, what was measured and the methods of every task."""
    truth = demo_volume()[6::12, :144, :144].astype(np.float32)
    rng = np.random.default_rng(SEED)
    if "denoise" in wanted:
        for share in (0.05, 0.1, 0.2):
            sigma = round(255 * share, 2)
            y = (truth + sigma * rng.standard_normal(truth.shape)).astype(np.float32)
            yield f"denoise, sigma {share:g} of the range", truth, y, denoisers(truth, y, sigma)
    if "superres" in wanted:
        for factor in (2, 3, 4):
            y = truth.reshape(len(truth), 144 // factor, factor, 144 // factor, factor).mean((2, 4))
            yield f"superres x{factor}", truth, y, enlargers(truth, y, factor)
    if "deblur" in wanted:
        for sigma in (1.0, 2.0, 4.0):
            blurred = scipy.ndimage.gaussian_filter(truth, (0, sigma, sigma), mode="mirror")
            y = blurred + BLUR_NOISE * rng.standard_normal(truth.shape).astype(np.float32)
            yield f"deblur, sigma {sigma:g}", truth, y, deblurrers(truth, y, sigma)


def dwell_pairs(clean: str, noisy: str) -> tuple[str, Sections, Sections, dict[str, Method]]:
    """Scans of one field, slow and fast: the slow ones shifted onto the fast ones, whose noise stays as it is, and
    their common middle."""
    slow, fast = (tifffile.imread(path).astype(np.float32) for path in (clean, noisy))
    pairs = []
    for a, b in zip(slow, fast, strict=True):
        window = np.hanning(a.shape[0])[:, None] * np.hanning(a.shape[1])
        smooth = [
            window * (scipy.ndimage.gaussian_filter(each, 2) - each.mean()) for each in (b, a)
        ]
        # not of phases alone: what both scanners have in common stands still
        shift = registration.phase_cross_correlation(
            *smooth, upsample_factor=20, normalization=None
        )[0]
        a = scipy.ndimage.shift(a, shift, order=3)
        inner = np.s_[16 : 16 + 400, 16 : 16 + 464]
        pairs.append((a[inner], b[inner] + (a[inner].mean() - b[inner].mean())))
    truth, y = (np.stack(each) for each in zip(*pairs[LEARNT:], strict=True))
    return "dwell time, 100 ns against 30 us", truth, y, denoisers(truth, y, None)


def given(folder: Path, task: str, truth: Sections) -> dict[str, Method]:
    """Results of other programs, by the name of their folder.

    Raises `EmgenError` where one has another shape.
    """
    found: dict[str, Method] = {}
    name = task.replace(" ", "_").replace(",", "")
    for path in sorted(folder.glob(f"*/{name}.tif")):
        if path.parent.name == "inputs":
            continue
        image = tifffile.imread(path).astype(np.float32)
        if image.shape != truth.shape:
            raise EmgenError(
                f"{path} has shape {image.shape}; expected {truth.shape}, the sections of {folder}/inputs/{name}.tif restored"
            )
        found[path.parent.name] = lambda image=image: image
    if not found:
        print(
            f"{folder}: no results of other programs for {task}; restore {folder}/inputs/{name}.tif with SCUNet, EMDiffuse or "
            f"another (their code and weights are not part of emgen) and save them as {folder}/NAME/{name}.tif"
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = ["denoise", "superres", "deblur"]
    parser.add_argument("--tasks", nargs="+", choices=kinds, default=kinds)
    parser.add_argument("--rows", nargs="+", help="only these")
    parser.add_argument("--dwell", nargs=2, metavar=("CLEAN", "NOISY"))
    parser.add_argument("--focus", type=Path)
    parser.add_argument("--outputs", type=Path, help="folder with results of other programs")
    args = parser.parse_args()
    warnings.simplefilter("ignore", DeprecationWarning)
    table = Rows(HERE / "sections.jsonl", ("task", "row"))
    everything = list(tasks(args.tasks))
    if args.dwell:
        everything.append(dwell_pairs(*args.dwell))
    for task, truth, y, methods in everything:
        if args.outputs:
            inputs = args.outputs / "inputs"
            inputs.mkdir(parents=True, exist_ok=True)
            tifffile.imwrite(inputs / f"{task.replace(' ', '_').replace(',', '')}.tif", y)
            methods |= given(args.outputs, task, truth)
        for name, method in methods.items():
            if (args.rows and name not in args.rows) or not table.missing(task=task, row=name):
                continue
            begun = time.monotonic()
            found = method()
            seconds = round(time.monotonic() - begun, 2)
            table.add(
                task=task,
                row=name,
                seconds=seconds,
                seed=SEED,
                **section_scores(truth, found, VoxelSize(5, 5, 5) if "dwell" in task else VOXEL),
            )
    write(table.read())
    if args.focus:
        focus(args.focus, HERE / "sections_focus.png")


def focus(scans: Path, path: Path) -> None:
    """A defocused scan, deblurred with a function fitted to it and with given ones, beside a sharp scan of the same field."""
    first, *_, sharp = tifffile.imread(scans).astype(np.float32)
    wide = np.s_[200:456, 300:556]
    near = first[wide] - first[wide].mean()
    shift = registration.phase_cross_correlation(near, sharp[wide] - sharp[wide].mean())[0]
    place = tuple(
        slice(int(s.start - d), int(s.stop - d)) for s, d in zip(wide, shift, strict=True)
    )
    panels = {"defocused": first[wide]}
    blind = deblur(first[wide], "blind")
    panels["ours, psf: blind"] = blind.mean
    for sigma in (1.5, 2.5):
        panels[f"ours, psf: {{sigma: {sigma}}}"] = deblur(first[wide], sigma).mean
    panels["the sharpest scan"] = sharp[place]
    figure = Figure(figsize=(3.2 * len(panels), 6.6), layout="constrained")
    for column, (name, image) in enumerate(panels.items()):
        low, high = np.percentile(image, (0.5, 99.5))
        for row, part in enumerate((np.s_[:, :], np.s_[64:160, 64:160])):
            axes = figure.add_subplot(2, len(panels), 1 + column + row * len(panels))
            axes.imshow(image[part], cmap="gray", vmin=low, vmax=high, interpolation="nearest")
            axes.set_axis_off()
            if row == 0:
                axes.set_title(name, fontsize=10)
    figure.savefig(path, dpi=120)


def write(found: list[dict[str, Any]]) -> None:
    """`sections.md`: a table for every task, the best of every column in bold."""
    lines = [
        "# Denoising, super-resolution and deblurring",
        "",
        "Made by `python benchmarks/sections.py` from the rows in sections.jsonl, each with its commit, seed and machine. Eight",
        "sections (144 x 144 pixels of 8 nm) of FIB-25 training sample 2; PSNR over 255 grey values; FRC at 0.5; power of the",
        "finest detail over the truth's. Classical methods have the best parameters of a range for these very sections; their",
        "seconds are those of the whole range.",
        "Dwell-time pairs: six fast scans of tin on carbon (SEMdenoising); the slow ones, which the prior never saw, were shifted",
        "onto them.",
    ]
    for task in dict.fromkeys(row["task"] for row in found):
        mine = [row for row in found if row["task"] == task]
        top = {name: max(row[name] for row in mine) for name in ("psnr", "ssim")}
        lines += [
            "",
            f"## {task}",
            "",
            "| | PSNR | SSIM | FRC nm | power | seconds |",
            "|---|---|---|---|---|---|",
        ]
        for row in mine:
            psnr, ssim = (
                f"**{row[name]:{form}}**" if row[name] == top[name] else f"{row[name]:{form}}"
                for name, form in (("psnr", ".2f"), ("ssim", ".3f"))
            )
            frc = "-" if row["frc_nm"] is None else f"{row['frc_nm']:.1f}"
            lines.append(
                f"| {row['row']} | {psnr} | {ssim} | {frc} | {row['power']:.2f} | {row['seconds']:.1f} |"
            )
    (HERE / "sections.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
