"""How many planes a CUDA device computes in one call: as many as its free memory holds.

One plane alone tells what it needs. What other work takes meanwhile shows when memory runs out: from then on a call has
half as many planes. On a CPU batches have a fixed size (`emgen.sampling.tiles`), so that results do not depend on the machine.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from emgen.errors import EmgenError
from emgen.sampling.tiles import tiles_per_call

SHARE = 0.7  # of the free memory: convolutions want room to work in beside what they keep
MOST = 128  # planes of a call; more is no faster


class Memory:
    """That of one CUDA device, in bytes."""

    def __init__(self, device: str) -> None:
        self.device = torch.device(device)

    def needed(self, call: Callable[[], Tensor]) -> tuple[Tensor, int]:
        """What a call gives, and what it had in use at most on top of what was in use before."""
        before = torch.cuda.memory_allocated(self.device)
        torch.cuda.reset_peak_memory_stats(self.device)
        result = call()
        return result, torch.cuda.max_memory_allocated(self.device) - before

    def free(self) -> int:
        """What the device has left, and what torch holds of it without using it."""
        unused = torch.cuda.memory_reserved(self.device) - torch.cuda.memory_allocated(self.device)
        return int(torch.cuda.mem_get_info(self.device)[0]) + unused

    def release(self) -> None:
        """Give back what torch holds without using it: it may be in pieces too small for anything."""
        torch.cuda.empty_cache()


class Batches:
    """Calls of networks in batches that fit a memory.

    Attributes:
        memory: of the device.
        fits: planes of a call, by the shape of one plane and whether gradients are kept.
    """

    def __init__(self, memory: Memory) -> None:
        self.memory = memory
        self.fits: dict[tuple[torch.Size, bool], int] = {}

    def __call__(self, network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
        """`network(x)` of planes (n, channels, height, width), batch after batch.

        Raises:
            EmgenError: the memory does not hold one plane.
        """
        kind, done, results = (x.shape[1:], torch.is_grad_enabled()), 0, []
        if kind not in self.fits:
            self._measure(network, x[:1], kind)
        while done < len(x):
            part = x[done : done + self.fits[kind]]
            planes = self._tried(network, part)
            if planes is not None:
                results.append(planes)
                done += len(part)
                continue
            # only here is what the call had made gone
            self.memory.release()
            if len(part) == 1:
                raise _too_large(x)
            self.fits[kind] = len(part) // 2
        return torch.cat(results)

    def _measure(
        self, network: Callable[[Tensor], Tensor], plane: Tensor, kind: tuple[torch.Size, bool]
    ) -> None:
        """Find out by one plane (1, channels, height, width) how many fit; what is made of it is thrown away.

        So all calls that count have as many planes as fit, and a compiled network sees one shape.
        """
        try:
            _, needed = self.memory.needed(lambda: network(plane))
        except torch.OutOfMemoryError:
            raise _too_large(plane) from None
        room = int(SHARE * self.memory.free() / max(needed, 1))
        self.fits[kind] = max(1, min(room, tiles_per_call(MOST, *plane.shape[-2:])))

    def _tried(self, network: Callable[[Tensor], Tensor], part: Tensor) -> Tensor | None:
        """What the network makes of some planes, None where memory runs out."""
        try:
            return network(part)
        except torch.OutOfMemoryError:
            return None


def _too_large(x: Tensor) -> EmgenError:
    return EmgenError(
        f"the device has no memory left for one plane of {x.shape[-2]} x {x.shape[-1]} voxels; choose a smaller "
        "grid.block, or a device with more that nothing else works on (dps keeps all planes of a block)"
    )
