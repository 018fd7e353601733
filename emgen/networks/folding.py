"""Planes of any size, as the U-Nets take them: mirrored up to whole strides, blocks of pixels folded into channels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def fold(x: Tensor, unshuffle: int, stride: int) -> Tensor:
    """Planes (n, c, h, w) as (n, c * unshuffle^2, h', w'), mirrored up to whole strides; channels last in memory."""
    folded = functional.pixel_unshuffle(mirrored(x, stride), unshuffle)
    return folded.contiguous(memory_format=torch.channels_last)


def unfold(folded: Tensor, unshuffle: int, height: int, width: int) -> Tensor:
    """The inverse of `fold`: planes (n, c, height, width), without what was mirrored."""
    return functional.pixel_shuffle(folded, unshuffle)[..., :height, :width]


def mirrored(x: Tensor, stride: int) -> Tensor:
    """Planes (..., h, w) mirrored at the bottom and the right up to whole strides, also where they are smaller than that."""
    for axis in (-2, -1):
        length = x.shape[axis]
        missing = -length % stride
        if missing:
            index = torch.arange(length + missing, device=x.device) % max(2 * length - 2, 1)
            x = x.index_select(axis, torch.where(index < length, index, 2 * length - 2 - index))
    return x
