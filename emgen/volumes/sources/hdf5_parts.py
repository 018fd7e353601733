"""Where the voxels of an HDF5 data set lie: in its file, or in others that it names.

A virtual data set is put together of parts of others, and external storage is any file. What is named must lie with
the file (`emgen.volumes.links`), must be there, since HDF5 gives a constant for what is not, and must not lead back to
itself, which ends the process.
"""

from __future__ import annotations

from pathlib import Path

import h5py

from emgen.errors import EmgenError
from emgen.volumes.links import inside

DEEPEST = 4  # virtual data sets of virtual data sets


def refuse_other_places(data: h5py.Dataset, depth: int = 0) -> None:
    """`EmgenError` where voxels of a data set lie outside its folder, are not there, or are the data set itself."""
    where, folder = f"{data.file.filename}:{data.name}", Path(data.file.filename).resolve().parent
    for name, *_ in data.external or ():
        if not inside(folder, name, where).is_file():
            raise EmgenError(f"{where}: its voxels are in {name}, which is not there; copy it too")
    if not data.is_virtual:
        return
    if depth == DEEPEST:
        raise EmgenError(
            f"{where} is put together of itself, or through more than {DEEPEST} data sets; copy its voxels into one file"
        )
    for name, source in sorted(
        {(part.file_name, part.dset_name) for part in data.virtual_sources()}
    ):
        path = Path(data.file.filename) if name == "." else inside(folder, name, where)
        if not path.is_file():
            raise EmgenError(
                f"{where} is put together of other files, and {name} is not there: its voxels would be a constant. Copy it "
                "too"
            )
        with h5py.File(path, "r") as file:
            part = file.get(source)
            if not isinstance(part, h5py.Dataset):
                raise EmgenError(
                    f"{where} is put together of {name}, which has no data set {source}"
                )
            refuse_other_places(part, depth + 1)


def refuse_other_files(hdf5: h5py.File, name: str, path: str) -> None:
    """`EmgenError` if the way to a data set leads into another file outside the folder of this one."""
    group: h5py.Group = hdf5
    for step in [part for part in name.split("/") if part]:
        link = group.get(step, getlink=True) if isinstance(group, h5py.Group) else None
        if isinstance(link, h5py.ExternalLink):
            inside(Path(path).resolve().parent, link.filename, f"{path}:{name}")
            return
        group = group.get(step)
