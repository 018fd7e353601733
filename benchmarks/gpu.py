"""A cube on a GPU, eager and compiled: seconds a block, share of the device's matrix rate, how far voxels are apart.

    python benchmarks/gpu.py [--size 128] [--device cuda:0] [--job 512]

Isotropic restoration (x4 slice) of one block by `emgen.run.restore`, from measured voxels to stored ones: by the
shipped networks with the defaults, by the shipped prior from linear interpolation, and by a prior of the published
size (config/prior/em-generalist.yaml) with random weights, which cost as much as any others. Then a restore job over a
volume of `--job` voxels on a side, reading, halos and writing included. The rate is what bfloat16 matrix products
reach on this device, the share what the prior's own sums are of it. Writes gpu.json and gpu.md; with `--device cpu` it
only shows that it works.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from isotropic import measured
from scores import demo_volume, made_with, psnr
from torch.utils.flop_counter import FlopCounterMode

from emgen.arrays import isotropic
from emgen.config.run import parse
from emgen.geometry import Box, VoxelSize
from emgen.networks.build import build
from emgen.networks.checkpoint import load, save
from emgen.networks.device import fixed_arithmetic
from emgen.run.job import restore_job
from emgen.run.plan import Plan, make
from emgen.run.resolve import resolve
from emgen.run.restore import Restorer
from emgen.sampling import philox
from emgen.sampling.tiles import origins
from emgen.training.recipe import read
from emgen.volumes.volume import Volume

HERE, FACTOR, SEED = Path(__file__).parent, 4, 0
PUBLISHED = HERE.parent / "config/prior/em-generalist.yaml"
SMALL = 16  # voxels on a side of what a CPU restores too
TIMES = 10  # runs of a block, of which the median counts
MIRRORED = 160  # voxels on a side of the cube that a job's volume is mirrored from
STEPS = 12  # calls of the prior from linear interpolation


def published_size(folder: Path) -> str:
    """Path of a prior as large as the published one, whose weights are random."""
    torch.manual_seed(SEED)
    recipe = read(str(PUBLISHED))
    path = folder / "random.safetensors"
    save(build(recipe.architecture), path, "random", recipe.architecture, {})
    return str(path)


def synchronised(device: str) -> float:
    if device != "cpu":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def matrix_rate(device: str) -> float:
    """Operations a second of bfloat16 matrix products, the best of several."""
    n, times = (8192, 20) if device != "cpu" else (512, 3)
    a, b = (torch.randn(n, n, device=device, dtype=torch.bfloat16) for _ in range(2))
    best = 0.0
    for _ in range(4):
        begun = synchronised(device)
        for _ in range(times):
            a @ b
        best = max(best, 2 * n**3 * times / (synchronised(device) - begun))
    return best


def operations(prior: str, size: int, tile: int | None) -> float:
    """Of one plane of size x size, a multiplication and an addition counted as two."""
    network, _ = load(prior)
    side = tile or size
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.velocity(torch.zeros(1, 1, side, side), 0.5)
    return float(counter.get_total_flops()) * (len(origins(size, tile, 16)) ** 2 if tile else 1)


def cube(size: int) -> np.ndarray:
    """A cube of the demo's tissue, mirrored where it is smaller."""
    truth = demo_volume()
    whole = np.pad(truth, [(0, max(0, size - n)) for n in truth.shape], mode="reflect")
    return whole[:size, :size, :size]


def timed(plan: Plan, y: np.ndarray, device: str, compiled: bool) -> tuple[dict[str, float], Any]:
    """Seconds of a block: the first, with loading and compiling, and the median of those that follow; its voxels."""
    restorer, whole = Restorer(plan, device, compiled=compiled), Box.whole(plan.shape)
    seconds = []
    with fixed_arithmetic(plan.config.restore.precision):
        for _ in range(1 + TIMES if device != "cpu" else 2):
            begun = synchronised(device)
            voxels = restorer.block(whole, y)["mean"]
            seconds.append(synchronised(device) - begun)
    return {"first": seconds[0], "seconds": float(np.median(seconds[1:]))}, voxels


def row(size: int, device: str, rate: float, **how: Any) -> dict[str, Any]:
    """Figures of one choice of networks and steps."""
    truth = cube(size)
    y = np.rint(measured(truth, FACTOR, "slice", 0.0)).astype(np.uint8)
    block = {"block": truth.shape, "halo": (0, 0, 0)}
    plan = isotropic(y, FACTOR, device=device, seed=SEED, **block, **how).plan
    network, card = load(plan.prior["weights"])
    done = operations(plan.prior["weights"], size, card.tile) * size * plan.mode.steps
    found: dict[str, Any] = {"million weights": sum(p.numel() for p in network.parameters()) / 1e6}
    results = {}
    for name, compiled in (("eager", False), ("compiled", True)):
        times, results[name] = timed(plan, y, device, compiled)
        share = done / times["seconds"] / rate
        found[name] = {**times, "share": share, "psnr": psnr(truth, results[name])}
    apart = np.abs(results["eager"].astype(float) - results["compiled"])
    return {**found, "apart": float(apart.max()), "mean apart": float(apart.mean())}


def off_a_cpu(device: str) -> dict[str, float]:
    """Largest difference of a small cube from a CPU's float32, in grey values, by precision."""
    y = measured(cube(SMALL), FACTOR, "slice", 0.0)

    def restored(device: str, precision: str) -> np.ndarray:
        return isotropic(y, FACTOR, device=device, precision=precision, seed=SEED).mean

    here = restored("cpu", "float32")
    precisions = ("float32", "bfloat16")
    return {p: float(np.abs(restored(device, p) - here).max()) for p in precisions}


def noise_seconds(size: int, device: str) -> float:
    """Of the noise of one step."""
    seconds = []
    for step in range(TIMES):
        begun = synchronised(device)
        philox.normal(SEED, 0, step, Box.whole((size, size, size)), device)
        seconds.append(synchronised(device) - begun)
    return float(np.median(seconds))


def job(side: int, device: str, folder: Path) -> dict[str, Any]:
    """A restore job over a volume: its seconds, and output voxels a second after the first blocks."""
    tissue = cube(min(side, MIRRORED))
    y = np.rint(measured(tissue, FACTOR, "slice", 0.0)).astype(np.uint8)
    shape = (side // FACTOR, side, side)
    whole = np.pad(y, [(0, n - m) for n, m in zip(shape, y.shape, strict=True)], mode="reflect")
    volume = Volume.create(
        folder / "measured.ome.zarr", shape, "uint8", VoxelSize(8.0 * FACTOR, 8.0, 8.0)
    )
    volume.write(Box.whole(shape), whole)
    block = min(side, 128)
    config = {
        "run": "benchmark",
        "input": {"volume": str(folder / "measured.ome.zarr")},
        "restore": {"factor": FACTOR, "seed": SEED},
        "grid": {"block": [block] * 3, "halo": [16] * 3, "blocks_per_job": 1 << 20},
        "output": {"chunk": [64] * 3, "shard": [block] * 3},
    }
    plan, ends = make(resolve(parse(config))), []
    begun = time.perf_counter()
    facts = restore_job(
        plan, 0, folder / "run", device, 1, lambda text: ends.append(time.perf_counter())
    )
    half = len(ends) // 2
    rate = (len(ends) - 1 - half) * block**3 / (ends[-1] - ends[half]) if half else None
    return {"blocks": facts["blocks"], "seconds": ends[-1] - begun, "voxels a second": rate}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--device", default="cuda:0")
    parser.add_argument("--job", type=int, default=512)
    args = parser.parse_args()
    if args.device != "cpu" and not torch.cuda.is_available():
        sys.exit(
            f"expected the device {args.device}, found no CUDA device here: nothing was measured. "
            "Start it on a GPU node; --device cpu shows that it works"
        )
    rate = matrix_rate(args.device)
    with tempfile.TemporaryDirectory() as folder:
        linear = {"estimator": "linear", "steps": STEPS}
        choices: dict[str, dict[str, Any]] = {
            "shipped, defaults": {},
            f"shipped, linear, {STEPS} steps": linear,
            f"published size, linear, {STEPS} steps": {
                "prior": published_size(Path(folder)),
                **linear,
            },
        }
        rows = {}
        for name, how in choices.items():
            rows[name] = row(args.size, args.device, rate, **how)
            print(name, json.dumps(rows[name]), flush=True)
        facts = {
            "size": args.size,
            "rate": rate,
            "rows": rows,
            "noise": noise_seconds(args.size, args.device),
            "off": off_a_cpu(args.device),
            "job": {"side": args.job, **job(args.job, args.device, Path(folder))},
            **made_with(),
        }
    print(json.dumps(facts, indent=2))
    if args.device != "cpu":
        facts["device"] = torch.cuda.get_device_name(args.device)
        (HERE / "gpu.json").write_text(json.dumps(facts, indent=2) + "\n")
        write(facts)


def write(facts: dict[str, Any]) -> None:
    """`gpu.md`."""
    n, job_of = facts["size"], facts["job"]
    lines = [
        "# On a GPU",
        "",
        f"Made by `python benchmarks/gpu.py`: {facts['device']}, commit {facts['commit']}; one block of {n} x {n} x {n} voxels, x{FACTOR} slice,",
        f"bfloat16, from measured voxels to stored ones, the median of {TIMES}; in brackets the first, with loading and compiling. Bfloat16",
        f"matrix products reach {facts['rate'] / 1e12:.0f} TFLOP/s; the share is what the prior's sums are of it. Apart: the largest and the mean",
        "difference between eager and compiled, in grey values of 256.",
        "",
        "| | million weights | eager, s | compiled, s | share | PSNR eager, compiled, dB | apart |",
        "|---|---|---|---|---|---|---|",
        *(
            f"| {name} | {r['million weights']:.1f} | {r['eager']['seconds']:.3f} ({r['eager']['first']:.1f}) "
            f"| {r['compiled']['seconds']:.3f} ({r['compiled']['first']:.1f}) | {r['eager']['share']:.0%}, {r['compiled']['share']:.0%} "
            f"| {r['eager']['psnr']:.3f}, {r['compiled']['psnr']:.3f} | {r['apart']:.0f}, {r['mean apart']:.4f} |"
            for name, r in facts["rows"].items()
        ),
        "",
        f"The noise of one step takes {1e3 * facts['noise']:.2f} ms. A small cube is off a CPU's float32 by at most "
        f"{facts['off']['float32']:.3f} grey values in float32, {facts['off']['bfloat16']:.2f} in bfloat16.",
        "",
        f"A restore job of {job_of['blocks']} blocks ({job_of['side']} voxels on a side, blocks of 128 with a halo of 16) takes {job_of['seconds']:.1f} s "
        "with loading and compiling,",
        f"and its second half runs at {(job_of['voxels a second'] or 0) / 1e6:.1f} million output voxels a second, reading, halos and writing included.",
    ]
    (HERE / "gpu.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
