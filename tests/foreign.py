"""Volumes in other formats, for the tests: what is written, and how it is read back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorstore
import tifffile
from PIL import Image

from emgen.errors import EmgenError
from emgen.geometry import Box, VoxelSize
from emgen.volumes.sources import STRICT, Allowed, ForeignVolume, open_foreign

Array = npt.NDArray[Any]
SHAPE = (5, 17, 23)
VOXEL = VoxelSize(40, 4, 5)


def voxels(dtype: npt.DTypeLike = "uint8", shape: tuple[int, ...] = SHAPE) -> Array:
    return np.random.default_rng(0).integers(0, 120, shape).astype(dtype)


def facts(
    path: Path | str, dataset: str | None = None, allowed: Allowed = STRICT
) -> tuple[ForeignVolume, Array]:
    """The opened source and all its voxels."""
    with open_foreign(str(path), dataset, allowed) as source:
        return source, source.read(Box.whole(source.shape))


def refused(path: Path | str, message: str, dataset: str | None = None) -> None:
    with pytest.raises(EmgenError, match=message):
        facts(path, dataset)


def pages(path: Path, sections: Array, **options: Any) -> None:
    """A TIFF page by page, each with its own directory."""
    with tifffile.TiffWriter(path, bigtiff=options.pop("bigtiff", False)) as writer:
        for section in sections:
            writer.write(section, metadata=None, contiguous=False, **options)


def folder_of(path: Path, sections: Array, suffix: str = ".png", first: int = 1) -> Path:
    path.mkdir()
    for number, section in enumerate(sections, start=first):
        name = path / f"slice_{number}{suffix}"
        tifffile.imwrite(name, section) if suffix == ".tif" else Image.fromarray(section).save(name)
    return path


def n5(path: Path, data: Array, **attributes: Any) -> Path:
    spec = {
        "driver": "n5",
        "kvstore": {"driver": "file", "path": str(path)},
        "metadata": {
            "dimensions": data.shape[::-1],
            "blockSize": (8,) * data.ndim,
            "dataType": data.dtype.name,
            "compression": {"type": "gzip"},
        },
    }
    tensorstore.open(spec, create=True).result().write(data.T).result()
    file = path / "attributes.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **attributes}))
    return path
