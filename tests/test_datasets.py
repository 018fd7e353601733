"""The list of published volumes: all of the table, and a small file of every row is read by its reader.

The files are laid out as the archives have them; the archives themselves are the user's to download.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pytest
import tensorstore
import tifffile
import zarr
from foreign import facts, folder_of, n5, pages, refused, voxels
from PIL import Image

from emgen.errors import EmgenError
from emgen.geometry import Box, VoxelSize
from emgen.training.datasets import Dataset, lookup, registry
from emgen.volumes.sources import FORMATS, ForeignVolume
from emgen.volumes.sources.allowed import Allowed
from emgen.volumes.volume import Volume

Array = npt.NDArray[Any]
EMPIAR = "https://www.ebi.ac.uk/empair/EMPIAR-"
ZENODO = "https://zenodo.org/records/10205819"
ORGANELLE = "https://openorganelle.janelia.org/datasets/"
FIB, VERIOS = "FIB-SEM", "FEI Verios SEM"

TRAINING = {
    "cem500k": ("CEM500K", "2-20 nm", "multiple", "https://elifesciences.org/articles/65894"),
    "tobacco-chloroplast": ("Tobacco Leaf Chloroplast", "3.6 nm", "SBF-SEM", f"{EMPIAR}11831/"),
    "hepatocellular-carcinoma": (
        "Human hepatocellular carcinoma cell",
        "4 nm",
        FIB,
        f"{EMPIAR}11849/",
    ),
    "myelin": ("Myelin", "5 nm", FIB, f"{EMPIAR}11214/"),
    "h01": (
        "Human brain",
        "4 nm",
        "ssSEM",
        "https://h01-release.storage.googleapis.com/data.html",
    ),
    "jrc_macrophage-2": ("Microphage", "4 nm", FIB, f"{ORGANELLE}jrc_macrophage-2"),
    "emdiffuse-brain": ("Mouse brain", "3.3 nm", VERIOS, ZENODO),
    "emdiffuse-heart": ("Mouse Heart", "4.4 nm", VERIOS, ZENODO),
    "emdiffuse-liver": ("Mouse Liver", "4.4 nm", VERIOS, ZENODO),
    "jrc_hela-3": ("Hela cell", "4 nm", FIB, f"{ORGANELLE}jrc_hela-3"),
    "jrc_ctl-id8-4": ("T cell", "8 nm", FIB, f"{ORGANELLE}jrc_ctl-id8-4"),
    "jrc_mus-kidney": ("Mouse Kidney (3D)", "8 nm", FIB, f"{ORGANELLE}jrc_mus-kidney"),
    "jrc_mus-liver": ("Mouse Liver (3D)", "8 nm", FIB, f"{ORGANELLE}jrc_mus-liver"),
    "jrc_mus-skin-1": ("Mouse Skin (3D)", "8 nm", FIB, f"{ORGANELLE}jrc_mus-skin-1"),
}
TEST = {
    "epfl-ca1": (
        "Mouse Brain CA1 hippocampus region",
        "5 × 5 × 5 nm",
        "SEM",
        "https://www.epfl.ch/labs/cvlab/data/data-em",
    ),
    "manc": (
        "Fly brain",
        "4 × 4 × 40 nm",
        "SEM",
        "https://www.janelia.org/project-team/flyem/manc-connectome",
    ),
    "xu2017-mouse-brain": (
        "Mouse Brain",
        "4 × 4 × 4 nm",
        FIB,
        "https://elifesciences.org/articles/25916/figures#videos",
    ),
}


# ---- the list


def test_the_list_is_the_table() -> None:
    assert (len(TRAINING), len(TEST)) == (14, 3)
    for use, rows in (("training", TRAINING), ("test", TEST)):
        listed = {key: each for key, each in registry().items() if each.use == use}
        assert {
            key: (each.sample, each.pixel_size, each.equipment, each.source)
            for key, each in listed.items()
        } == rows


@pytest.mark.parametrize("key", registry())
def test_an_entry_says_what_its_reader_needs(key: str) -> None:
    entry = lookup(key)
    assert entry.reader in (*FORMATS, "ome-zarr")
    assert (entry.inside is not None) == (entry.reader == "n5")
    assert ("://" in entry.open) == (entry.reader in ("precomputed", "ome-zarr"))
    assert entry.note and entry.source in entry.credit and entry.licence in entry.credit


def test_a_data_set_that_is_not_listed_is_refused_with_the_close_ones() -> None:
    with pytest.raises(EmgenError, match=r'no data set "jrc_mus_liver" .* mean jrc_mus-liver or'):
        lookup("jrc_mus_liver")
    with pytest.raises(EmgenError, match=r"known are cem500k, .*xu2017-mouse-brain"):
        lookup("?")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a: [", "is not YAML"),
        ("a: {sample: b, colour: c}", r"is not right.*\n  a\.pixel_size: .*\n  a\.colour: "),
        ("- a", "expected keys and values"),
    ],
)
def test_a_faulty_list_is_named(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "list.yaml").write_text(text)
    with pytest.raises(EmgenError, match=rf"(?s)list\.yaml:? {fault}"):
        registry(tmp_path / "list.yaml")
    with pytest.raises(EmgenError, match=r"the list of data sets .*none\.yaml cannot be read"):
        registry(tmp_path / "none.yaml")


# ---- small files, laid out as the archives have them


class Copy(NamedTuple):
    """What a download holds: where it is, what is in it and the voxel size that it states."""

    where: str
    grey: Array
    voxel: VoxelSize | None = None


def patches(folder: Path, entry: Dataset) -> Copy:
    """CEM500K: equally sized patches of many places, whose names order nothing."""
    grey = voxels(shape=(5, 224, 224))
    names = [
        "0fd1-LOC-2d-0-224_448-672",
        "0fd1-LOC-2d-1792-2016_0-224",
        "6d27",
        "b9_3D-7",
        "b9_3D-80",
    ]
    for name, patch in zip(names, grey, strict=True):
        tifffile.imwrite(folder / f"{name}.tiff", patch)
    return Copy(str(folder), grey)


def sections(folder: Path, entry: Dataset) -> Copy:
    return Copy(str(folder_of(folder / "data", voxels(), ".tif")), voxels())


def frames(folder: Path, entry: Dataset) -> Copy:
    for number, section in enumerate(voxels(), start=1):
        Image.fromarray(section).save(folder / f"{number:05d}.png")
    return Copy(str(folder), voxels())


def paged(folder: Path, entry: Dataset) -> Copy:
    pages(folder / "stack.tif", voxels())
    return Copy(str(folder / "stack.tif"), voxels())


def in_one_piece(folder: Path, entry: Dataset) -> Copy:
    tifffile.imwrite(folder / entry.open, voxels())
    return Copy(str(folder / entry.open), voxels())


def region(folder: Path, entry: Dataset) -> Copy:
    """EMDiffuse: the clean image beside noisier ones and one of lower magnification."""
    clean = folder / entry.open
    clean.parent.mkdir(parents=True)
    for number, image in enumerate(voxels()[:2], start=8):
        tifffile.imwrite(clean.with_name(clean.name.replace("09", f"{number:02d}")), image)
    tifffile.imwrite(clean.with_name(clean.name.replace("4w_09", "2w_01")), voxels()[2, :8, :11])
    return Copy(str(clean), voxels()[1:2])


def transform(size: VoxelSize) -> dict[str, Any]:
    """What OpenOrganelle writes into each of its N5 levels: x first, and once more z first."""
    z, y, x = size
    return {
        "pixelResolution": {"dimensions": [x, y, z], "unit": "nm"},
        "transform": {
            "axes": ["z", "y", "x"],
            "scale": [z, y, x],
            "translate": [0.0, 0.0, 0.0],
            "units": ["nm", "nm", "nm"],
        },
    }


def organelle_n5(folder: Path, entry: Dataset) -> Copy:
    assert entry.inside and entry.voxel_size_nm
    group = (folder / entry.open / entry.inside).parent
    size, grey = VoxelSize(*entry.voxel_size_nm), voxels(group.name.removeprefix("fibsem-"))
    for level in (0, 1):
        factor = 2**level
        n5(
            group / f"s{level}",
            grey[::factor, ::factor, ::factor],
            **transform(size.scaled([factor] * 3)),
        )
    levels = [{"path": f"s{level}"} for level in (0, 1)]
    multiscale = {"multiscales": [{"datasets": levels, "name": group.name}], "n5": "2.0.0"}
    (group / "attributes.json").write_text(json.dumps(multiscale | transform(size)))
    return Copy(str(folder / entry.open), grey, size)


def organelle_zarr(folder: Path, entry: Dataset) -> Copy:
    size = VoxelSize(8, 8, 8)
    group = zarr.open_group(folder / entry.open.split("/", 3)[3], mode="w", zarr_format=2)
    group.create_array("s0", data=voxels(), chunks=(4, 8, 8))
    steps = [
        {"type": "scale", "scale": list(size)},
        {"type": "translation", "translation": [0.0, 0.0, 0.0]},
    ]
    group.attrs["multiscales"] = [
        {
            "version": "0.4",
            "name": "fibsem-uint8",
            "axes": [{"name": axis, "type": "space", "unit": "nanometer"} for axis in "zyx"],
            "coordinateTransformations": [{"type": "scale", "scale": [1.0, 1.0, 1.0]}],
            "datasets": [{"path": "s0", "coordinateTransformations": steps}],
        }
    ]
    return Copy(str(folder / entry.open.split("/", 3)[3]), voxels(), size)


def jpeg(folder: Path, entry: Dataset) -> Copy:
    """Neuroglancer precomputed in shards; squares of 8 x 8 equal pixels, which JPEG keeps exactly."""
    assert entry.voxel_size_nm
    size = VoxelSize(*entry.voxel_size_nm)
    grey = voxels(shape=(6, 3, 4)).repeat(8, axis=1).repeat(8, axis=2)
    shards = {"@type": "neuroglancer_uint64_sharded_v1", "hash": "identity", "preshift_bits": 1}
    shards |= {"minishard_bits": 0, "shard_bits": 1, "minishard_index_encoding": "gzip"}
    scale = {"encoding": "jpeg", "jpeg_quality": 100, "chunk_size": [16, 16, 4], "sharding": shards}
    scale |= {"size": grey.shape[::-1], "resolution": [*size][::-1]}
    whole = {"data_type": "uint8", "num_channels": 1, "type": "image"}
    store = {"driver": "neuroglancer_precomputed", "kvstore": f"file://{folder}/em/"}
    store |= {"multiscale_metadata": whole, "scale_metadata": scale}
    tensorstore.open(store, create=True).result()[..., 0].write(grey.T).result()
    return Copy(f"precomputed://{folder}/em", grey, size)


COPIES: dict[str, Callable[[Path, Dataset], Copy]] = {
    "cem500k": patches,
    "tobacco-chloroplast": sections,
    "hepatocellular-carcinoma": sections,
    "myelin": paged,
    "h01": jpeg,
    "jrc_macrophage-2": organelle_n5,
    "emdiffuse-brain": region,
    "emdiffuse-heart": region,
    "emdiffuse-liver": region,
    "jrc_hela-3": organelle_n5,
    "jrc_ctl-id8-4": organelle_zarr,
    "jrc_mus-kidney": organelle_n5,
    "jrc_mus-liver": organelle_n5,
    "jrc_mus-skin-1": organelle_zarr,
    "epfl-ca1": in_one_piece,
    "manc": jpeg,
    "xu2017-mouse-brain": frames,
}


@pytest.mark.parametrize("key", registry())
def test_a_copy_of_every_row_is_read_by_its_reader(tmp_path: Path, key: str) -> None:
    entry = lookup(key)
    where, grey, voxel = COPIES[key](tmp_path, entry)
    opened: Volume | ForeignVolume
    if entry.reader == "ome-zarr":
        opened = Volume.open(where)
        found = opened.read(Box.whole(opened.shape))
        refused(where, "emgen works on OME-Zarr as it is")
    else:
        # patches are taken from where they lie, whatever their order
        allowed = Allowed(any_order=key == "cem500k")
        opened, found = facts(where, entry.inside, allowed)
        assert opened.format == entry.reader
        assert [note for note in opened.notes if "JPEG" not in note] == []
    np.testing.assert_array_equal(found, grey)
    assert found.dtype == grey.dtype and opened.voxel == voxel


def test_a_coarser_level_of_an_organelle_has_its_own_voxel_size(tmp_path: Path) -> None:
    entry = lookup("jrc_hela-3")
    where, grey, voxel = organelle_n5(tmp_path, entry)
    source, found = facts(where, "em/fibsem-uint16/s1")
    np.testing.assert_array_equal(found, grey[::2, ::2, ::2])
    assert voxel and source.voxel == voxel.scaled((2, 2, 2))
    refused(where, "one of em/fibsem-uint16/s0, em/fibsem-uint16/s1: choose with --dataset")


def test_images_of_unequal_size_are_no_stack(tmp_path: Path) -> None:
    where = region(tmp_path, lookup("emdiffuse-brain")).where
    refused(Path(where).parent, r"2w_01\.tif has 8 x 11 pixels .*all must be alike: crop, pad")
