"""How well a prior denoises tissue that it never saw: what weights are chosen by."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from emgen.sampling.flow import x1_prediction
from emgen.training import flow
from emgen.training.flow import Network

TIMES = (0.3, 0.5, 0.7, 0.8, 0.9, 0.95)
# Fraction of the path's noise variance that noisy tissue must lack, to tell how well it is denoised: with less, the error
# is mostly its own noise.
LEAST_DEFICIT = 0.5
Psnr = dict[str, float]


@torch.inference_mode()
def denoise_psnr(network: Network, x: Tensor, noise: float = 0.0, batch: int = 8) -> Psnr:
    """PSNR in dB (range 2, [-1, 1]) of one network call from x_t, for every time t.

    Of tissue with white noise it is that of the clean tissue behind the noise, which nobody saw. With x_t as in
    `flow.loss`, E (k D + (1 - k) x_t / t - x)^2 = k^2 E (D - clean)^2 + k noise^2. Times at which the tissue brings
    most of the noise itself are left out.

    Args:
        network: the velocity of planes (n, 1, h, w) at times (n,).
        x: tissue, (n, 1, h, w), in the prior's half range.
        noise: standard deviation of its white noise, in the prior's half range.
        batch: planes that are denoised together.
    """
    eps = torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).to(x.device)
    psnr = {}
    for t in TIMES:
        k = float(flow.noise_deficit(torch.tensor(t), torch.tensor(noise)))
        if k < LEAST_DEFICIT:
            continue
        x_t = flow.interpolant(x, k**0.5 * eps, torch.full((len(x),), t, device=x.device))
        errors = [
            k * x1_prediction(part, _velocity(network, part, t), t) + (1 - k) / t * part - tissue
            for part, tissue in zip(x_t.split(batch), x.split(batch), strict=True)
        ]
        total = float(torch.cat(errors).square().mean())
        # tissue may have less noise than was said: no more than 10 dB are put down to it
        square = max(total - k * noise**2, total / 10, 1e-12) / k**2
        psnr[str(t)] = round(float(10 * np.log10(4 / square)), 3)
    return psnr


def _velocity(network: Network, x: Tensor, t: float) -> Tensor:
    return network(x, torch.full((len(x),), t, device=x.device)).float()


def mean(by_source: Mapping[str, Psnr]) -> Psnr:
    """Per t or task, over the sources: noisy ones must not count for more than clean ones."""
    tasks = dict.fromkeys(task for psnr in by_source.values() for task in psnr)
    return {
        task: round(float(np.mean([psnr[task] for psnr in by_source.values() if task in psnr])), 3)
        for task in tasks
    }


def score(by_source: Mapping[str, Psnr]) -> float:
    """The mean in dB over sources of that over t, of which noisy ones have fewer: what checkpoints are chosen by."""
    return float(np.mean([np.mean(list(psnr.values())) for psnr in by_source.values()]))

