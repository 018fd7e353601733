"""A cube on a GPU: seconds, the share of the device's own matrix rate, and how far its voxels are from a CPU's.

    python benchmarks/gpu.py [--size 128] [--steps 12] [--device cuda:0]

Isotropic restoration (x4 slice) from linear interpolation, by the shipped prior and by a network of the published size
(config/prior/em-generalist.yaml) with random weights, which cost as much as any others. The rate is what bfloat16
matrix products reach on this device, the share what the network's own sums are of it. Writes gpu.json and gpu.md; with
`--device cpu` it only shows that it works.
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
from scores import demo_volume, made_with
from torch.utils.flop_counter import FlopCounterMode

from emgen.arrays import isotropic
from emgen.networks.build import build
from emgen.networks.checkpoint import load, save
from emgen.sampling.tiles import origins
from emgen.training.recipe import read

HERE, FACTOR, SEED = Path(__file__).parent, 4, 0
PUBLISHED = HERE.parent / "config/prior/em-generalist.yaml"
SMALL = 16  # voxels on a side of what a CPU restores too


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


def row(prior: str, size: int, steps: int, device: str, rate: float) -> dict[str, Any]:
    """Figures of one network."""
    truth = demo_volume()
    whole = np.pad(truth, [(0, max(0, size - n)) for n in truth.shape], mode="reflect")
    y = measured(whole[:size, :size, :size], FACTOR, "slice", 0.0)
    how = {"prior": prior, "estimator": "linear", "steps": steps, "seed": SEED}

    def restored(voxels: np.ndarray, device: str, **more: Any) -> np.ndarray:
        block = (len(voxels) * FACTOR, *voxels.shape[1:])
        return isotropic(voxels, FACTOR, block=block, device=device, **how, **more).mean

    seconds = []
    for _ in range(3):
        begun = synchronised(device)
        restored(y, device)
        seconds.append(synchronised(device) - begun)
    card = load(prior)[1]
    done = operations(prior, size, card.tile) * size * steps
    part = y[: SMALL // FACTOR, :SMALL, :SMALL]
    here = restored(part, "cpu", precision="float32")
    off = {
        precision: float(np.abs(restored(part, device, precision=precision) - here).max())
        for precision in ("float32", "bfloat16")
    }
    return {
        "parameters": sum(p.numel() for p in load(prior)[0].parameters()),
        "seconds": min(seconds),
        "share": done / min(seconds) / rate,
        "off": off,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--device", default="cuda:0")
    args = parser.parse_args()
    if args.device != "cpu" and not torch.cuda.is_available():
        sys.exit(
            f"expected the device {args.device}, found no CUDA device here: nothing was measured. "
            "Start it on a GPU node; --device cpu shows that it works"
        )
    rate = matrix_rate(args.device)
    with tempfile.TemporaryDirectory() as folder:
        priors = {"emgen-small": "emgen-small", "published size": published_size(Path(folder))}
        rows = {
            name: row(prior, args.size, args.steps, args.device, rate)
            for name, prior in priors.items()
        }
    facts = {"size": args.size, "steps": args.steps, "rate": rate, "rows": rows, **made_with()}
    print(json.dumps(facts, indent=2))
    if args.device != "cpu":
        facts["device"] = torch.cuda.get_device_name(args.device)
        (HERE / "gpu.json").write_text(json.dumps(facts, indent=2) + "\n")
        write(facts)


def write(facts: dict[str, Any]) -> None:
    """`gpu.md`."""
    n = facts["size"]
    lines = [
        "# On a GPU",
        "",
        f"Made by `python benchmarks/gpu.py`: {facts['device']}, commit {facts['commit']}; {n} x {n} x {n} voxels, x{FACTOR} slice,",
        f"{facts['steps']} steps from linear interpolation, the least of three runs, reading and writing arrays included. Bfloat16 matrix",
        f"products reach {facts['rate'] / 1e12:.0f} TFLOP/s; the share is what the network's sums are of it. The largest difference from",
        "a CPU's float32, in grey values of 256.",
        "",
        "| | million weights | seconds | share | float32 off | bfloat16 off |",
        "|---|---|---|---|---|---|",
        *(
            f"| {name} | {r['parameters'] / 1e6:.1f} | {r['seconds']:.2f} | {r['share']:.0%} | {r['off']['float32']:.3f} | {r['off']['bfloat16']:.2f} |"
            for name, r in facts["rows"].items()
        ),
    ]
    (HERE / "gpu.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
