"""Small runs of every mode, section model, sampler and kind of noise, whose voxels are kept in tests/golden/.

`python tests/golden_runs.py` writes them anew, which a raised METHOD must go with.
"""

from __future__ import annotations

import json
import platform
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from emgen import arrays
from emgen.geometry import Box
from emgen.physics.psf import gaussian
from emgen.run.plan import METHOD
from emgen.volumes.volume import Volume

ROOT = Path(__file__).parent.parent
GOLDEN = Path(__file__).parent / "golden"
ARRAYS, FACTS = GOLDEN / "voxels.npz", GOLDEN / "facts.json"
SMALL = {"block": (16, 16, 32), "halo": (4, 6, 8)}
FLAT = {"block": (1, 32, 32), "halo": (0, 8, 8)}
SHOT = {"gain": 0.6, "sigma": 3.0, "black": 10.0}
TURNED = {"sigma": [1.6, 0.9], "angle": 30.0}

# name: function, arguments, whether white noise is added to the tissue first, and shared with the pixel beside
RUNS: dict[str, tuple[str, dict[str, Any], str]] = {
    "isotropic slice": ("isotropic", {"factor": 4, **SMALL}, ""),
    "isotropic slice, two samples": ("isotropic", {"factor": 4, "samples": 2, "steps": 2}, ""),
    "isotropic slice, noise": ("isotropic", {"factor": 4, "noise": 12.0}, "white"),
    "isotropic slice, poisson": ("isotropic", {"factor": 4, "noise": "poisson"}, "shot"),
    "isotropic slice, gain": ("isotropic", {"factor": 4, "noise": SHOT}, "shot"),
    "isotropic slice, correlated": ("isotropic", {"factor": 4, "noise": "correlated"}, "shared"),
    "isotropic slice, linear": ("isotropic", {"factor": 4, "estimator": "linear", "steps": 3}, ""),
    "isotropic slice, lost": ("isotropic", {"factor": 3, "lost": (2,)}, ""),
    "isotropic slice, em-generalist": (
        "isotropic",
        {"factor": 4, "sampler": "em-generalist", "steps": 6},
        "",
    ),
    "isotropic slice, em-generalist, lost": (
        "isotropic",
        {"factor": 4, "sampler": "em-generalist", "steps": 6, "lost": (1,)},
        "",
    ),
    "isotropic slice, dps": ("isotropic", {"factor": 4, "sampler": "dps", "steps": 6}, ""),
    "isotropic mean": ("isotropic", {"factor": 4, "section": "mean", **SMALL}, ""),
    "isotropic mean, noise, lost": (
        "isotropic",
        {"factor": 4, "section": "mean", "noise": 8.0, "lost": (3,)},
        "white",
    ),
    "isotropic mean, em-generalist": (
        "isotropic",
        {"factor": 4, "section": "mean", "sampler": "em-generalist", "steps": 6},
        "",
    ),
    "isotropic gaussian": ("isotropic", {"factor": 4, "section": "gaussian"}, ""),
    "denoise": ("denoise", {}, "white"),
    "denoise, one section": ("denoise", {"one": True, **FLAT}, "white"),
    "denoise, given": ("denoise", {"noise": 12.0, "lost": (1,)}, "white"),
    "denoise, two samples": ("denoise", {"samples": 2, "steps": 2}, "white"),
    "denoise, poisson": ("denoise", {"noise": "poisson"}, "shot"),
    "denoise, gain": ("denoise", {"noise": SHOT}, "shot"),
    "denoise, correlated": ("denoise", {"noise": "correlated"}, "shared"),
    "denoise, correlated, one section": ("denoise", {"noise": "correlated", "one": True}, "shared"),
    "denoise, linear": ("denoise", {"estimator": "linear"}, "white"),
    "denoise, em-generalist": ("denoise", {"sampler": "em-generalist", "steps": 6}, "white"),
    "denoise, dps": ("denoise", {"sampler": "dps", "steps": 6}, "white"),
    "superres 2": ("superres", {"factor": 2}, ""),
    "superres 3, noise, two samples": (
        "superres",
        {"factor": 3, "noise": 6.0, "samples": 2},
        "white",
    ),
    "superres 2, em-generalist": (
        "superres",
        {"factor": 2, "sampler": "em-generalist", "steps": 6},
        "",
    ),
    "deblur": ("deblur", {"psf": 1.5, "steps": 3}, ""),
    "deblur, turned, poisson": ("deblur", {"psf": TURNED, "noise": "poisson", "steps": 3}, "shot"),
    "deblur, kernel, lost": ("deblur", {"psf": gaussian(1.2, 1.2), "steps": 3, "lost": (2,)}, ""),
    "deblur, dps": ("deblur", {"psf": 1.5, "sampler": "dps", "steps": 6}, ""),
}


def processor() -> str:
    """What decides the last bits of a float: the processor and the version of torch."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    facts = dict(
        reversed([re.split(r"\s*:\s*", line, maxsplit=1) for line in lines if ":" in line])
    )
    names = ("model name", "cpu family", "model", "stepping")
    kind = ", ".join(facts.get(name, "") for name in names) if facts else platform.processor()
    release = torch.__version__.split("+")[0]
    return f"{kind}, {torch.backends.cpu.get_cpu_capability()}, torch {release}"


def tissue(noise: str, flat: bool) -> np.ndarray:
    """A corner of the demo's FIB-SEM crop, uint8, with noise of a kind."""
    size = (5, 40, 40) if flat else (6, 24, 40)
    corner = Box((40, 10, 20), (40 + size[0], 10 + size[1], 20 + size[2]))
    clean = Volume.open(ROOT / "demo/reference.ome.zarr").read(corner).astype(np.float64)
    fresh = np.random.default_rng(7).standard_normal(clean.shape)
    match noise:
        case "":
            noisy = clean
        case "white":
            noisy = clean + 12 * fresh
        case "shot":
            noisy = clean + fresh * np.sqrt(0.6 * np.maximum(clean - 10, 0) + 9)
        case _:
            noisy = clean + 14 * (fresh + np.roll(fresh, 1, axis=2)) / 2**0.5
    return noisy.round().clip(0, 255).astype(np.uint8)


def restored(name: str) -> dict[str, np.ndarray]:
    """The voxels of a run: mean, and std where it has several samples."""
    mode, settings, noise = RUNS[name]
    voxels = tissue(noise, flat=mode != "isotropic")
    if settings.get("one"):
        voxels = voxels[2]
    given = {key: value for key, value in settings.items() if key != "one"}
    found = getattr(arrays, mode)(voxels, workers=1, **given)
    spread = {} if found.std is None else {"std": stored(found.std)}
    return {"mean": found.mean, **spread}


def stored(std: np.ndarray) -> np.ndarray:
    """A spread in sixteenths of a grey value, as uint8."""
    return (16 * std).round().clip(0, 255).astype(np.uint8)


def golden() -> dict[str, np.ndarray]:
    """The voxels that are kept, by run and field."""
    with np.load(ARRAYS) as kept:
        return dict(kept)


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    fresh = {f"{name}: {field}": v for name in RUNS for field, v in restored(name).items()}
    if FACTS.exists():
        before, kept = json.loads(FACTS.read_text()), golden()
        changed = [
            key for key in kept if key in fresh and not np.array_equal(kept[key], fresh[key])
        ]
        if changed and before["processor"] == processor() and before["method"] == METHOD:
            sys.exit(f"voxels differ while METHOD is still {METHOD}: raise it first ({changed})")
    np.savez_compressed(ARRAYS, **fresh)
    FACTS.write_text(json.dumps({"method": METHOD, "processor": processor()}, indent=2) + "\n")


if __name__ == "__main__":
    main()
