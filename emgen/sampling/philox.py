"""Normal noise as a function of seed, sample, step and voxel position.

A counter-based generator (Philox4x32-10: Salmon et al., "Parallel random numbers: as easy as
1, 2, 3", SC 2011) gives each voxel its own number, so that nothing depends on blocks, jobs,
batches or threads, and neighbouring blocks agree bit for bit where they overlap.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor

from emgen.geometry import Box
from emgen.sampling.compiled import Compiled

MASK = 0xFFFFFFFF
MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
WEYL = (0x9E3779B9, 0xBB67AE85)
ROUNDS = 10
CHUNK = 1 << 16
"""Counters worked on at a time on a CPU: what fits its cache. It does not change the numbers."""
Key = int | Tensor


def normal(
    seed: int, sample: int, step: int, box: Box, device: torch.device | str = "cpu"
) -> Tensor:
    """Standard normal float32 noise of `box.shape`.

    Key (seed, sample); counter (x // 4, y, z, step), whose four words are the noise of four
    neighbours along x. All of them are unsigned 32-bit numbers; `ValueError` otherwise.
    """
    for name, value in (("seed", seed), ("sample", sample), ("step", step)):
        if not 0 <= value <= MASK:
            raise ValueError(f"the {name} must be from 0 to {MASK}, not {value}")
    if min(box.start) < 0 or max(box.stop) > MASK:
        raise ValueError(f"positions must be from 0 to {MASK}, not {box.start} to {box.stop}")
    z, y, x = (
        torch.arange(a, b, device=device, dtype=torch.int64)
        for a, b in zip(
            (*box.start[:2], box.start[2] // 4),
            (*box.stop[:2], -(-box.stop[2] // 4)),
            strict=True,
        )
    )
    on_cpu = torch.device(device).type == "cpu"
    noise = (_in_slabs if on_cpu else _at_once)(z, y, x, step, (seed, sample))
    first = box.start[2] % 4
    return noise[:, :, first : first + box.shape[2]].contiguous()


def _in_slabs(z: Tensor, y: Tensor, x: Tensor, step: int, key: tuple[int, int]) -> Tensor:
    """Noise (z, y, 4 * x) of counters, a few sections at a time."""
    noise = torch.empty((len(z), len(y), 4 * len(x)), dtype=torch.float32)
    slab = max(1, CHUNK // max(1, len(y) * len(x)))
    for k in range(0, len(z), slab):
        counter = (x, y[:, None], z[k : k + slab, None, None], torch.tensor(step))
        noise[k : k + slab] = box_muller(philox(counter, key)).flatten(-2)
    return noise


def _at_once(z: Tensor, y: Tensor, x: Tensor, step: int, key: tuple[int, int]) -> Tensor:
    """The same as one compiled kernel, which makes each row of x from its z and y."""
    rows = [part.reshape(-1, 1) for part in torch.meshgrid(z, y, indexing="ij")]
    # filled there: a number that is copied to a GPU waits for all work before it
    numbers = [torch.full((), n, dtype=torch.int64, device=x.device) for n in (step, *key)]
    return _rows()(*rows, x, *numbers).view(len(z), len(y), 4 * len(x))


def _noise_of_rows(
    z: Tensor, y: Tensor, x: Tensor, step: Tensor, seed: Tensor, sample: Tensor
) -> Tensor:
    """Noise (rows, 4 * x). All are int64 tensors: compilers take plain numbers for 32 bits, or for constants."""
    return box_muller(philox((x, y, z, step), (seed, sample))).flatten(-2)


@cache
def _rows() -> Compiled:
    return Compiled(_noise_of_rows, "the noise", dynamic=True)


def philox(counter: Sequence[Tensor], key: tuple[Key, Key]) -> tuple[Tensor, ...]:
    """Philox4x32-10: four words of counter to four random words, all int64 from 0 to 2^32 - 1.

    The words of the counter may have different shapes; they are broadcast against each other.
    The key's are numbers, or tensors of no dimension.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        # The product wraps at 64 bits; shift and mask still find its upper and lower halves.
        p0, p1 = MULTIPLIERS[0] * c0, MULTIPLIERS[1] * c2
        c0 = ((p1 >> 32) & MASK).bitwise_xor(c1).bitwise_xor_(k0)
        c2 = ((p0 >> 32) & MASK).bitwise_xor(c3).bitwise_xor_(k1)
        c1, c3 = p1 & MASK, p0 & MASK
        k0, k1 = (k0 + WEYL[0]) & MASK, (k1 + WEYL[1]) & MASK
    return c0, c1, c2, c3


def box_muller(words: Sequence[Tensor]) -> Tensor:
    """Four random 32-bit words (...) to four standard normal numbers (..., 4), float32.

    Worked in float64, so that the tails and the angle have the words' full resolution.
    """
    u = [(word.to(torch.float64) + 0.5) / 2**32 for word in words]
    pairs = []
    for radius, angle in (u[0:2], u[2:4]):
        r, turn = torch.sqrt(-2 * torch.log(radius)), 2 * math.pi * angle
        pairs += [r * torch.cos(turn), r * torch.sin(turn)]
    return torch.stack(pairs, dim=-1).to(torch.float32)
