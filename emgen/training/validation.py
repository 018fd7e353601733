"""How well a prior denoises tissue that it never saw: what weights are chosen by."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from scipy import linalg
from torch import Tensor

from emgen.training import flow
from emgen.networks.prior import Prior

TIMES = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
MISSING = 0.5  # share of a time's noise that noisy tissue must lack to tell how well it is denoised
Psnr = dict[str, float]


@torch.inference_mode()
def denoise_psnr(prior: Prior, x: Tensor, noise: float = 0.0, batch: int = 8) -> Psnr:
    """PSNR in dB (range 2, [-1, 1]) of one network call from x_t, per t.

    Of tissue with white noise of that standard deviation, it is that of what lies behind the noise, which nobody saw,
    as x_t is made in `flow.loss`: E (k D + (1 - k) x_t / t - x)^2 = k^2 E (D - clean)^2 + k noise^2. Times
    at which the tissue brings most of the noise itself are left out.

    Args:
        prior: what denoises.
        x: tissue, (n, 1, h, w).
        noise: that it has.
        batch: planes that are denoised together.
    """
    eps = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).to(x.device)
    found = {}
    for t in TIMES:
        k = float(flow.missing(torch.tensor(t), torch.tensor(noise)))
        if k < MISSING:
            continue
        at = flow.at(x, k**0.5 * eps, torch.full((len(x),), t, device=x.device))
        errors = [
            k * flow.destination(part, prior.velocity(part, t).float(), t)
            + (1 - k) / t * part
            - seen
            for part, seen in zip(at.split(batch), x.split(batch), strict=True)
        ]
        left = float(torch.cat(errors).square().mean())
        # tissue may have less noise than was said: no more than 10 dB are put down to it
        square = max(left - k * noise**2, left / 10, 1e-12) / k**2
        found[str(t)] = round(float(10 * np.log10(4 / square)), 3)
    return found


def mean(by_source: Mapping[str, Psnr]) -> Psnr:
    """Per t or task, over the sources: noisy ones must not count for more than clean ones."""
    tasks = dict.fromkeys(task for each in by_source.values() for task in each)
    return {
        task: round(float(np.mean([each[task] for each in by_source.values() if task in each])), 3)
        for task in tasks
    }


def score(by_source: Mapping[str, Psnr]) -> float:
    """The mean in dB over sources of that over t, of which noisy ones have fewer: what checkpoints are chosen by."""
    return float(np.mean([np.mean(list(each.values())) for each in by_source.values()]))


def frechet_distance(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """Between Gaussians fitted to two sets of features (n, d): FID, where the features are Inception's.

    |m1 - m2|^2 + tr(C1 + C2 - 2 (C1 C2)^(1/2)); Heusel et al., NeurIPS 2017, arXiv 1706.08500.
    """
    means = [each.mean(0) for each in (one, other)]
    spreads = [np.atleast_2d(np.cov(each, rowvar=False)) for each in (one, other)]
    root = linalg.sqrtm(spreads[0] @ spreads[1]).real
    distance = np.square(means[0] - means[1]).sum() + np.trace(sum(spreads) - 2 * root)
    return float(distance)
