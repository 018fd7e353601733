"""One 2-D image of 320 megapixels through the workflow: memory, pixels per second, and whether its tiles show.

    python benchmarks/large_image.py [--height 16000] [--width 20000] [--cores 2] [--keep FOLDER]

The image is a section of the demo's FIB-SEM crop, mirrored side by side, with noise of its own everywhere. Every size
is a line of large_image.jsonl: a smaller one beside says whether memory grows with the image. Ends with large_image.md
and large_image.png.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from matplotlib.figure import Figure
from scores import RANGE, Rows, demo_volume

from emgen.geometry import Box, VoxelSize
from emgen.modes.deblur import Deblur
from emgen.modes.superres import Superres
from emgen.qc import face_steps
from emgen.volumes.intensity import store
from emgen.volumes.volume import Volume

HERE, ROOT = Path(__file__).parent, Path(__file__).parent.parent
NOISE, SEED, BLOCK = 15.0, 0, 512


def mirrored(section: np.ndarray, rows: range, width: int) -> np.ndarray:
    """Rows of the plane that the section's mirror images fill without a jump."""
    n, m = section.shape

    def place(at: np.ndarray, length: int) -> np.ndarray:
        at = at % (2 * length)
        return np.minimum(at, 2 * length - 1 - at)

    return section[place(np.array(rows), n)][:, place(np.arange(width), m)]


def make(path: Path, height: int, width: int) -> None:
    """The noisy image, written strip by strip."""
    section = demo_volume()[48]
    volume = Volume.create(
        path,
        (1, height, width),
        "uint8",
        VoxelSize(8, 8, 8),
        chunk=(1, 512, 512),
        shard=(1, BLOCK, BLOCK),
    )
    for top in range(0, height, BLOCK):
        rows = range(top, min(top + BLOCK, height))
        rng = np.random.default_rng([SEED, top])
        strip = mirrored(section, rows, width) + NOISE * rng.standard_normal((len(rows), width))
        volume.write(Box((0, top, 0), (1, rows.stop, width)), store(strip, "uint8")[None])


def psnr(path: Path, height: int, width: int) -> float:
    """Against the image without noise, strip by strip."""
    section, volume, total = demo_volume()[48], Volume.open(path), 0.0
    for top in range(0, height, BLOCK):
        rows = range(top, min(top + BLOCK, height))
        strip = volume.read(Box((0, top, 0), (1, rows.stop, width)))[0].astype(np.float64)
        total += float(np.square(strip - mirrored(section, rows, width)).sum())
    return float(10 * np.log10(RANGE**2 * height * width / total))


def own_steps(height: int, width: int) -> float:
    """The seam score that the image has without noise and without blocks, of the axis where it is larger."""
    section = demo_volume()[48]

    def read(box: Box) -> np.ndarray:
        rows = mirrored(section, range(box.start[1], box.stop[1]), width)
        return rows[None, :, box.start[2] : box.stop[2]]

    scores = face_steps.score(face_steps.scan(read, (1, height, width), (1, BLOCK, BLOCK)))
    return max(face_steps.in_proportion(seam, None) or 0.0 for seam in scores)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--height", type=int, default=16_000)
    parser.add_argument("--width", type=int, default=20_000)
    parser.add_argument("--cores", type=int, default=os.cpu_count())
    parser.add_argument("--keep", type=Path, help="folder that stays; a temporary one otherwise")
    args = parser.parse_args()
    if min(args.height, args.width) < 2 * BLOCK:
        parser.error(f"an image of less than {2 * BLOCK} pixels each way has no blocks to meet")
    with tempfile.TemporaryDirectory() as name:
        folder = args.keep or Path(name)
        folder.mkdir(parents=True, exist_ok=True)
        table = Rows(HERE / "large_image.jsonl", ("height", "width"))
        if table.missing(height=args.height, width=args.width):
            table.add(**run(folder, args.height, args.width, args.cores))
    write(table.read())


def run(folder: Path, height: int, width: int, cores: int) -> dict[str, Any]:
    if not (folder / "image.ome.zarr").exists():
        make(folder / "image.ome.zarr", height, width)
    config = {
        "run": "large",
        "input": {"volume": "image.ome.zarr"},
        "restore": {"mode": "denoise"},
        "grid": {"block": [1, BLOCK, BLOCK], "halo": [0, 32, 32], "blocks_per_job": 64},
        "output": {"chunk": [1, 512, 512], "shard": [1, BLOCK, BLOCK]},
        "qc": {"tile": [1, 512, 512]},
    }
    (folder / "large.yaml").write_text(yaml.safe_dump(config))
    words = [
        "--snakefile",
        str(ROOT / "Snakefile"),
        "--directory",
        str(folder),
        "--quiet",
        "host",
        "reason",
    ]
    words += ["--configfile", str(folder / "large.yaml"), "--cores", str(cores)]
    begun = time.monotonic()
    subprocess.run([sys.executable, "-m", "snakemake", *words], check=True)
    whole = time.monotonic() - begun
    results = folder / "results/large"
    jobs = [json.loads(path.read_text()) for path in sorted((results / "blocks").glob("*.json"))]
    summary = json.loads((results / "qc/summary.json").read_text())
    corner(folder / "image.ome.zarr", results / "restored.ome.zarr", HERE / "large_image.png")
    return {
        "height": height,
        "width": width,
        "noise": NOISE,
        "seed": SEED,
        "cores": cores,
        "seconds_workflow": round(whole, 1),
        "seconds_restore": round(sum(job["seconds"] for job in jobs), 1),
        "peak_memory_mb": max(job["peak_memory_mb"] for job in jobs),
        "noisy_db": round(psnr(folder / "image.ome.zarr", height, width), 2),
        "restored_db": round(psnr(results / "restored.ome.zarr", height, width), 2),
        "own_steps": round(own_steps(height, width), 2),
        "checks": {
            check["name"]: [check["verdict"], check["reason"]] for check in summary["checks"]
        },
    }


def corner(noisy: Path, restored: Path, path: Path) -> None:
    """Where four blocks meet near the middle of the image: what was given, what came of it, and its gradient."""
    shape, section = Volume.open(restored).shape, demo_volume()[48]
    y, x = (
        # not where the image is mirrored, whose symmetry would hide a seam
        max(k for k in range(BLOCK, n // 2 + BLOCK, BLOCK) if k % length)
        for n, length in zip(shape[1:], section.shape, strict=True)
    )
    box = Box((0, y - 96, x - 96), (1, y + 96, x + 96))
    before, after = (Volume.open(path).read(box)[0].astype(float) for path in (noisy, restored))
    steps = np.hypot(*np.gradient(after))
    figure = Figure(figsize=(12, 4.3), layout="constrained")
    panels = {"noisy": before, "restored": after, "gradient of the restored": steps}
    for axes, (name, image) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        axes.imshow(image, cmap="gray", interpolation="nearest")
        axes.set_title(f"{name}; blocks meet at the ticks", fontsize=9)
        axes.tick_params(length=12, width=2, color="tab:red")
        axes.set_xticks([95.5], [str(x)])
        axes.set_yticks([95.5], [str(y)])
    figure.savefig(path, dpi=120)


def write(table: list[dict[str, Any]]) -> None:
    """`large_image.md`."""
    lines = [
        "# One large image",
        "",
        "Made by `python benchmarks/large_image.py` from the rows in large_image.jsonl, each with its commit and machine. Denoised",
        f"through the workflow in blocks of {BLOCK} x {BLOCK}; seconds of restore jobs and, in brackets, of the whole workflow with",
        "pyramid, QC and report; peak memory of a restore job; the report's verdict on seams, and the score of the image without noise",
        "and blocks: it is a section mirrored side by side, and where it repeats with the blocks has steps of its own (warn is above 2).",
        "",
        "| pixels | cores | seconds | megapixels per second | peak memory | PSNR, noisy and restored | seams |",
        "|---|---|---|---|---|---|---|",
    ]
    for facts in sorted(table, key=lambda row: row["height"] * row["width"]):
        pixels = facts["height"] * facts["width"] / 1e6
        lines.append(
            f"| {facts['height']} x {facts['width']} ({pixels:.0f} megapixels) | {facts['cores']} | {facts['seconds_restore']:.0f} ({facts['seconds_workflow']:.0f}) "
            f"| {pixels / facts['seconds_restore']:.2f} | {facts['peak_memory_mb']} MB "
            f"| {facts['noisy_db']:.2f} and {facts['restored_db']:.2f} dB | {facts['checks']['seams'][0]}, {facts['own_steps']:.2f} |"
        )
    largest = max(table, key=lambda row: row["height"] * row["width"])
    minutes = largest["seconds_restore"] / 60
    superres, deblur = (1 + mode.learned_steps for mode in (Superres, Deblur))
    lines += [
        "",
        "Denoising one image takes one network call. Super-resolution takes an estimate and the calls of its sampler, "
        f"{superres}, deblurring {deblur}: about {superres * minutes:.0f} and {deblur * minutes:.0f} minutes "
        f"on these {largest['cores']} cores for an output of the largest size (not run).",
    ]
    (HERE / "large_image.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
