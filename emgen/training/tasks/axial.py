"""Training a learned interpolation: isotropic tissue whose sections are taken away, and what it was before."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from emgen.physics import interpolation
from emgen.physics import missing
from emgen.errors import EmgenError
from emgen.geometry import Box, zyx
from emgen.physics.operators import Gaussian, Mean, Operator, Slice
from emgen.networks.estimator import context_stack
from emgen.training.patches import Source, jittered
from emgen.training.recipe import Interpolation, Patches

FLOOR = 0.003  # squared error of linear interpolation, below which a patch counts for less
KINDS = {"x4 slice": (4, Slice), "x8 slice": (8, Slice), "x4 mean": (4, Mean), "x8 mean": (8, Mean)}

Network = Callable[[Tensor, Tensor], Tensor]
Slab = npt.NDArray[np.float32]
Batch = tuple[Tensor, Tensor, Tensor]
Restored = Callable[[Network, Tensor, str], tuple[Tensor, Tensor, Tensor]]
"""A plane as it was measured in a way that has a name, what a network makes of it, and itself, of a slab."""


def batch(
    sources: Sequence[Source],
    weights: Sequence[float],
    patches: Patches,
    settings: Interpolation,
    seed: int,
    step: int,
    numbers: Iterable[int],
) -> Batch:
    """Inputs (n, channels, size, size), planes (n, 1, size, size) and times (n,) of a training step.

    Each follows from the seed, the step and its number in the batch, so that processes can share a batch.
    """
    margin = 2 * settings.factors[1]  # rows that are left over, and what the border does to others

    def one(source: Source, rng: np.random.Generator) -> tuple[Tensor, Tensor, float]:
        slab = source.slab(rng, patches, 2 * settings.beside + 1, patches.size + margin)
        return _problem(jittered(slab, rng, patches)[0], rng, patches.size, settings)

    return drawn(one, sources, weights, seed, step, numbers)


def drawn(
    one: Callable[[Source, np.random.Generator], tuple[Tensor, Tensor, float]],
    sources: Sequence[Source],
    weights: Sequence[float],
    seed: int,
    step: int,
    numbers: Iterable[int],
) -> Batch:
    """A batch of what `one` makes of sources, each drawn as often as its weight says."""
    share = np.asarray(weights) / np.sum(weights)
    parts = []
    for number in numbers:
        rng = np.random.default_rng([seed, step, number])
        parts.append(one(sources[rng.choice(len(sources), p=share)], rng))
    inputs, planes, times = zip(*parts, strict=True)
    return torch.stack(inputs), torch.stack(planes), torch.tensor(times, dtype=torch.float32)


def _problem(
    slab: Slab, rng: np.random.Generator, size: int, settings: Interpolation
) -> tuple[Tensor, Tensor, float]:
    """One slab (beside, rows, columns) of which sections along the rows were measured, somehow."""
    factor = int(rng.integers(settings.factors[0], settings.factors[1] + 1))
    first = int(rng.integers(factor))
    truth = torch.from_numpy(slab[:, first:].transpose(1, 0, 2).copy())
    truth = truth[: len(truth) // factor * factor]
    kind = [Slice, Mean, Gaussian][rng.choice(3, p=(0.45, 0.4, 0.15))]
    sigma = (
        float(np.exp(rng.uniform(*np.log(settings.noise))))
        if rng.random() < settings.noisy
        else 0.0
    )
    gone = (
        rng.integers(len(truth) // factor, size=settings.lost)
        if rng.random() < settings.damaged
        else ()
    )
    inputs = degraded(truth, _operator(kind, truth, factor), sigma, gone, rng)
    middle = settings.beside
    row, column = (int(rng.integers(n - size + 1)) for n in (len(truth), truth.shape[2]))
    cut = np.s_[row : row + size, column : column + size]
    return inputs[middle][:, *cut], truth[:, middle][cut][None], 1 / (1 + sigma)


def degraded(
    truth: Tensor,
    A: Operator,
    sigma: float,
    gone: Sequence[int] | npt.NDArray[np.int64],
    rng: np.random.Generator,
) -> Tensor:
    """What an estimator is given of a volume (z, planes, width), see `context_stack`."""
    y = A(truth).numpy()
    y = y + np.float32(sigma) * rng.standard_normal(y.shape, np.float32)
    known = torch.ones(len(y), 1, 1, dtype=torch.bool)
    if len(set(map(int, gone))) < len(y):
        known[list(map(int, gone))] = False
        y = missing.fill_missing(y, 0, list(map(int, gone)))
    start, cover = measured_inputs(torch.from_numpy(y), A, known)
    return context_stack(start, cover, truth.shape[1] // 2)


def measured_inputs(y: Tensor, A: Operator, known: Tensor | bool = True) -> tuple[Tensor, Tensor]:
    """Linear interpolation of a whole measured volume y, and A^T 1 of the sections that are known; see `context_stack`."""
    whole, measured = Box.whole(A.shape), Box.whole(A.measured_shape)
    start = torch.from_numpy(interpolation.linear(y.numpy(), measured, whole, A.scale, A.centre))
    return start, A.adjoint(torch.ones(A.measured_shape) * known)


def loss(
    network: Network, inputs: Tensor, planes: Tensor, t: Tensor, most: float = math.inf
) -> Tensor:
    """Squared error over that of linear interpolation, or `most`, so that all factors count alike; a scalar."""
    linear = inputs[:, (inputs.shape[1] - 1) // 2, None]
    before = (linear - planes).square().mean((1, 2, 3)).clamp(max=most) + FLOOR
    return ((network(inputs, t) - planes).float().square().mean((1, 2, 3)) / before).mean()


@torch.inference_mode()
def psnr(network: Network, slabs: Tensor) -> dict[str, float]:
    """PSNR in dB (range 2) of planes in the middle of slabs (n, 2 * beside + 1, h, w), by factor and kind of section."""
    return scored(_restored, network, slabs, KINDS)


def scored(
    restored: Restored, network: Network, slabs: Tensor, kinds: Iterable[str]
) -> dict[str, float]:
    """As `psnr`, of what `restored` gives for each of `kinds`."""
    found = {}
    for name in kinds:
        each = [restored(network, slab, name) for slab in slabs]
        errors = torch.stack([(plane - truth).square().mean() for _, plane, truth in each])
        found[name] = round(float(10 * torch.log10(4 / errors.mean())), 3)
    return found


@torch.inference_mode()
def pictures(network: Network, slabs: Tensor, name: str = "x8 slice") -> dict[str, Tensor]:
    """Linear interpolation, what the network makes of it, and the truth (n, h, w), of slabs as in `psnr`."""
    return shown(_restored, network, slabs, name)


def shown(restored: Restored, network: Network, slabs: Tensor, name: str) -> dict[str, Tensor]:
    """As `pictures`, of what `restored` gives."""
    before, plane, truth = zip(*(restored(network, slab, name) for slab in slabs), strict=True)
    return {
        f"{name}, measured": torch.stack(before),
        "learned": torch.stack(plane),
        "truth": torch.stack(truth),
    }


def _restored(network: Network, slab: Tensor, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """The middle plane of a slab by linear interpolation, by the network, and itself; on the CPU."""
    factor, kind = KINDS[name]
    volume = slab.cpu().transpose(0, 1)[: slab.shape[1] // factor * factor]
    middle = slab.shape[0] // 2
    inputs = degraded(volume, _operator(kind, volume, factor), 0.0, (), np.random.default_rng(0))
    given = inputs[middle : middle + 1].to(slab.device)
    plane = network(given, torch.ones(1, device=slab.device))[0, 0].float().cpu()
    return inputs[middle, middle], plane, volume[:, middle]


def _operator(kind: type, truth: Tensor, factor: int) -> Operator:
    more = {"fwhm": float(factor)} if kind is Gaussian else {}
    operator: Operator = kind(zyx(truth.shape), factor, **more)
    return operator


def refuse_unfit(sources: Sequence[Source], depth: int) -> None:
    """`EmgenError` for sources that are no volumes, or have fewer than `depth` planes one behind the other."""
    flat = [source.name for source in sources if len(source.planes) == 1]
    if flat:
        raise EmgenError(
            f"an interpolation is learnt from isotropic volumes, and these are none: {', '.join(flat)}; leave them out"
        )
    thin = [f"{source.name} {source.shape}" for source in sources if min(source.shape) < depth]
    if thin:
        raise EmgenError(
            f"the network sees {depth} planes, one behind the other, and these have fewer: {', '.join(thin)}; leave them out, "
            "or let it see fewer beside its own: interpolation.beside"
        )
