"""How near a restored volume is to the truth: the figures of every table here."""

import json
import os
import platform
import subprocess
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import tifffile

from emgen.errors import EmgenError
from emgen.geometry import Box, VoxelSize
from emgen.qc import fourier
from emgen.qc.axes import PLANES, Plane
from emgen.qc.grey_errors import error_sums, ssim_sums
from emgen.qc.object_errors import contingency, error_counts, voi
from emgen.qc.segmenter import segment
from emgen.volumes.intensity import Intensity
from emgen.volumes.volume import Volume

DEMO = Path(__file__).parent.parent / "demo"
RANGE = 255.0  # of grey values, for PSNR and SSIM


def demo_volume(name: str = "reference") -> np.ndarray:
    """The demo's FIB-SEM crop (96, 160, 160) at 8 nm, or its neurons: no shipped network was trained on it."""
    volume = Volume.open(DEMO / f"{name}.ome.zarr")
    return volume.read(Box.whole(volume.shape))


def psnr(truth: np.ndarray, restored: np.ndarray) -> float | None:
    """Peak signal-to-noise ratio in dB over 255 grey values; infinity for equal volumes."""
    return error_sums(truth, restored).psnr(RANGE)


def mean_ssim(truth: np.ndarray, restored: np.ndarray) -> dict[Plane, float | None]:
    """Mean SSIM of the slices of every orientation; None where they are smaller than its window."""
    sums = ssim_sums(truth, restored, RANGE)
    return {plane: sums.mean(plane) for plane in PLANES}


def scores(
    truth: np.ndarray, restored: np.ndarray, voxel: VoxelSize, neurons: np.ndarray | None = None
) -> dict[str, Any]:
    """PSNR, SSIM, FSC at 0.5 in nm, power of fine detail over the truth's and, with neurons, VOI.

    "consistency" is the VOI between the segmentations of both volumes, "voi" that between the segmentation of the
    restored one and the neurons, both as [split, merge] in bits.
    """
    truth = truth.astype(np.float32)
    restored = np.clip(restored.astype(np.float32), 0, RANGE)
    sums = fourier.shell_sums(truth, restored, voxel)
    ssim = mean_ssim(truth, restored)
    figures: dict[str, Any] = {
        "psnr": psnr(truth, restored),
        "ssim_xy": ssim["xy"],
        "ssim_xz": np.mean(
            [value for value in (ssim["xz"], ssim["yz"]) if value is not None] or [0.0]
        ),
    }
    for sector in ("spherical", "axial", "lateral"):
        figures[f"fsc_{sector}"] = fourier.resolution(fourier.curve(sums, sector)).value_nm
        figures[f"power_{sector}"] = fourier.power_ratio(sums, sector)
    if neurons is not None:
        scale = Intensity.of([truth])
        own = segment(restored, voxel, low=scale.low, high=scale.high)
        other = _segmented(truth.tobytes(), truth.shape, voxel)
        figures["consistency"] = voi(contingency(other, own))
        figures["voi"] = voi(contingency(neurons, own))
        counts = error_counts(contingency(neurons, own))
        figures["split"], figures["merged"], figures["objects"] = (
            counts.split,
            counts.merged,
            counts.objects,
        )
    return json.loads(json.dumps(figures, default=float))


@lru_cache(maxsize=4)
def _segmented(voxels: bytes, shape: tuple[int, ...], voxel: VoxelSize) -> np.ndarray:
    """The truth's own segmentation, which every row of a table is compared with."""
    truth = np.frombuffer(voxels, np.float32).reshape(shape)
    scale = Intensity.of([truth])
    return segment(truth, voxel, low=scale.low, high=scale.high)


def coverage(
    truth: np.ndarray, mean: np.ndarray, std: np.ndarray, error_variance_ratio: float
) -> list[float]:
    """Shares of the voxels that vary whose truth lies within 1, 2 and 3 standard deviations.

    With few samples the deviation itself is uncertain: were errors normal and the spread right, they would be those
    of Student's t with samples - 1 degrees of freedom.
    """
    varies = std > 0
    off = np.abs(mean.astype(np.float64) - truth)[varies] / std[varies] / error_variance_ratio**0.5
    return [round(float((off <= k).mean()), 3) for k in (1, 2, 3)]


def section_scores(truth: np.ndarray, restored: np.ndarray, voxel: VoxelSize) -> dict[str, Any]:
    """PSNR, SSIM and Fourier ring correlation at 0.5 (nm) of sections (n, y, x) that do not belong together."""
    truth = truth.astype(np.float32)
    restored = np.clip(restored.astype(np.float32), 0, RANGE)
    pairs = list(zip(truth[:, None], restored[:, None], strict=True))
    sums = [fourier.shell_sums(a, b, voxel) for a, b in pairs]
    total = sums[0]
    for section in sums[1:]:
        total = total + section
    return {
        "psnr": psnr(truth, restored),
        "ssim": float(np.mean([mean_ssim(a, b)["xy"] for a, b in pairs])),
        "frc_nm": fourier.resolution(fourier.curve(total, "lateral")).value_nm,
        "power": fourier.power_ratio(total, "lateral"),
    }


def others(
    folder: Path, file: str, measured: np.ndarray, shape: tuple[int, ...]
) -> dict[str, np.ndarray]:
    """What other programs made of `measured`, which is written as FOLDER/inputs/FILE; read as FOLDER/NAME/FILE, by name.

    Raises `EmgenError` where a result has another shape than `shape`.
    """
    inputs = folder / "inputs"
    inputs.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(inputs / file, measured, photometric="minisblack")
    images: dict[str, np.ndarray] = {}
    for path in sorted(folder.glob(f"*/{file}")):
        if path.parent == inputs:
            continue
        image = tifffile.imread(path).astype(np.float32)
        if image.shape != shape:
            raise EmgenError(
                f"{path} has shape {image.shape}; expected {shape}, what {inputs / file} shows, restored"
            )
        images[path.parent.name] = image
    if not images:
        print(
            f"{folder}: no results of other programs for {file}; restore {inputs / file} with SCUNet, EMDiffuse or another "
            f"(their code and weights are not part of emgen) and save them as {folder}/NAME/{file}, shape {shape}"
        )
    return images


def made_with() -> dict[str, str]:
    """Commit and machine, for the foot of a table; "-dirty" where what is measured is not as in the commit."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], capture_output=True, text=True, cwd=Path(__file__).parent, check=False
        )
        return done.stdout.strip()

    changed = git(
        "status", "--porcelain", "--", "../emgen", "../demo", "../rules", "../scripts", "*.py"
    )
    commit = git("rev-parse", "--short", "HEAD") + ("-dirty" if changed else "")
    name = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = [x for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x]
        name = lines[0].split(":")[1].strip() if lines else name
    return {"commit": commit, "machine": f"{os.cpu_count()} cores, {name}"}


class Rows:
    """Rows of a table, in a file with a line for each: what is there is not measured again."""

    def __init__(self, path: Path, keys: tuple[str, ...]) -> None:
        self.path, self.keys = path, keys

    def read(self) -> list[dict[str, Any]]:
        lines = self.path.read_text().splitlines() if self.path.exists() else []
        return [json.loads(line) for line in lines]

    def missing(self, **key: Any) -> bool:
        values = [key[name] for name in self.keys]
        return all([row[name] for name in self.keys] != values for row in self.read())

    def add(self, **row: Any) -> None:
        with self.path.open("a") as file:
            file.write(json.dumps({**row, **made_with()}) + "\n")
        print({name: row[name] for name in self.keys}, row.get("psnr"), flush=True)
