"""One 2-D image of 320 megapixels through the workflow: memory, pixels per second, and whether its tiles show.

    python benchmarks/large_image.py [--height 16000] [--width 20000] [--cores 2] [--keep FOLDER]

The image is a section of the demo's FIB-SEM crop, mirrored side by side, with noise of its own everywhere. Writes
large_image.json, large_image.md and large_image.png.
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
from scores import RANGE, demo_volume, made_with

from emgen.geometry import Box, VoxelSize
from emgen.intensity import store
from emgen.volume import Volume

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
        found = volume.read(Box((0, top, 0), (1, rows.stop, width)))[0].astype(np.float64)
        total += float(np.square(found - mirrored(section, rows, width)).sum())
    return float(10 * np.log10(RANGE**2 * height * width / total))


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
        facts = run(folder, args.height, args.width, args.cores)
    (HERE / "large_image.json").write_text(json.dumps(facts, indent=2) + "\n")
    write(facts)


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
        "checks": {
            check["name"]: [check["verdict"], check["reason"]] for check in summary["checks"]
        },
        **made_with(),
    }


def corner(noisy: Path, restored: Path, path: Path) -> None:
    """Where four blocks meet, in the middle of the image: what was given, what came of it, and its gradient."""
    shape = Volume.open(restored).shape
    y, x = (n // BLOCK // 2 * BLOCK for n in shape[1:])
    box = Box((0, y - 96, x - 96), (1, y + 96, x + 96))
    before, after = (Volume.open(each).read(box)[0].astype(float) for each in (noisy, restored))
    steps = np.hypot(*np.gradient(after))
    figure = Figure(figsize=(12, 4.3), layout="constrained")
    panels = {"noisy": before, "restored": after, "gradient of the restored": steps}
    for axes, (name, image) in zip(figure.subplots(1, 3), panels.items(), strict=True):
        axes.imshow(image, cmap="gray", interpolation="nearest")
        axes.set_title(f"{name}; blocks meet at the ticks", fontsize=10)
        axes.set_xticks([95.5], [str(x)])
        axes.set_yticks([95.5], [str(y)])
    figure.savefig(path, dpi=120)


def write(facts: dict[str, Any]) -> None:
    """`large_image.md`."""
    pixels = facts["height"] * facts["width"]
    seams = next((v for k, v in facts["checks"].items() if "seam" in k), ["-", "-"])
    rate = pixels / facts["seconds_restore"]
    lines = [
        "# One large image",
        "",
        f"Made by `python benchmarks/large_image.py`: {facts['height']} x {facts['width']} pixels ({pixels / 1e6:.0f} megapixels),",
        f"denoised through the workflow in blocks of {BLOCK} x {BLOCK}; {facts['machine']}; commit {facts['commit']}.",
        "",
        "| | |",
        "|---|---|",
        f"| restore jobs | {facts['seconds_restore']:.0f} s, {rate / 1e6:.2f} megapixels per second |",
        f"| whole workflow, with pyramid, QC and report | {facts['seconds_workflow']:.0f} s |",
        f"| peak memory of a restore job | {facts['peak_memory_mb']} MB |",
        f"| PSNR, noisy and restored | {facts['noisy_db']:.2f} and {facts['restored_db']:.2f} dB |",
        f"| seams | {seams[0]}: {seams[1]} |",
        "",
        "Denoising takes one network call. Super-resolution and deblurring take 12, and so about 12 times as long: "
        f"{12 * facts['seconds_restore'] / 60:.0f} minutes on these {facts['cores']} cores for an output of this size (not run).",
    ]
    (HERE / "large_image.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
