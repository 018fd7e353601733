"""Volumes in other formats, of which boxes are read when they are needed.

One module a format (`foreign.Format` says what it has), listed in `FORMATS`. Files are told apart by their names.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import cast

from emgen.errors import EmgenError
from emgen.volumes.sources.allowed import Allowed, with_what_is_allowed
from emgen.volumes.sources.foreign import ForeignVolume, Format, reading

__all__ = ["FORMATS", "Allowed", "ForeignVolume", "formats", "open_foreign"]

# in this order: a folder is one of sections only if it is nothing else
FORMATS = ("hdf5", "n5", "precomputed", "tiff", "mrc", "sections")
STRICT = Allowed()
PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip", ".tar", ".tgz", ".7z")


def formats() -> dict[str, Format]:
    """Every format by the name of its module."""
    return {name: cast("Format", import_module(f"{__name__}.{name}")) for name in FORMATS}


@contextmanager
def open_foreign(
    path: str, dataset: str | None = None, allowed: Allowed = STRICT
) -> Iterator[ForeignVolume]:
    """Open a volume in another format than OME-Zarr.

    Args:
        path: file, folder or URL.
        dataset: the volume inside a container, where there are several.
        allowed: what of it may be missing, unsure or inverted.

    Raises:
        EmgenError: missing, damaged, of an unknown format, not one 3-D volume, or not as it is allowed to be.
    """
    with ExitStack() as resources:
        with reading(path):
            volume = _open(path, dataset, resources)
        if 0 in volume.shape:
            raise EmgenError(f"{path} holds no voxels: its shape is {volume.shape}")
        with reading(path):
            volume = with_what_is_allowed(volume, allowed)
        yield volume


def _open(path: str, dataset: str | None, resources: ExitStack) -> ForeignVolume:
    path = path.removeprefix("file://")
    if "://" not in path and not Path(path).exists():
        raise EmgenError(f"there is nothing at {path}; expected a file or a folder")
    listed = formats()
    name = next((name for name, each in listed.items() if each.recognises(path)), None)
    if name is None:
        raise EmgenError(_unknown(path, [each.NAME for each in listed.values()]))
    if dataset is not None and not listed[name].CONTAINER:
        containers = [each.NAME for each in listed.values() if each.CONTAINER]
        raise EmgenError(
            f"--dataset is for {', '.join(containers[:-1])} and {containers[-1]}; {path} is none of them"
        )
    return replace(listed[name].open_volume(path, dataset, resources), format=name)


def _unknown(path: str, names: list[str]) -> str:
    if "://" in path:
        return f'{path}: put "precomputed://" or "n5://" before the address, to say what is there'
    suffix = Path(path).suffix.lower() or "of a file without a suffix"
    if suffix in PACKED:
        return f"{path} is packed: unpack it first, and import what is in it"
    return (
        f"{path}: emgen does not know the format {suffix}; it reads {', '.join(names[:-1])} and {names[-1]}: "
        "export the data as one of these"
    )
