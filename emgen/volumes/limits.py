"""What a volume may say of its size: a few bytes of metadata must not ask for all of a computer's memory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from emgen.errors import EmgenError

LARGEST_SIDE = 2**26
"""Voxels along an axis: 27 cm at 4 nm. Libraries for N5 and precomputed end the process at sizes near 2^40."""
MOST_VOXELS = 2**54  # of a volume: eighteen petavoxels; the largest that was ever imaged has two
MOST_CHUNK_BYTES = 2**31 - 1  # of a chunk, unpacked: what Blosc and most readers can hold


def refuse_absurd(
    where: str, shape: Sequence[int], dtype: np.dtype[Any], chunk: Sequence[int] | None = None
) -> None:
    """`EmgenError` where a volume cannot be what its metadata says.

    Args:
        where: its path, for messages.
        shape: its voxels along each axis.
        dtype: of its voxels.
        chunk: voxels of what is unpacked at a time, along each axis, where it is stored so.
    """
    if max(shape, default=0) > LARGEST_SIDE or math.prod(shape) > MOST_VOXELS:
        raise EmgenError(
            f"{where} says that it has {' x '.join(map(str, shape))} voxels; expected at most {LARGEST_SIDE} along an axis and "
            f"{MOST_VOXELS:.2g} in all. Its metadata is damaged, or the volume is to be cut into parts"
        )
    if chunk is not None and math.prod(chunk) * max(1, dtype.itemsize) > MOST_CHUNK_BYTES:
        raise EmgenError(
            f"{where} is stored in chunks of {' x '.join(map(str, chunk))} voxels, {math.prod(chunk) * dtype.itemsize / 1e9:.3g} GB "
            f"each; expected at most {MOST_CHUNK_BYTES / 1e9:.3g} GB. Store it in smaller chunks, such as 64 x 64 x 64"
        )
