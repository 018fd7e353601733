"""Frechet distance between unconditional samples of a prior and real held-out patches.

    python benchmarks/prior/fid.py RECIPE --data FOLDER --prior NAME --features NETWORK.pt

NETWORK.pt is a TorchScript module of your choice, such as an Inception exported for pytorch-fid: it gets
(n, 3, 128, 128) in [0, 1] and returns (n, features). None is shipped. Printed are also the distances between two halves
of the real patches, the least that can be reached with so few, and of pure noise.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from scipy import linalg
from torch import Tensor

from emgen.errors import EmgenError
from emgen.networks.checkpoint import load
from emgen.training import flow, patches, recipe
from emgen.training.training_volume import TrainingVolume

SIZE, BATCH = 128, 16

Features = Callable[[Tensor], Tensor]


def features(network: Features, x: Tensor) -> np.ndarray:
    """(n, features) of planes x (n, 1, h, w) in [-1, 1]."""
    grey = ((x.clamp(-1, 1) + 1) / 2).expand(-1, 3, -1, -1)
    with torch.inference_mode():
        return torch.cat([network(part) for part in grey.split(BATCH)]).double().numpy()


def frechet_distance(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """Between Gaussians fitted to two sets of features (n, d): FID, where the features are Inception's.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)); Heusel et al., NeurIPS 2017, arXiv 1706.08500.
    """
    means = [values.mean(0) for values in (one, other)]
    spreads = [np.atleast_2d(np.cov(values, rowvar=False)) for values in (one, other)]
    root = linalg.sqrtm(spreads[0] @ spreads[1]).real
    distance = np.square(means[0] - means[1]).sum() + np.trace(sum(spreads) - 2 * root)
    return float(distance)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--prior", default="emgen-small")
    parser.add_argument("--features", type=Path, required=True)
    parser.add_argument("--count", type=int, default=256)
    parser.add_argument("--steps", type=int, default=50)
    args = parser.parse_args()
    network = torch.jit.load(str(args.features)).eval()
    found = recipe.read(args.recipe, data=args.data)
    sources = []
    for each in found.validation:
        try:
            sources.append(TrainingVolume.open(each, Path(found.data), SIZE))
        except EmgenError as error:
            print(f"left out: {error}")
    count = -(-2 * args.count // len(sources))
    real = np.concatenate([patches.fixed(source, count, SIZE) for source in sources])
    order = np.random.default_rng(0).permutation(len(real))[: 2 * args.count]
    halves = torch.from_numpy(real[order]).chunk(2)
    prior, card = load(args.prior)
    noise = torch.randn((args.count, 1, SIZE, SIZE), generator=torch.Generator().manual_seed(0))
    samples = torch.cat([flow.sample(prior, part, args.steps) for part in noise.split(BATCH)])
    target = features(network, halves[0])
    result = {
        "prior": card.name,
        "steps": card.facts.get("steps"),
        "features": args.features.name,
        "count": args.count,
        "samples": frechet_distance(features(network, samples), target),
        "other real patches": frechet_distance(features(network, halves[1]), target),
        "noise": frechet_distance(features(network, noise), target),
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
