"""Which network, for the same CPU time? Trains each design for as many minutes of two cores and compares them.

    python benchmarks/prior/search.py DATA --minutes 2.5 [--only NAME ...]

DATA is a folder with the files that `config/prior/emgen-small.yaml` names. A line per design goes to
search.jsonl, the table of all that were tried to search.md (`--minutes 0` writes only that).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from designs import Normed, Plain, Wide, prior
from torch import nn

from emgen.networks.unet2d import UNet2DPrior
from emgen.training import flow, patches
from emgen.training.muon import Muon
from emgen.training.recipe import Patches, SourceRecipe
from emgen.training.training_volume import TrainingVolume
from emgen.training.validation import denoise_psnr, mean

HERE = Path(__file__).parent
SOURCES = {
    "fib25_a.tif@8": 4.0,
    "fib25_c.tif[0:190]@8": 9.0,
    "hemibrain_cube.tif[0:96]@8": 2.0,
    "platynereis.tif[0:32]@25,20,20": 1.5,
    "deepfocus_trio.tif[1:3]@40,4,4": 0.5,
}
HELD_OUT = {
    "fib25_c": ["fib25_c.tif[190:220]@8"],
    "others": [
        "gala.tif@10",
        "hemibrain_cube.tif[96:128]@8",
        "platynereis.tif[32:64]@25,20,20",
        "deepfocus_trio.tif[0:1]@40,4,4",
    ],
}

FINER = (32, 64, 128, 192)

# name: the network, and what differs in its training
DESIGNS: dict[str, tuple[Callable[[], nn.Module], dict[str, Any]]] = {
    "unet2d 32-64-96": (UNet2DPrior, {}),
    "plain 48-96-192": (lambda: prior(Plain), {}),
    "normed 48-96-192": (lambda: prior(Normed), {}),
    "normed 48-96-192, adam": (lambda: prior(Normed), {"muon": False, "rate": 1e-3}),
    "normed 48-96-192, late times only": (lambda: prior(Normed), {"late": 1.0}),
    "normed 48-96-192, uniform times": (lambda: prior(Normed), {"late": 0.0}),
    "normed 48-96-192, batch 8": (lambda: prior(Normed), {"batch": 8}),
    "normed 48-96-192, two layers": (lambda: prior(Normed, layers=2), {}),
    "normed 32-64-128-192": (lambda: prior(Normed, FINER), {}),
    "normed 96-192, unshuffle 4, two layers": (
        lambda: prior(Normed, (96, 192), layers=2, unshuffle=4),
        {},
    ),
    "wide 48-96-192, two layers": (lambda: prior(Wide, layers=2), {}),
    "gated 48-96-192, two layers": (lambda: prior(layers=2), {}),
    "gated 32-64-128-192, two layers": (lambda: prior(channels=FINER, layers=2), {}),
}


def optimisers(network: nn.Module, rate: float, muon: bool) -> list[torch.optim.Optimizer]:
    kernels = [p for p in network.parameters() if muon and p.ndim == 4 and min(p.shape[:2]) > 8]
    rest = [p for p in network.parameters() if not any(p is k for k in kernels)]
    found: list[torch.optim.Optimizer] = [
        torch.optim.AdamW(rest, lr=rate, betas=(0.9, 0.99), weight_decay=1e-2)
    ]
    if kernels:
        found.append(Muon(kernels, 0.02, 0.01))
    return found


def train(
    network: nn.Module,
    sources: list[TrainingVolume],
    seconds: float,
    *,
    rate: float = 5e-4,
    muon: bool = True,
    bf16: bool = True,
    batch: int = 16,
    size: int = 64,
    late: float = 0.5,
) -> tuple[nn.Module, int, float]:
    """Train for so many seconds of an idle machine: warm-up, constant, and linear decay over the last half.

    The number of steps is settled by the fastest of the first 40, which other programs disturb least.
    """
    average = torch.optim.swa_utils.AveragedModel(
        network, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.995)
    )
    opts = optimisers(network, rate, muon)
    bases = [[group["lr"] for group in opt.param_groups] for opt in opts]
    draw = patches.Draw(tuple(sources), tuple(SOURCES.values()), Patches(size=size), seed=0)
    fastest, steps, step = float("inf"), 10**9, 0
    while step < steps:
        begun = time.perf_counter()
        generator = torch.Generator().manual_seed(step)
        x, own = (torch.from_numpy(part) for part in patches.batch(draw, step, range(batch)))
        eps, t = torch.randn(x.shape, generator=generator), flow.times(len(x), late, generator)
        for opt, base in zip(opts, bases, strict=True):
            for group, lr in zip(opt.param_groups, base, strict=True):
                group["lr"] = lr * min(1.0, (step + 1) / 100, 2 * (1 - step / steps))
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            loss = flow.loss(network, x, eps, t, own)
        network.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        for opt in opts:
            opt.step()
        step += 1
        if step >= 20:
            average.update_parameters(network)
        fastest = min(fastest, time.perf_counter() - begun)
        if step == 40:
            steps = max(round(seconds / fastest), 40)
    return average.module, step, 1000 * fastest


@torch.inference_mode()
def milliseconds(network: Any, bf16: bool) -> float:
    """Of a 128 x 128 call, in batches of eight: the fastest."""
    x, found = torch.randn(8, 1, 128, 128), []
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        for _ in range(16):
            begun = time.perf_counter()
            network.velocity(x, 0.5)
            found.append(time.perf_counter() - begun)
    return round(1000 * min(found) / 8, 1)


def source(text: str, folder: Path) -> TrainingVolume:
    """From "file.tif[z0:z1]@voxel"."""
    name, voxel = text.split("@")
    name, _, sections = name.rstrip("]").partition("[")
    recipe = SourceRecipe(
        path=name,
        voxel_size_nm=tuple(float(v) for v in (voxel.split(",") * 3)[:3]),
        sections=tuple(int(n) for n in sections.split(":")) if sections else None,
    )
    return TrainingVolume.open(recipe, folder, 96)


def rows(args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    sources = [source(text, args.data) for text in SOURCES]
    held_out = {
        name: [
            torch.from_numpy(patches.fixed(source(t, args.data), 48 // len(texts), 96))
            for t in texts
        ]
        for name, texts in HELD_OUT.items()
    }
    for name in args.only or DESIGNS:
        build, settings = DESIGNS[name]
        torch.manual_seed(0)
        network = build()
        network, steps, ms = train(network, sources, 60 * args.minutes, **settings)
        network.eval()
        yield {
            "design": name,
            "minutes": args.minutes,
            "steps": steps,
            "step_ms": round(ms),
            "parameters": sum(p.numel() for p in network.parameters()),
            "ms": milliseconds(network, False),
            "ms_bf16": milliseconds(network, True),
            **{
                key: mean({str(i): denoise_psnr(network, x) for i, x in enumerate(parts)})
                for key, parts in held_out.items()
            },
        }


def table(found: list[dict[str, Any]]) -> str:
    """Every design as a row of Markdown, the best on held-out FIB-25 first."""
    times = ("0.5", "0.7", "0.8", "0.9", "0.95")
    lines = [
        "| design | million weights | ms, float32 | ms, bfloat16 | ms a step | steps | FIB-25, t = "
        + " | ".join(times)
        + " | other tissue, t = 0.8 |",
        "|---|" + "---|" * (len(times) + 6),
    ]
    for row in sorted(found, key=lambda row: -sum(row["fib25_c"][t] for t in times)):
        values = " | ".join(f"{row['fib25_c'][t]:.2f}" for t in times)
        lines.append(
            f"| {row['design']} | {row['parameters'] / 1e6:.1f} | {row['ms']} | {row['ms_bf16']} | {row['step_ms']} "
            f"| {row['steps']} | {values} | {row['others']['0.8']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--minutes", type=float, default=2.5)
    parser.add_argument("--only", nargs="*")
    args = parser.parse_args()
    for row in rows(args) if args.minutes else ():
        print(json.dumps(row), flush=True)
        with (HERE / "search.jsonl").open("a") as file:
            file.write(json.dumps(row) + "\n")
    found = [json.loads(line) for line in (HERE / "search.jsonl").read_text().splitlines()]
    (HERE / "search.md").write_text(table(found))


if __name__ == "__main__":
    main()
