"""Volumes in other formats, read lazily: TIFF, folders of sections, MRC, HDF5, N5, precomputed.

`open_foreign` looks at names and headers only; `ForeignVolume.read(box)` then reads what a box needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from emgen.errors import EmgenError
from emgen.volumes.sources import containers, images
from emgen.volumes.sources.images import SECTIONS, TIFF, natural
from emgen.volumes.sources.source import ForeignVolume, reading

__all__ = ["ForeignVolume", "natural", "open_foreign"]

MRC = (".mrc", ".mrcs", ".rec", ".st", ".ali", ".map")
HDF5 = (".h5", ".hdf5", ".hdf")


@contextmanager
def open_foreign(path: str, dataset: str | None = None) -> Iterator[ForeignVolume]:
    """Open a volume in a foreign format.

    Raises:
        EmgenError: missing, damaged, of an unknown format, or not one 3-D volume.
    """
    with ExitStack() as stack:
        with reading(path):
            source = _open(path, dataset, stack)
        if 0 in source.shape:
            raise EmgenError(f"{path} holds no voxels: its shape is {source.shape}")
        yield source


def _open(path: str, dataset: str | None, stack: ExitStack) -> ForeignVolume:
    if "://" in path:
        return containers.open_url(path, dataset)
    file = Path(path)
    if not file.exists():
        raise EmgenError(f"there is nothing at {path}; expected a file or a folder")
    suffix = file.suffix.lower()
    if suffix in HDF5:
        return containers.open_hdf5(file, dataset, stack)
    if suffix == ".n5" or (file.is_dir() and (file / "attributes.json").exists()):
        return containers.open_n5(file, dataset)
    if dataset is not None:
        raise EmgenError(f"--dataset is for HDF5 and N5; {path} is neither")
    if file.is_dir():
        return images.open_folder(file, stack)
    if suffix in TIFF:
        return images.open_tiff(file, stack)
    if suffix in MRC:
        return containers.open_mrc(file, stack)
    if suffix in SECTIONS:
        return images.open_sections([file], stack)
    raise EmgenError(
        f"{path}: emgen does not know the format {suffix or 'of a file without a suffix'}; "
        "it reads TIFF, folders of PNG or TIFF sections, MRC, HDF5, N5 and precomputed: "
        "export the data as one of these"
    )
