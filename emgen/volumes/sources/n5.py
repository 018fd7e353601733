"""N5: https://github.com/saalfeldlab/n5"""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from emgen.errors import EmgenError
from emgen.geometry import VoxelSize
from emgen.volumes.sources.foreign import ForeignVolume, nanometres, only_dataset, size_of
from emgen.volumes.sources.tensorstores import open_store

NAME, CONTAINER = "N5", True
SCHEME = "n5://"


def recognises(path: str) -> bool:
    """Whether it is a URL that says so, a folder that is named like N5, or one with `attributes.json`."""
    if "://" in path:
        return path.startswith(SCHEME)
    return Path(path).suffix.lower() == ".n5" or (Path(path) / "attributes.json").exists()


def open_volume(path: str, dataset: str | None, resources: ExitStack) -> ForeignVolume:
    """Open a data set of a container, the only one of three dimensions where none is named."""
    if path.startswith(SCHEME):
        address = path.removeprefix(SCHEME)
        return open_store("n5", NAME, f"{address.rstrip('/')}/{dataset}" if dataset else address)
    folder = Path(path)
    if dataset is None and "dimensions" not in _attributes(folder):
        dataset = only_dataset(_datasets(folder), folder)
    place = folder / (dataset or "")
    if "dimensions" not in _attributes(place):
        raise EmgenError(
            f"{folder} has no data set {dataset}; found {', '.join(_datasets(folder)) or 'none'}"
        )
    volume = open_store("n5", NAME, str(place))
    return replace(volume, voxel=volume.voxel or _voxel(place))


def _datasets(folder: Path) -> list[str]:
    """Paths below a folder of all data sets of three dimensions."""
    paths = []
    for place, folders, _ in os.walk(folder):
        dimensions = _attributes(Path(place)).get("dimensions", [])
        if dimensions:
            # below are its chunks, perhaps millions
            folders.clear()
        if len(dimensions) == 3:
            paths.append(Path(place).relative_to(folder).as_posix())
    return sorted(paths)


def _attributes(folder: Path) -> dict[str, Any]:
    file = folder / "attributes.json"
    attributes = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    return attributes if isinstance(attributes, dict) else {}


def _voxel(place: Path) -> VoxelSize | None:
    """From `pixelResolution` (x, y, z) of the data set or its group, times `downsamplingFactors`.

    A bare `resolution` is not used: some programs write it z first, some x first.
    """
    own = _attributes(place)
    resolution = own.get("pixelResolution", _attributes(place.parent).get("pixelResolution"))
    if not isinstance(resolution, dict):
        return None
    dimensions, factors = (
        resolution.get("dimensions", []),
        own.get("downsamplingFactors", (1, 1, 1)),
    )
    sizes = [
        nanometres(d * f, str(resolution.get("unit")))
        for d, f in zip(dimensions, factors, strict=True)
    ]
    return size_of(sizes[::-1])
