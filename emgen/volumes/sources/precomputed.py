"""Neuroglancer precomputed: https://github.com/google/neuroglancer/tree/master/src/datasource/precomputed"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from emgen.volumes.sources.foreign import ForeignVolume
from emgen.volumes.sources.tensorstores import open_store

NAME, CONTAINER = "precomputed", False
SCHEME = "precomputed://"


def recognises(path: str) -> bool:
    """Whether it is a URL that says so, or a folder with an `info` file."""
    if "://" in path:
        return path.startswith(SCHEME)
    return (Path(path) / "info").is_file()


def open_volume(path: str, dataset: str | None, resources: ExitStack) -> ForeignVolume:
    """Open the finest scale."""
    return open_store("neuroglancer_precomputed", NAME, path.removeprefix(SCHEME))
