"""Neuroglancer precomputed: https://github.com/google/neuroglancer/tree/master/src/datasource/precomputed"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from emgen.errors import EmgenError
from emgen.geometry import zyx
from emgen.volumes.sources.chunks import Files, Folder, Layout, chunked, files_at
from emgen.volumes.sources.foreign import ForeignVolume, size_of
from emgen.volumes.sources.precomputed_chunks import Scale, loader, there

NAME, CONTAINER = "precomputed", True
SCHEME = "precomputed://"
DTYPES = ("uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32")
ENCODINGS = ("raw", "jpeg", "png", "compressed_segmentation")
MAX_INFO = 2**24  # bytes


def recognises(path: str) -> bool:
    """Whether it is a URL that says so, or a folder with an `info` file."""
    if "://" in path:
        return path.startswith(SCHEME)
    return (Path(path) / "info").is_file()


def open_volume(path: str, dataset: str | None, resources: ExitStack) -> ForeignVolume:
    """Open a scale by its key, the finest one where none is named."""
    address = path.removeprefix(SCHEME).removeprefix("file://").rstrip("/")
    files = files_at(address)
    info = _info(files)
    described = _chosen(info, dataset, address)
    scale = _scale(info, described, address)
    layout = Layout(f"{address}/{scale.key}", scale.shape, scale.chunk, scale.dtype)
    listed = isinstance(files, Folder) and not scale.sharded
    read, chunks = chunked(
        layout, loader(files, info, described, scale, layout), (lambda: there(address, scale, layout)) if listed else None
    )  # fmt: skip
    if isinstance(files, Folder) and _is_placeholder(
        address, scale, chunks.missing(), chunks.total
    ):
        others = [s["key"] for s in info["scales"] if s is not described and _has_files(address, s)]
        raise EmgenError(
            f"{address}: no chunk of scale {scale.key} is there, so that it would read zero everywhere; scales "
            f"with files: {', '.join(others) or 'none'}: choose one with --dataset"
        )
    notes = []
    if info.get("type") == "segmentation":
        notes.append(f"{address} says that it holds object numbers: import them with --label")
    if scale.encoding == "jpeg":
        notes.append(f"{address} is stored with JPEG, which changes grey values a little")
    return ForeignVolume(
        layout.where,
        layout.shape,
        layout.dtype,
        size_of(_lengths(described.get("resolution"), "resolution", address)[::-1]),
        read,
        offset=scale.offset,
        notes=tuple(notes),
        chunks=chunks,
    )


def _info(files: Files) -> dict[str, Any]:
    data = files.read("info")
    if data is None:
        raise EmgenError(f"{files.where} has no file info; expected a precomputed volume")
    try:
        info = json.loads(data[:MAX_INFO])
    except (ValueError, RecursionError) as error:
        raise EmgenError(
            f"{files.where} cannot be opened as precomputed: its info is no JSON ({error})"
        ) from None
    if not isinstance(info, dict):
        raise EmgenError(f"{files.where} cannot be opened as precomputed: its info is no object")
    if info.get("redirect"):
        raise EmgenError(
            f"{files.where} has moved to {str(info['redirect'])[:80]}, says its info: import from there"
        )
    kind, scales = info.get("@type", "neuroglancer_multiscale_volume"), info.get("scales")
    named = isinstance(scales, list) and all(
        isinstance(s, dict) and isinstance(s.get("key"), str) for s in scales
    )
    if kind != "neuroglancer_multiscale_volume" or not scales or not named:
        raise EmgenError(
            f"{files.where} cannot be opened as precomputed: expected a multiscale volume with scales, found "
            f"{str(kind)[:60]}"
        )
    if info.get("num_channels", 1) != 1:
        raise EmgenError(f"{files.where} has {info['num_channels']} channels; expected one")
    return info


def _chosen(info: dict[str, Any], dataset: str | None, where: str) -> dict[str, Any]:
    """The scale of this key; without one the finest that is not hidden."""
    scales: list[dict[str, Any]] = info["scales"]
    if dataset is not None:
        chosen = next((s for s in scales if s["key"] == dataset), None)
        if chosen is None:
            keys = ", ".join(s["key"] for s in scales)
            raise EmgenError(f"{where} has no scale {dataset}; found {keys}: choose with --dataset")
        return chosen
    shown = [s for s in scales if not s.get("hidden")] or scales
    return min(shown, key=lambda s: math.prod(_lengths(s.get("resolution"), "resolution", where)))


def _scale(info: dict[str, Any], described: dict[str, Any], where: str) -> Scale:
    """What a scale says, x first in the file."""
    key, encoding = described["key"], described.get("encoding")
    if ".." in key.split("/") or key.startswith("/") or "://" in key or "\\" in key:
        raise EmgenError(f"{where}: its scale {key[:80]} leads elsewhere; expected a folder in it")
    if encoding not in ENCODINGS:
        raise EmgenError(
            f"{where}: scale {key} is encoded as {str(encoding)[:40]}; emgen reads {', '.join(ENCODINGS)}: "
            "save it with one of these"
        )
    name = info.get("data_type")
    if name not in DTYPES:
        raise EmgenError(
            f"{where} has voxels of type {str(name)[:40]}; expected one of {', '.join(DTYPES)}"
        )
    chunks = described.get("chunk_sizes")
    if not isinstance(chunks, list) or not chunks:
        raise EmgenError(f"{where}: scale {key} has no chunk_sizes")
    return Scale(
        key,
        zyx(_three(described.get("size"), "size", where)[::-1]),
        zyx(_three(chunks[0], "chunk_sizes", where)[::-1]),
        zyx(_three(described.get("voxel_offset", [0, 0, 0]), "voxel_offset", where)[::-1]),
        np.dtype(name),
        str(encoding),
        described.get("sharding") is not None,
    )


def _three(values: Any, name: str, where: str) -> list[int]:
    if not isinstance(values, list) or len(values) != 3 or any(type(v) is not int for v in values):
        raise EmgenError(f"{where}: its {name} is {str(values)[:60]}; expected three whole numbers")
    return values


def _lengths(values: Any, name: str, where: str) -> Sequence[float]:
    numbers = isinstance(values, list) and all(type(v) in (int, float) for v in values)
    if not numbers or len(values) != 3 or not all(math.isfinite(v) and v > 0 for v in values):
        raise EmgenError(
            f"{where}: its {name} is {str(values)[:60]}; expected three lengths in nm above 0"
        )
    return [float(v) for v in values]


def _is_placeholder(address: str, scale: Scale, missing: int, total: int) -> bool:
    if not scale.sharded:
        return missing == total
    return next((Path(address) / scale.key).glob("*.shard"), None) is None


def _has_files(address: str, described: dict[str, Any]) -> bool:
    folder = Path(address) / str(described["key"])
    return folder.is_dir() and next(folder.iterdir(), None) is not None
