"""What limits quality: data, steps, size or the sampler? A prior against its training time.

    python benchmarks/prior/quality.py DATA TRAINING [TRAINING ...]

DATA is the folder of the training files; TRAINING is a training folder whose recipe says `keep: true`. For the kept
averages of each: denoise PSNR on held-out tissue, and through the workflow the x4 `slice` restoration of a region that
nothing trained on (fib25_c, sections 190 to 218), one sample and the mean of four, beside linear interpolation.
Writes quality.json, quality.md and quality.png beside this file.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from matplotlib.figure import Figure

from emgen.geometry import Box, VoxelSize
from emgen.networks.card import resolve
from emgen.training import progress
from emgen.volumes.sources import open_foreign
from emgen.volumes.volume import Volume

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FACTOR = 4
REGION = Box((190, 200, 150), (218, 296, 246))
COUNT = 5  # averages of a training folder, evenly spread


def region(data: Path, folder: Path) -> Box:
    """The held-out region as a reference, and every fourth section of it as a measurement."""
    with open_foreign(str(data / "fib25_c.tif")) as source:
        voxels = source.read(REGION)
    for name, part, voxel in (
        ("reference", voxels, VoxelSize(8, 8, 8)),
        ("measured", voxels[::FACTOR], VoxelSize(8 * FACTOR, 8, 8)),
    ):
        volume = Volume.create(
            folder / f"{name}.ome.zarr",
            part.shape,
            part.dtype,
            voxel,
            chunk=part.shape,
            shard=part.shape,
        )
        volume.write(Box.whole(part.shape), part)
    return Box.whole(voxels.shape)


def restored(prior: Path, samples: int, folder: Path) -> dict[str, Any]:
    """The workflow's own figures of a run."""
    run = f"{prior.stem}-{samples}"
    config = {
        "run": run,
        "input": {"volume": "measured.ome.zarr"},
        # the prior by itself: a learned interpolation would hide what it can do
        "restore": {"prior": str(prior.resolve()), "samples": samples, "estimator": "linear"},
        "grid": {"block": [32, 96, 96], "halo": [8, 0, 0]},
        "output": {"chunk": [32, 48, 48], "shard": [32, 96, 96]},
        "qc": {"reference": "reference.ome.zarr"},
    }
    (folder / f"{run}.yaml").write_text(yaml.safe_dump(config))
    command = [
        "snakemake",
        "--snakefile",
        ROOT / "Snakefile",
        "--directory",
        folder,
        "--cores",
        "2",
    ]
    command += ["--configfile", folder / f"{run}.yaml", "--quiet", "all", "--until", "image"]
    subprocess.run(list(map(str, command)), check=True)
    figures: dict[str, Any] = json.loads((folder / f"results/{run}/qc/image.json").read_text())
    return figures


def chosen(training: Path) -> list[Path]:
    """Kept averages, evenly spread over the training time, the last among them."""
    kept = sorted((training / "averages").glob("*.safetensors"))
    places = np.unique(np.round(np.geomspace(1, len(kept), COUNT)).astype(int)) - 1
    return [kept[place] for place in places]


def table(rows: list[dict[str, Any]]) -> str:
    """The figures as Markdown."""
    times = list(rows[0]["denoise_psnr_db"])
    linear = rows[0]["x4"][1]["figures"]["interpolated"]
    lines = [
        "# A prior against its training time",
        "",
        f"Seed 0, {machine()}. Denoise PSNR in dB: one call, range [-1, 1], mean over the held-out sources. x4: `slice`,",
        f"PSNR in dB of 255 grey values and SSIM in xz and yz; linear interpolation has {linear['psnr_db']:.2f} dB and",
        f"{axial(linear):.3f}. Minutes of training are wall time, other programs beside it.",
        "",
        f"| prior | million weights | step | minutes | {' | '.join(f't = {t}' for t in times)} | x4, one sample | x4, mean of 4 |",
        "|---|---|---|---|" + "---|" * (len(times) + 2),
    ]
    for row in rows:
        denoise = " | ".join(f"{value:.2f}" for value in row["denoise_psnr_db"].values())
        x4 = [row["x4"][n]["figures"]["restored"] for n in (1, 4)]
        cells = " | ".join(f"{each['psnr_db']:.2f}, {axial(each):.3f}" for each in x4)
        lines.append(
            f"| {row['prior']} | {row['parameters'] / 1e6:.1f} | {row['steps']} | {row['minutes']:.0f} | {denoise} | {cells} |"
        )
    return "\n".join(lines) + "\n"


def axial(figures: dict[str, Any]) -> float:
    """SSIM across the sections, the mean of xz and yz."""
    return float(np.mean([figures["ssim"][plane] for plane in ("xz", "yz")]))


def machine() -> str:
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    return f"two cores of {platform.processor() or platform.machine()}, no GPU, commit {commit.stdout.strip() or 'unknown'}"


def draw(rows: list[dict[str, Any]]) -> None:
    """Denoise PSNR, and what the workflow makes of it, against minutes of training."""
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name in dict.fromkeys(row["prior"] for row in rows):
        mine = [row for row in rows if row["prior"] == name]
        minutes = [row["minutes"] for row in mine]
        for t in ("0.5", "0.7", "0.8", "0.9"):
            values = np.array([row["denoise_psnr_db"][t] for row in mine])
            label = f"{name}, t = {t}: {values[-1]:.2f} dB"
            left.plot(minutes, values - values[0], ".-", label=label)
        for n, label in ((1, "one sample"), (4, "mean of 4")):
            values = [row["x4"][n]["figures"]["restored"]["psnr_db"] for row in mine]
            right.plot(minutes, values, ".-", label=f"{name}, {label}")
    linear = rows[0]["x4"][1]["figures"]["interpolated"]["psnr_db"]
    right.axhline(linear, color="0.5", linestyle="--", label="linear interpolation")
    left.set(xlabel="minutes of training", ylabel="denoise PSNR on held-out tissue, gain / dB")
    right.set(xlabel="minutes of training", ylabel="x4 slice restoration, PSNR in dB")
    for axes in (left, right):
        axes.legend(fontsize="small", frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1))
        axes.grid(alpha=0.3)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(HERE / "quality.png", dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("training", type=Path, nargs="+")
    args = parser.parse_args()
    found = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        region(args.data, folder)
        for training in args.training:
            log = {line["step"]: line for line in progress.read(training)}
            for prior in chosen(training):
                card = resolve(str(prior))
                line = log[card.facts["steps"]]
                figures = {n: restored(prior, n, folder) for n in (1, 4)}
                found.append(
                    {
                        "prior": card.name,
                        "parameters": card.facts["parameters"],
                        "steps": line["step"],
                        "minutes": round(line["seconds"] / 60, 1),
                        "denoise_psnr_db": line["psnr_db"],
                        "x4": figures,
                    }
                )
                print(json.dumps(found[-1]), flush=True)
    (HERE / "quality.json").write_text(json.dumps(found, indent=2) + "\n")
    (HERE / "quality.md").write_text(table(found))
    draw(found)


if __name__ == "__main__":
    main()
