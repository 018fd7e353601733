"""The rival of `isotropic.py`: a U-Net trained on the measured volume's own sections, for each volume anew.

As IsotropicCARE (Weigert et al., MICCAI 2017, arXiv 1704.01510): sections are sharp in the plane, so rows are taken
from them as sections are from the volume, and a network learns to put them back; it is then applied to xz and yz
planes, and both results are averaged. The network is the one of our estimator, without context.
"""

import copy
import time

import numpy as np
import torch

from emgen.networks.estimator import Estimator, context_stack
from emgen.physics.operators import Gaussian, Mean, Operator, Slice
from emgen.training.tasks.axial import degraded, measured_inputs
from emgen.training.tasks.estimator import relative_loss
from emgen.volumes.intensity import Intensity

SIZE, BATCH, RATE, AVERAGE = 64, 16, 5e-4, 0.998
FAST = torch.cpu.get_capabilities().get(
    "avx512_bf16", False
)  # without, bfloat16 is slower than float32
KINDS = {"slice": Slice, "mean": Mean, "gaussian": Gaussian}


def restore(
    measured: np.ndarray, factor: int, section: str, noise: float, minutes: float, seed: int = 0
) -> tuple[np.ndarray, int]:
    """The isotropic volume (grey values, float32), and the steps that the network was trained for."""
    scale = Intensity.of([measured])
    sections = torch.from_numpy(scale.encode(measured))
    network, steps = _trained(sections, factor, section, noise / scale.unit, minutes, seed)
    shape = (len(sections) * factor, *sections.shape[1:])
    inputs = measured_inputs(sections, operator(section, shape, factor))
    found = []
    with torch.inference_mode():
        for turn in (lambda x: x, lambda x: x.transpose(1, 2)):
            planes = context_stack(turn(inputs[0]), turn(inputs[1]), 0)
            sigma = noise / scale.unit
            parts = torch.cat([network.plane(part, sigma) for part in planes.split(8)])
            found.append(turn(parts[:, 0].transpose(0, 1)))
    mean = (found[0] + found[1]) / 2
    return ((mean.double() + 1) * scale.unit + scale.low).numpy().astype(np.float32), steps


def operator(section: str, shape: tuple[int, ...], factor: int) -> Operator:
    more = {"fwhm": float(factor)} if section == "gaussian" else {}
    return KINDS[section](shape, factor, **more)


def _trained(
    sections: torch.Tensor, factor: int, section: str, sigma: float, minutes: float, seed: int
) -> tuple[Estimator, int]:
    torch.manual_seed(seed)
    network = Estimator(context=0)
    average = copy.deepcopy(network).eval().requires_grad_(False)
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, betas=(0.9, 0.99))
    begun, step, share = time.monotonic(), 0, 0.0
    while share < 1:
        rng = np.random.default_rng([seed, step])
        inputs, planes = zip(
            *(_example(sections, factor, section, sigma, rng) for _ in range(BATCH)), strict=True
        )
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / 100, 2 * (1 - share))
        times = torch.full((BATCH,), 1 / (1 + sigma))
        with torch.autocast("cpu", torch.bfloat16, enabled=FAST):
            loss = relative_loss(network, torch.stack(inputs), torch.stack(planes), times)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        step += 1
        share = (time.monotonic() - begun) / (60 * minutes)
        with torch.no_grad():
            keep = min(AVERAGE, step / (step + 10))
            for a, b in zip(average.parameters(), network.parameters(), strict=True):
                a.lerp_(b, 1 - keep)
    return average, step


def _example(
    sections: torch.Tensor, factor: int, section: str, sigma: float, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """A part of a section, turned somehow, of whose rows only some were measured."""
    plane = sections[rng.integers(len(sections))].numpy()
    plane = np.rot90(plane, int(rng.integers(4)))
    plane = plane[:, ::-1] if rng.random() < 0.5 else plane
    rows = min(len(plane), SIZE + 2 * factor) // factor * factor
    y, x = rng.integers(len(plane) - rows + 1), rng.integers(plane.shape[1] - SIZE + 1)
    truth = torch.from_numpy(plane[y : y + rows, x : x + SIZE].copy())[:, None]
    A = operator(section, tuple(truth.shape), factor)
    # the rows of a measured section are noisy already, and averages of them a part as much
    fresh = 0.0 if section == "slice" else sigma * (1 - 1 / factor) ** 0.5
    inputs = degraded(truth, A, fresh, (), rng)[0]
    first = int(rng.integers(rows - SIZE + 1))
    return inputs[:, first : first + SIZE], truth[None, first : first + SIZE, 0]
