"""A 2-D prior on a volume: plane after plane, and large planes as overlapping tiles.

    tile 128, overlap 16:   |<----- 128 ----->|
                                       |<----- 128 ----->|
                                                   |<----- 128 ----->|  the last ends with the plane

Where tiles overlap they are averaged at every step of the sampler, with weights that rise from a
tile's edge over the overlap. The plain average of the source paper leaves a step at every edge,
because a network knows least there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal, TypeVar

import torch
from torch import Tensor
from torch.nn import functional

Plane = Literal["xy", "xz", "yz"]
Velocity2d = Callable[[Tensor, float], Tensor]
USUAL = 160 * 160  # pixels of a tile that a whole batch is meant for
ORDER: dict[Plane, tuple[int, int, int]] = {
    "xy": (0, 1, 2),
    "xz": (1, 0, 2),
    "yz": (2, 0, 1),
}
"""The axes of a volume, the one across the planes first."""
Item = TypeVar("Item")
Corner = tuple[int, int, int]
"""A tile: the number of its plane, its first row and column."""


def planes(
    network: Velocity2d,
    plane: Plane,
    *,
    tile: int | None = None,
    overlap: int = 16,
    batch: int = 8,
    workers: int = 1,
) -> Callable[[Tensor, float], Tensor]:
    """The velocity of a volume (z, y, x), made of its planes' velocities.

    network: velocity of a stack of planes (n, 1, height, width) at time t.
    tile: pixels on a side; None for whole planes. Smaller planes are mirrored up to it.
    batch: tiles a call, fewer of those larger than `USUAL`. Which tiles go together depends on
    nothing else, so that `workers` threads give the same result bit for bit as one.
    Raises `ValueError` unless 0 <= overlap < tile, batch >= 1 and workers >= 1.
    """
    if plane not in ORDER:
        raise ValueError(f'expected the plane "xy", "xz" or "yz"; found "{plane}"')
    if batch < 1 or workers < 1:
        raise ValueError(f"batch and workers must be positive; found {batch} and {workers}")
    if tile is not None and not 0 <= overlap < tile:
        raise ValueError(f"expected 0 <= overlap < tile; found {overlap} and {tile}")
    order = ORDER[plane]
    back = tuple(order.index(axis) for axis in range(3))

    def velocity(x: Tensor, t: float) -> Tensor:
        stack = x.permute(order)
        if tile is None:
            result = _whole(network, stack, t, batch, workers)
        else:
            result = _blended(
                network, _padded(stack, tile), t, (tile, tile), overlap, batch, workers
            )
        return result[:, : stack.shape[1], : stack.shape[2]].permute(back).contiguous()

    return velocity


def tiles_per_call(batch: int, height: int, width: int) -> int:
    """How many tiles of this size take no more memory than a batch of usual ones, at least one."""
    return max(1, min(batch, batch * USUAL // (height * width)))


def origins(length: int, tile: int, overlap: int) -> list[int]:
    """Where tiles begin on an axis: every tile - overlap pixels, the last flush with the end.

    >>> origins(300, 128, 16)
    [0, 112, 172]
    """
    if length <= tile:
        return [0]
    return [*range(0, length - tile, tile - overlap), length - tile]


def _whole(network: Velocity2d, stack: Tensor, t: float, batch: int, workers: int) -> Tensor:
    """What the network makes of whole planes of a stack (n, height, width)."""
    parts = stack[:, None].contiguous().split(tiles_per_call(batch, *stack.shape[1:]))
    return torch.cat(list(in_threads(lambda part: network(part, t), parts, workers)))[:, 0]


def _blended(
    network: Velocity2d,
    stack: Tensor,
    t: float,
    size: tuple[int, int],
    overlap: int,
    batch: int,
    workers: int,
) -> Tensor:
    """The mean over all tiles of a stack of planes (n, height, width)."""
    rows, columns = (origins(n, m, overlap) for n, m in zip(stack.shape[1:], size, strict=True))
    corners = [(i, y, x) for y in rows for x in columns for i in range(len(stack))]
    height, width = size
    batch = tiles_per_call(batch, height, width)
    batches = [corners[k : k + batch] for k in range(0, len(corners), batch)]

    def tiles(which: Sequence[Corner]) -> Tensor:
        cut = [stack[i, y : y + height, x : x + width] for i, y, x in which]
        return network(torch.stack(cut)[:, None], t)[:, 0]

    ramps = [_ramp(n, overlap) for n in size]
    weight = (ramps[0][:, None] * ramps[1]).to(stack)
    total = torch.zeros_like(stack, memory_format=torch.contiguous_format)
    for which, values in zip(batches, in_threads(tiles, batches, workers), strict=True):
        for (i, y, x), value in zip(which, values, strict=True):
            total[i, y : y + height, x : x + width] += weight * value
    cover = [
        _cover(at, ramp, n)
        for at, ramp, n in zip((rows, columns), ramps, stack.shape[1:], strict=True)
    ]
    return total / (cover[0][:, None] * cover[1]).to(stack)


def _ramp(tile: int, overlap: int) -> Tensor:
    """The weight of a tile's pixels on one axis: one, and less over the overlap at both ends."""
    from_edge = torch.minimum(torch.arange(1, tile + 1), torch.arange(tile, 0, -1))
    return (from_edge / (overlap + 1)).clamp(max=1)


def in_threads(
    work: Callable[[Item], Tensor], items: Sequence[Item], workers: int
) -> Iterator[Tensor]:
    """The results in the order of the items, whichever thread is done first."""
    if workers == 1:
        yield from map(work, items)
        return
    gradients = torch.is_grad_enabled()

    def quiet(item: Item) -> Tensor:
        # Whether gradients are recorded is a fact of each thread, not of the program.
        with torch.set_grad_enabled(gradients):
            return work(item)

    with ThreadPoolExecutor(workers) as pool:
        yield from pool.map(quiet, items)


def _cover(starts: Sequence[int], ramp: Tensor, length: int) -> Tensor:
    """The sum of all tiles' weights over each pixel of an axis."""
    total = torch.zeros(length)
    for start in starts:
        total[start : start + len(ramp)] += ramp
    return total


def _padded(stack: Tensor, tile: int) -> Tensor:
    """Planes of at least tile x tile: mirrored at the far edges, repeated where too thin for it."""
    for axis in (1, 2):
        missing, length = tile - stack.shape[axis], stack.shape[axis]
        if missing > 0:
            mode = "reflect" if missing < length else "replicate"
            pad = (0, missing, 0, 0) if axis == 2 else (0, 0, 0, missing)
            stack = functional.pad(stack[:, None], pad, mode=mode)[:, 0]
    return stack
