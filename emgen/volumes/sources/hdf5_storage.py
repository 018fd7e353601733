"""Where the voxels of an HDF5 data set are: in the file, compressed by what is installed, or in other files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py

from emgen.errors import EmgenError


def check_storage(where: str, data: Any) -> None:
    """Refuse a data set of which voxels would be read as a constant, or from where they should not be.

    Args:
        where: the data set, for messages.
        data: of h5py.

    Raises:
        EmgenError: its filters are not installed, it was never written, or it lies in files that are not there or
            not beside it.
    """
    layout = data.id.get_create_plist()
    for number in range(layout.get_nfilters()):
        code, _, _, name = layout.get_filter(number)
        if not h5py.h5z.filter_avail(code):
            raise EmgenError(
                f"{where} is compressed with HDF5 filter {code} ({name.decode(errors='replace')[:40]}), which is not "
                "installed: rewrite it with gzip (h5repack -f GZIP=1), or pip install hdf5plugin and rewrite it "
                "with Python"
            )
    if data.external:
        files = ", ".join(str(name)[:60] for name, *_ in data.external[:3])
        raise EmgenError(
            f"{where} keeps its voxels in other files ({files}), which are not read: copy the data set into one file "
            "(h5repack)"
        )
    if data.is_virtual:
        _check_sources(where, data)
    elif data.chunks is None and data.size and not data.id.get_storage_size():
        raise EmgenError(
            f"{where} was never written: every voxel would read {data.fillvalue}; copy or export it again"
        )


def _check_sources(where: str, data: Any) -> None:
    """Refuse a virtual data set of which a part would be a constant."""
    folder = Path(data.file.filename).resolve().parent
    covered = 0
    for source in data.virtual_sources():
        name, inside = source.file_name, source.dset_name
        if "%" in name + inside:
            raise EmgenError(
                f"{where} is a virtual data set with a pattern of sources ({name[:60]}:{inside[:60]}), of which the "
                "number is not known; copy it into one file (h5repack)"
            )
        path = Path(data.file.filename) if name == "." else folder / name
        if not path.resolve().is_relative_to(folder):
            raise EmgenError(
                f"{where} takes voxels from {name[:80]}; only files beside it are read"
            )
        _check_source(where, source, path)
        covered += source.vspace.get_select_npoints()
    if covered < data.size:
        raise EmgenError(
            f"{where} is a virtual data set whose sources cover {covered} of its {data.size} voxels; the others would read "
            f"{data.fillvalue}"
        )


def _check_source(where: str, source: Any, path: Path) -> None:
    name, inside = source.file_name, source.dset_name
    try:
        with h5py.File(path, "r") as file:
            found = file.get(inside)
            if not isinstance(found, h5py.Dataset):
                raise EmgenError(
                    f"{where} takes voxels from {name[:60]}:{inside[:60]}, which is not there"
                )
            shape, virtual = found.shape, found.is_virtual
            _, last = source.src_space.get_select_bounds()
            if found.external or virtual or (found.size and not found.id.get_storage_size()):
                raise EmgenError(
                    f"{where} takes voxels from {name[:60]}:{inside[:60]}, which holds none itself; copy it into one file "
                    "(h5repack)"
                )
    except OSError as error:
        raise EmgenError(
            f"{where} takes voxels from {name[:80]}, which cannot be opened ({str(error)[:80]}): copy it beside the "
            "file"
        ) from None
    if len(shape) != len(last) or any(k >= n for k, n in zip(last, shape, strict=True)):
        raise EmgenError(
            f"{where} takes voxels up to {last} from {name[:60]}:{inside[:60]}, whose shape is {shape}"
        )
