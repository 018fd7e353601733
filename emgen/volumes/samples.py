"""What is read of a volume to learn its grey values, its noise and its identity: a few boxes, whatever its size."""

from __future__ import annotations

import itertools
import zlib
from typing import Any

import numpy.typing as npt

from emgen.geometry import Box, Zyx, zyx
from emgen.volumes.measured import Measured

# boxes along each axis, at both ends and in between, and voxels (z, y, x) of each: 27 boxes and 14 million voxels at
# most, which are read in seconds and give percentiles and noise of a volume of any size
BOXES_PER_AXIS = 3
SAMPLE_SHAPE = (32, 128, 128)


def sample_boxes(shape: Zyx) -> list[Box]:
    """At most 27 boxes, spread evenly over a volume of this shape (z, y, x)."""
    size = [min(n, s) for n, s in zip(shape, SAMPLE_SHAPE, strict=True)]
    starts = [
        sorted({round(i * (n - s) / (BOXES_PER_AXIS - 1)) for i in range(BOXES_PER_AXIS)})
        for n, s in zip(shape, size, strict=True)
    ]
    return [
        Box(zyx(start), zyx([a + s for a, s in zip(start, size, strict=True)]))
        for start in itertools.product(*starts)
    ]


def read_samples(measured: Measured) -> list[npt.NDArray[Any]]:
    """Grey values (z, y, x) of each of the `sample_boxes` of a volume."""
    return [measured.read(box) for box in sample_boxes(measured.shape)]


def fingerprint(measured: Measured, samples: list[npt.NDArray[Any]]) -> str:
    """What tells a volume from another at the same place: its shape, voxel size, dtype, and a CRC-32 of its samples.

    Of what it says of voxels that were not measured, too.
    """
    absent = [measured.absent(box) for box in sample_boxes(measured.shape)]
    said = [part for part in absent if part is not None]
    crc = checksum([*samples, *said])
    return f"{measured.shape} {measured.voxel} {measured.dtype.str} {crc}"


def says_absent(measured: Measured) -> bool:
    """Whether a volume says of voxels that they were not measured, by a mask or missing chunks."""
    return measured.absent(Box((0, 0, 0), (1, 1, 1))) is not None


def checksum(samples: list[npt.NDArray[Any]]) -> str:
    """CRC-32 of voxels, as eight hexadecimal digits."""
    crc = 0
    for sample in samples:
        crc = zlib.crc32(sample.tobytes(), crc)
    return f"{crc:08x}"
