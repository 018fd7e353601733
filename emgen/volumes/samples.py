"""What is read of a volume to learn its grey values, its noise and its identity: a few boxes, whatever its size."""

from __future__ import annotations

import itertools
import zlib
from typing import Any

import numpy.typing as npt

from emgen.geometry import Box, Zyx, zyx
from emgen.volumes.measured import Measured

SAMPLES, SAMPLE = 27, (32, 128, 128)  # boxes, and voxels (z, y, x) of each


def sample_boxes(shape: Zyx) -> list[Box]:
    """Boxes to learn a volume's grey values from without reading all of it: at most 27, spread evenly."""
    size = [min(n, s) for n, s in zip(shape, SAMPLE, strict=True)]
    per_axis = round(SAMPLES ** (1 / 3))
    starts = [
        sorted({round(i * (n - s) / (per_axis - 1)) for i in range(per_axis)})
        for n, s in zip(shape, size, strict=True)
    ]
    return [
        Box(zyx(at), zyx([a + s for a, s in zip(at, size, strict=True)]))
        for at in itertools.product(*starts)
    ]


def read_samples(measured: Measured) -> list[npt.NDArray[Any]]:
    """Voxels of boxes that are spread over the volume."""
    return [measured.read(box) for box in sample_boxes(measured.shape)]


def fingerprint(measured: Measured, samples: list[npt.NDArray[Any]]) -> str:
    """What tells the input from another at the same place: its metadata and a checksum of samples."""
    return f"{measured.shape} {measured.voxel} {measured.dtype.str} {checksum(samples)}"


def checksum(samples: list[npt.NDArray[Any]]) -> str:
    """CRC-32 of voxels, as eight hexadecimal digits."""
    crc = 0
    for sample in samples:
        crc = zlib.crc32(sample.tobytes(), crc)
    return f"{crc:08x}"
