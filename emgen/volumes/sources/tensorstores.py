"""Stores that tensorstore reads: what N5 and Neuroglancer precomputed have in common."""

from __future__ import annotations

from typing import Any, Literal, cast

import numpy as np
import tensorstore

from emgen.errors import EmgenError
from emgen.geometry import Box, VoxelSize, zyx
from emgen.volumes.sources.foreign import (
    Array,
    ForeignVolume,
    nanometres,
    sliced,
    volume_shape,
)


def open_store(
    driver: Literal["n5", "neuroglancer_precomputed"], name: str, path: str
) -> ForeignVolume:
    """Open a volume that a driver of tensorstore reads.

    Args:
        driver: its name in tensorstore.
        name: of the format, for messages.
        path: a folder, or a URL of which tensorstore knows the kind (https, s3, gs).

    Raises:
        EmgenError: it cannot be opened, or has several channels.
    """
    kvstore: Any = path if "://" in path else {"driver": "file", "path": path}
    try:
        store = tensorstore.open(
            {"driver": driver, "kvstore": kvstore}, open=True, read=True
        ).result()
    except ValueError as error:
        raise EmgenError(f"{path} cannot be opened as {name}: {error}") from None
    units = store.dimension_units
    if driver == "neuroglancer_precomputed":
        if store.shape[3] != 1:
            raise EmgenError(f"{path} has {store.shape[3]} channels; expected one")
        store, units = store[..., 0], units[:3]
    # both formats count x first
    data, sizes = store.T, [_nanometres(unit) for unit in reversed(units)]
    shape = volume_shape(data, path)
    offset = zyx(data.origin) if len(data.shape) == 3 else (0, 0, 0)

    def read(box: Box) -> Array:
        return np.asarray(sliced(data)(box.shift(offset)))

    voxel = None if None in sizes else VoxelSize(*cast("list[float]", sizes))
    return ForeignVolume(path, shape, np.dtype(data.dtype.numpy_dtype), voxel, read, offset=offset)


def _nanometres(unit: Any) -> float | None:
    return None if unit is None else nanometres(unit.multiplier, unit.base_unit)
