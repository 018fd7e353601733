"""Denoising, super-resolution and deblurring against the classical methods, section by section.

    python benchmarks/sections.py [--tasks denoise superres deblur] [--rows ours ...]
                                  [--dwell CLEAN.tif NOISY.tif] [--outputs FOLDER]

Eight sections of the demo's FIB-SEM crop, which no shipped network was trained on. All of its sections are measured, so
that methods can see those before and behind one: ours does, and the volume rows. The parameters of the classical
methods are the best of a range on the very sections they are measured on, which favours them; ours are the defaults.
`--dwell` adds pairs of slow and fast scans, registered. `--outputs` adds what other programs (SCUNet, EMDiffuse and the
like) made of the inputs, which are written there: FOLDER/inputs/TASK.tif, and read as FOLDER/NAME/TASK.tif.
Every row is a line of sections.jsonl; ends with sections.md.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.ndimage
import tifffile
from cubic import cubic
from PIL import Image
from scores import Rows, coverage, demo_volume, others, section_scores
from skimage import registration, restoration

from emgen.arrays import deblur, denoise, superres
from emgen.geometry import Box, VoxelSize
from emgen.physics import interpolation
from emgen.physics.psf import gaussian

HERE = Path(__file__).parent
VOXEL, SEED = VoxelSize(8, 8, 8), 0
BLUR_NOISE = 2.0  # grey values, of what is blurred
LEARNT = 6  # dwell-time pairs whose slow scans the prior learnt from
BESIDE = 3  # sections on either side that ours sees
AT, SIDE = slice(6, None, 12), 144  # sections that are judged, and their pixels

Sections = np.ndarray


@dataclass(frozen=True)
class Result:
    """What a method makes of the judged sections (n, y, x), in grey values.

    Attributes:
        mean: restored sections.
        std: standard deviation of the samples, None where there were none.
        error_variance_ratio: see `emgen.modes.mode.Mode`.
    """

    mean: Sections
    std: Sections | None = None
    error_variance_ratio: float = 1.0


Method = Callable[[], Sections | Result]


@dataclass(frozen=True)
class Task:
    """What was measured, and of which sections the truth is compared.

    Attributes:
        name: of the table.
        truth: sections that are judged (n, y, x).
        volume: all that was measured (z, y, x).
        at: numbers of the judged ones.
        neighbours: whether sections follow each other.
    """

    name: str
    truth: Sections
    volume: Sections
    at: list[int]
    neighbours: bool = True

    @property
    def y(self) -> Sections:
        """What was measured of the judged sections."""
        return self.volume[self.at]

    @property
    def file(self) -> str:
        return f"{self.name.replace(' ', '_').replace(',', '')}.tif"

    def among(self, restored: Callable[[Sections], Any], beside: int = BESIDE) -> Result:
        """What is made of every judged section between those beside it, by a function of `emgen.arrays`."""
        beside = beside if self.neighbours else 0
        results = [restored(self.volume[k - beside : k + beside + 1]) for k in self.at]
        mean = np.stack([result.mean[beside] for result in results])
        if results[0].std is None:
            return Result(mean)
        std = np.stack([result.std[beside] for result in results])
        return Result(mean, std, results[0].plan.mode.error_variance_ratio)


def best(truth: Sections, values: list[float], method: Callable[[float], Sections]) -> Sections:
    """What a method gives with the best of its parameters, by squared error."""
    return min(map(method, values), key=lambda restored: float(np.square(restored - truth).mean()))


def per_section(function: Callable[[np.ndarray], np.ndarray], sections: Sections) -> Sections:
    """A function of an image in [0, 1] on every section."""
    return np.stack([255 * function(section / 255) for section in sections.astype(np.float64)])


def denoisers(task: Task, sigma: float | None) -> dict[str, Method]:
    """All methods; where nobody knows the noise, the classical ones are told what it is."""
    truth, y = task.truth, task.y
    level = float((y - truth).std()) if sigma is None else sigma
    own: dict[str, Any] = {"known": sigma, "estimated": "auto"}
    if sigma is None:
        own = {"estimated as correlated": "correlated", "estimated as white": "auto"}
    first = next(iter(own.values()))

    def nlm(h: float) -> Sections:
        return per_section(
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
            lambda w: per_section(lambda a: restoration.denoise_tv_chambolle(a, weight=w), y),
        ),
        "wavelet": lambda: best(
            truth,
            [0.5, 0.75, 1.0, 1.3, 2.0],
            lambda k: per_section(
                lambda a: restoration.denoise_wavelet(a, sigma=k * level / 255, rescale_sigma=True),
                y,
            ),
        ),
        **_bm3d(task, level),
        **(_volume_denoisers(task, level) if task.neighbours else {}),
        **(
            {"ours, sections alone": lambda: task.among(lambda a: denoise(a, first), 0)}
            if task.neighbours
            else {}
        ),
        **{
            f"ours, noise {name}": lambda noise=noise: task.among(lambda a: denoise(a, noise))
            for name, noise in own.items()
        },
        "ours, 4 samples": lambda: task.among(lambda a: denoise(a, first, samples=4)),
        "em-generalist, 100 steps": lambda: denoise(y, sampler="em-generalist").mean,
    }


def _bm3d(task: Task, sigma: float) -> dict[str, Method]:
    """Only where the package bm3d is installed, whose licence forbids commercial use."""
    try:
        from bm3d import bm3d
    except ImportError:
        return {}

    def of(k: float) -> Sections:
        return per_section(lambda a: bm3d(a, k * sigma / 255), task.y)

    return {"BM3D": lambda: best(task.truth, [0.8, 1.0, 1.3, 1.8], of)}


def _volume_denoisers(task: Task, sigma: float) -> dict[str, Method]:
    """Those that see the volume; BM4D only where the package is installed, whose licence is that of bm3d."""

    def tv(weight: float) -> Sections:
        return 255 * restoration.denoise_tv_chambolle(task.volume / 255, weight=weight)[task.at]

    methods: dict[str, Method] = {
        "Gaussian, volume": lambda: best(
            task.truth,
            [0.5, 0.6, 0.7, 0.8, 0.9, 1.1, 1.3, 1.6],
            lambda s: scipy.ndimage.gaussian_filter(task.volume, s)[task.at],
        ),
        "total variation, volume": lambda: best(
            task.truth, [0.02, 0.04, 0.07, 0.1, 0.15, 0.25, 0.4], tv
        ),
    }
    try:
        from bm4d import bm4d
    except ImportError:
        return methods
    methods["BM4D, volume"] = lambda: bm4d(task.volume, sigma)[task.at]
    return methods


def enlargers(task: Task, factor: int) -> dict[str, Method]:
    truth, y = task.truth, task.y
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
        "linear": lambda: resized(interpolation.linear),
        "cubic": lambda: resized(cubic),
        "Lanczos": lanczos,
        "ours, sections alone": lambda: task.among(lambda a: superres(a, factor), 0),
        "ours": lambda: task.among(lambda a: superres(a, factor)),
        "ours, mean of 4": lambda: task.among(lambda a: superres(a, factor, samples=4)),
        "em-generalist, 100 steps": lambda: superres(y, factor, sampler="em-generalist").mean,
    }


def deblurrers(task: Task, sigma: float) -> dict[str, Method]:
    truth, y, psf = task.truth, task.y, gaussian(sigma, sigma)

    def ours(beside: int = BESIDE, **more: Any) -> Result:
        return task.among(lambda a: deblur(a, sigma, noise=BLUR_NOISE, **more), beside)

    def wiener(balance: float) -> Sections:
        return per_section(
            lambda a: restoration.wiener(_wide(a), psf, balance, clip=False)[_inner(a)], y
        )

    def lucy(count: float) -> Sections:
        return per_section(
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
        "ours, sections alone": lambda: ours(0),
        "ours": ours,
        "ours, mean of 4": lambda: ours(samples=4),
        "em-generalist, 100 steps": lambda: deblur(y, sigma, sampler="em-generalist").mean,
    }


MARGIN = 16  # mirrored around an image: classical deconvolution wraps around


def _wide(a: np.ndarray) -> np.ndarray:
    return np.pad(a, MARGIN, mode="reflect")


def _inner(a: np.ndarray) -> tuple[slice, slice]:
    return np.s_[MARGIN : MARGIN + a.shape[0], MARGIN : MARGIN + a.shape[1]]


def tasks(kinds: list[str]) -> Iterator[tuple[Task, dict[str, Method]]]:
    """Every task with its methods."""
    truth = demo_volume()[:, :SIDE, :SIDE].astype(np.float32)
    rng, at = np.random.default_rng(SEED), list(range(len(truth)))[AT]

    def measured(name: str, volume: Sections) -> Task:
        return Task(name, truth[at], volume.astype(np.float32), at)

    def noisy(volume: Sections, sigma: float) -> Sections:
        return volume + sigma * rng.standard_normal(volume.shape)

    if "denoise" in kinds:
        for share in (0.05, 0.1, 0.2):
            sigma = round(255 * share, 2)
            task = measured(f"denoise, sigma {share:g} of the range", noisy(truth, sigma))
            yield task, denoisers(task, sigma)
    if "superres" in kinds:
        for factor in (2, 3, 4):
            n = SIDE // factor
            coarse = truth.reshape(len(truth), n, factor, n, factor).mean((2, 4))
            task = measured(f"superres x{factor}", coarse)
            yield task, enlargers(task, factor)
    if "deblur" in kinds:
        for sigma in (1.0, 2.0, 4.0):
            blurred = scipy.ndimage.gaussian_filter(truth, (0, sigma, sigma), mode="mirror")
            task = measured(f"deblur, sigma {sigma:g}", noisy(blurred, BLUR_NOISE))
            yield task, deblurrers(task, sigma)


def dwell_pairs(clean: str, noisy: str) -> tuple[Task, dict[str, Method]]:
    """Scans of one field, slow and fast: the slow ones shifted onto the fast ones, whose noise stays as it is, and
    their common middle."""
    slow, fast = (tifffile.imread(path).astype(np.float32) for path in (clean, noisy))
    pairs = []
    for a, b in zip(slow, fast, strict=True):
        window = np.hanning(a.shape[0])[:, None] * np.hanning(a.shape[1])
        smooth = [
            window * (scipy.ndimage.gaussian_filter(scan, 2) - scan.mean()) for scan in (b, a)
        ]
        # not of phases alone: what both scanners have in common stands still
        shift = registration.phase_cross_correlation(
            *smooth, upsample_factor=20, normalization=None
        )[0]
        a = scipy.ndimage.shift(a, shift, order=3)
        inner = np.s_[16 : 16 + 400, 16 : 16 + 464]
        pairs.append((a[inner], b[inner] + (a[inner].mean() - b[inner].mean())))
    truth, y = (np.stack(scans) for scans in zip(*pairs[LEARNT:], strict=True))
    task = Task("dwell time, 100 ns against 30 us", truth, y, list(range(len(y))), neighbours=False)
    return task, denoisers(task, None)


def given(folder: Path, task: Task) -> dict[str, Method]:
    """Results of other programs for all that was measured, by the name of their folder."""
    shape = (len(task.volume), *task.truth.shape[1:])
    images = others(folder, task.file, task.volume, shape)
    return {name: lambda image=image: image[task.at] for name, image in images.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = ["denoise", "superres", "deblur"]
    parser.add_argument("--tasks", nargs="+", choices=kinds, default=kinds)
    parser.add_argument("--rows", nargs="+", help="only these")
    parser.add_argument("--dwell", nargs=2, metavar=("CLEAN", "NOISY"))
    parser.add_argument("--outputs", type=Path, help="folder with results of other programs")
    args = parser.parse_args()
    warnings.simplefilter("ignore", DeprecationWarning)
    table = Rows(HERE / "sections.jsonl", ("task", "row"))
    everything = list(tasks(args.tasks))
    if args.dwell:
        everything.append(dwell_pairs(*args.dwell))
    for task, methods in everything:
        if args.outputs:
            methods |= given(args.outputs, task)
        for name, method in methods.items():
            if (args.rows and name not in args.rows) or not table.missing(task=task.name, row=name):
                continue
            begun = time.monotonic()
            restored = method()
            seconds = round(time.monotonic() - begun, 2)
            result = restored if isinstance(restored, Result) else Result(restored)
            voxel = VOXEL if task.neighbours else VoxelSize(5, 5, 5)
            spread = {}
            if result.std is not None:
                ratio = result.error_variance_ratio
                spread = {"covered": coverage(task.truth, result.mean, result.std, ratio)}
            table.add(
                task=task.name,
                row=name,
                seconds=seconds,
                seed=SEED,
                **section_scores(task.truth, result.mean, voxel),
                **spread,
            )
    write(table.read())


def write(table: list[dict[str, Any]]) -> None:
    """`sections.md`: a table for every task, the best of every column in bold."""
    lines = [
        "# Denoising, super-resolution and deblurring",
        "",
        "Made by `python benchmarks/sections.py` from the rows in sections.jsonl, each with its commit, seed and machine. Eight",
        "sections (144 x 144 pixels of 8 nm) of FIB-25 training sample 2, which ours sees between three on either side, as `volume`",
        "rows see all 96; PSNR over 255 grey values; FRC at 0.5; power of the finest detail over the truth's; share of the voxels",
        "whose truth lies within 1, 2 and 3 standard deviations of four samples (.61, .86, .94 if errors are normal and the spread",
        "is right). Classical methods have the best parameters of a range for these very sections; their seconds are those of the",
        "whole range, and of `volume` rows those of all 96 sections. BM4D is told the noise. N2V learnt from the 96 noisy sections",
        "for 15 epochs, ten minutes of one core and more. Seconds of ours are those of seven sections for each that is judged. They were",
        "taken beside other work: read them as two to seven times too long.",
        "Dwell-time pairs: six fast scans of tin on carbon (SEMdenoising); the slow ones, which no network saw, were shifted",
        "onto them.",
    ]
    for task in dict.fromkeys(row["task"] for row in table):
        mine = [row for row in table if row["task"] == task]
        top = {name: max(row[name] for row in mine) for name in ("psnr", "ssim")}
        lines += [
            "",
            f"## {task}",
            "",
            "| | PSNR | SSIM | FRC nm | power | covered | seconds |",
            "|---|---|---|---|---|---|---|",
        ]
        for row in mine:
            psnr, ssim = (
                f"**{row[name]:{form}}**" if row[name] == top[name] else f"{row[name]:{form}}"
                for name, form in (("psnr", ".2f"), ("ssim", ".3f"))
            )
            covered = " ".join(f"{share:.2f}" for share in row.get("covered", [])) or "-"
            frc = "-" if row["frc_nm"] is None else f"{row['frc_nm']:.1f}"
            lines.append(
                f"| {row['row']} | {psnr} | {ssim} | {frc} | {row['power']:.2f} | {covered} | {row['seconds']:.1f} |"
            )
    (HERE / "sections.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
