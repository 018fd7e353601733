"""Training an estimate of sections: tissue that was made noisy, coarse or blurred, and what it was before.

What the network is given of a section and of those beside it is what `emgen.run.restore` gives it: see
`emgen.networks.estimator`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import scipy.ndimage
import torch
from torch import Tensor

from emgen.physics import interpolation
from emgen.physics import missing
from emgen.geometry import Box, zyx
from emgen.physics.operators import Blur, Downsample, Identity, Operator
from emgen.training.tasks import axial
from emgen.networks.estimator import tikhonov_start, context_stack
from emgen.training.tasks.axial import Batch, Network, Slab
from emgen.training.patches import Source, jittered
from emgen.training.recipe import MARGIN, Patches, Sections

HARDEST = 0.03  # squared error of what was measured, above which a patch counts no less for it
ROUNDEST = 0.7  # least ratio of a blur's two standard deviations
SHARED = (0.3, 1.2)  # standard deviation in pixels over which neighbours share noise

KINDS = ("denoise .1", "denoise .4", "denoise .4 alone", "superres x3", "deblur 2")


def batch(
    sources: Sequence[Source],
    weights: Sequence[float],
    patches: Patches,
    settings: Sections,
    seed: int,
    step: int,
    numbers: Iterable[int],
) -> Batch:
    """Inputs (n, channels, size, size), planes (n, 1, size, size) and times (n,) of a training step, as of an interpolation."""

    def drawn(source: Source, rng: np.random.Generator) -> tuple[Tensor, Tensor, float]:
        slab = jittered(_slab(source, rng, patches, settings), rng, patches)[0]
        return _problem(slab, rng, patches.size, settings)

    return axial.drawn(drawn, sources, weights, seed, step, numbers)


def _slab(source: Source, rng: np.random.Generator, patches: Patches, settings: Sections) -> Slab:
    """A section between those beside it (2 * beside + 1, size, size), or between copies of itself where it has none."""
    depth, size = 2 * settings.beside + 1, patches.size + 2 * MARGIN
    widest = (min(source.shape) - 1) // max(depth - 1, 1)
    first, last = settings.strides
    stride = min(
        first if rng.random() < settings.near else int(rng.integers(first, last + 1)), widest
    )
    if stride < 1 or rng.random() < settings.alone:
        return np.repeat(source.slab(rng, patches, 1, size), depth, axis=0)
    return source.slab(rng, patches, depth, size, stride)


def _problem(
    slab: Slab, rng: np.random.Generator, size: int, settings: Sections
) -> tuple[Tensor, Tensor, float]:
    """A section among others (sections, rows, columns), measured somehow."""
    truth = torch.from_numpy(slab)
    task = rng.choice(3, p=np.array(settings.tasks) / sum(settings.tasks))
    sigma = _between(rng, settings.faint)
    A: Operator
    if task == 0:
        A, sigma = Identity(zyx(truth.shape)), _between(rng, settings.noise)
    elif task == 1:
        factor = int(rng.integers(2, 5))
        height, width = (n // factor * factor for n in truth.shape[1:])
        truth = truth[:, :height, :width]
        A, sigma = Downsample(zyx(truth.shape), factor), sigma * int(rng.integers(2))
    else:
        wide = _between(rng, settings.blur)
        both = (wide, wide * rng.uniform(ROUNDEST, 1))
        A = Blur(zyx(truth.shape), sigma=both if rng.random() < 0.5 else both[::-1])
    alike = rng.random() < settings.correlated
    share = (_between(rng, SHARED), _between(rng, SHARED)) if alike else (0.0, 0.0)
    gone = rng.random() < settings.damaged
    inputs = degraded(truth, A, sigma, rng, share, gone)
    row, column = (int(rng.integers(n - size + 1)) for n in truth.shape[1:])
    cut = np.s_[:, row : row + size, column : column + size]
    return inputs[cut], truth[settings.beside][cut[1:]][None], 1 / (1 + sigma)


def degraded(
    truth: Tensor,
    A: Operator,
    sigma: float,
    rng: np.random.Generator,
    shared: Sequence[float] = (0.0, 0.0),
    gone: bool = False,
) -> Tensor:
    """What an estimator is given of the section in the middle of `truth` (sections, rows, columns), see `context_stack`.

    Args:
        truth: a section and those beside it; where these are copies of it, so are their noises.
        A: what is done to it.
        sigma: standard deviation of the noise.
        rng: of the noise.
        shared: over how many pixels (y, x) neighbours share it.
        gone: whether the section in the middle is lost.
    """
    y = A(truth).numpy()
    noise = rng.standard_normal(y.shape, np.float32)
    if any(shared):
        noise = scipy.ndimage.gaussian_filter(noise, (0, *shared))
        noise /= noise.std()
    y = y + np.float32(sigma) * noise
    middle = len(y) // 2
    if bool((truth == truth[:1]).all()):
        y = np.repeat(y[middle : middle + 1], len(y), axis=0)
        gone = False
    if gone:
        y = missing.fill_missing(y, 0, (middle,)).astype(np.float32)
    start, cover = measured_inputs(torch.from_numpy(y), A, sigma)
    if gone:
        cover[middle] = 0
    return context_stack(start.transpose(0, 1), cover.transpose(0, 1), middle)[middle]


def measured_inputs(y: Tensor, A: Operator, sigma: float) -> tuple[Tensor, Tensor]:
    """Where an estimate of whole measured sections y begins, and how strongly each voxel was measured; see `context_stack`."""
    whole, measured = Box.whole(A.shape), Box.whole(A.measured_shape)
    linear = torch.from_numpy(interpolation.linear(y.numpy(), measured, whole, A.scale, A.centre))
    start = tikhonov_start(linear, y, A, sigma)
    return start, torch.full_like(start, A.response_norm())


def loss(network: Network, inputs: Tensor, planes: Tensor, t: Tensor) -> Tensor:
    """Squared error over that of what was measured, but for noise so strong that little of it is left; a scalar."""
    return axial.loss(network, inputs, planes, t, HARDEST)


@torch.inference_mode()
def psnr(network: Network, slabs: Tensor) -> dict[str, float]:
    """PSNR in dB (range 2) of sections in the middle of slabs (n, 2 * beside + 1, h, w), by what was done to them."""
    return axial.scored(_restored, network, slabs, KINDS)


@torch.inference_mode()
def pictures(network: Network, slabs: Tensor, name: str = "denoise .4") -> dict[str, Tensor]:
    """What was measured, what the network makes of it, and the truth (n, h, w), of slabs as in `psnr`."""
    return axial.shown(_restored, network, slabs, name)


def _restored(network: Network, slab: Tensor, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """The middle of a slab as it was measured, by the network, and itself; on the CPU."""
    truth, middle = slab.cpu(), len(slab) // 2
    task, size, *alone = name.replace("x", "").split()
    if alone:
        truth = truth[middle].expand_as(truth)
    shape = zyx(truth.shape)
    A: Operator
    match task:
        case "denoise":
            A, sigma = Identity(shape), float(size)
        case "superres":
            A, sigma = Downsample(shape, int(size)), 0.0
        case _:
            A, sigma = Blur(shape, sigma=float(size)), 0.02
    inputs = degraded(truth, A, sigma, np.random.default_rng(0))
    t = torch.full((1,), 1 / (1 + sigma), device=slab.device)
    plane = network(inputs[None].to(slab.device), t)[0, 0].float().cpu()
    return inputs[middle], plane, truth[middle]


def refuse_unfit(sources: Sequence[Source], depth: int) -> None:
    """Nothing: a source too thin for `depth` sections one behind the other gives sections without neighbours."""


def _between(rng: np.random.Generator, ends: tuple[float, float]) -> float:
    """A number of evenly distributed logarithm."""
    return math.exp(rng.uniform(math.log(ends[0]), math.log(ends[1])))
