"""Grey values and tensors on the networks' device: upload, scaling, linear interpolation, and back to stored voxels.

Each is to the bit what `emgen.volumes.intensity` and `emgen.physics.interpolation` make of arrays. On a GPU a block
goes there as measured and comes back as stored, and nothing waits in between.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from emgen.geometry import Box
from emgen.physics.interpolation import linear_weights
from emgen.physics.operators.operator import gather
from emgen.volumes.intensity import Intensity, store

SMALL_INTEGERS = {
    "uint8": torch.uint8,
    "int8": torch.int8,
    "uint16": torch.int32,
    "int16": torch.int16,
}
"""Types in which stored voxels leave the device; others leave it as float64."""


def upload(voxels: npt.NDArray[Any], device: str) -> Tensor:
    """Voxels on a device, in a type that holds all of their values."""
    if voxels.dtype.name == "uint16":
        voxels = voxels.astype(np.int32)
    elif voxels.dtype.name not in ("uint8", "int8", "int16", "float32"):
        voxels = voxels.astype(np.float64)
    native = voxels.astype(voxels.dtype.newbyteorder("="), copy=False)
    return torch.from_numpy(np.ascontiguousarray(native)).to(device)


def encode(grey: Tensor, intensity: Intensity) -> Tensor:
    """Grey values to half ranges, float32."""
    return ((grey.double() - intensity.low) / intensity.unit - 1).float()


def decode(values: Tensor, intensity: Intensity) -> Tensor:
    """Half ranges to grey values, float64 and not rounded."""
    return (values.double() + 1) * intensity.unit + intensity.low


def download(grey: Tensor, dtype: str) -> npt.NDArray[Any]:
    """Grey values as stored voxels: rounded to even and clipped where the type is an integer."""
    if dtype not in SMALL_INTEGERS:
        return store(grey.cpu().numpy(), dtype)
    limits = np.iinfo(dtype)
    rounded = grey.round().clamp(int(limits.min), int(limits.max))
    return rounded.to(SMALL_INTEGERS[dtype]).cpu().numpy().astype(dtype, copy=False)


def linear(
    measured: Tensor, read: Box, box: Box, scale: Sequence[int], centre: Sequence[float]
) -> Tensor:
    """Trilinear interpolation of measured voxels, which lie on `read`, over `box`, float32.

    Args:
        measured: of `read.shape`.
        read: in measured voxels.
        box: in output voxels.
        scale: output voxels to a measured one, per axis.
        centre: of measured voxel 0, in output voxels.
    """
    result = measured.float()
    # the smaller scales first, as on arrays
    for axis in sorted(range(3), key=lambda a: scale[a]):
        index, weights = linear_weights(
            read.start[axis],
            read.stop[axis],
            box.start[axis],
            box.stop[axis],
            scale[axis],
            centre[axis],
        )
        if not weights[:, 1].any():
            index, weights = index[:, :1], weights[:, :1]
        result = gather(result, axis, torch.from_numpy(index), torch.from_numpy(weights))
    return result
