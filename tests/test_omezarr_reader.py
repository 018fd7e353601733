"""OME-Zarr as other programs and faults leave it: the right volume, or one sentence."""

import copy
import json
import os
import shutil

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs import Delta

from emgen.config.input import Input
from emgen.errors import EmgenError
from emgen.geometry import Box, VoxelSize
from emgen.volumes import omezarr_reader
from emgen.volumes.inputs import open_input
from emgen.volumes.volume import Volume

VOXELS = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)
SIZE = VoxelSize(40, 8, 8)


def axis(name, unit="nanometer"):
    return {"name": name, "type": "space", "unit": unit}


def image(axes="zyx", version="0.4", scale=(40, 8, 8), unit="nanometer", **more):
    """Metadata of an image in the form of a version."""
    described = {"version": version, "datasets": [{"path": "0"}], **more}
    if version == "0.3":
        described["axes"] = list(axes)
    if version >= "0.4":
        described["axes"] = [axis(name, unit) for name in axes]
        described["datasets"][0]["coordinateTransformations"] = [
            {"type": "scale", "scale": list(scale)}
        ]
    return {"multiscales": [described]}


def store(path, attributes, voxels=VOXELS, zarr_format=2, **array):
    group = zarr.open_group(path, mode="w", zarr_format=zarr_format)
    group.create_array("0", data=voxels, **array)
    group.attrs.update(attributes)
    return path


def read(path, **given):
    volume = Volume.open(path, **given)
    return volume, volume.read(Box.whole(volume.shape))


@pytest.mark.parametrize("separator", [".", "/"])
@pytest.mark.parametrize("version", ["0.1", "0.2", "0.3", "0.4"])
def test_every_version_gives_the_voxels(tmp_path, version, separator):
    axes, voxels = ("zyx", VOXELS) if version >= "0.3" else ("tczyx", VOXELS[None, None])
    attributes = image(axes, version)
    encoding = {"name": "v2", "separator": separator}
    path = store(tmp_path / "v.zarr", attributes, voxels, chunk_key_encoding=encoding)
    volume, found = read(path, voxel=None if version == "0.4" else SIZE)
    assert (volume.voxel, volume.translation) == (SIZE, (0, 0, 0))
    assert (found == VOXELS).all()


def test_old_images_may_lack_time_and_channel(tmp_path):
    found = read(store(tmp_path / "v.zarr", image(version="0.1")), voxel=SIZE)[1]
    assert (found == VOXELS).all()


@pytest.mark.parametrize("version", ["0.1", "0.2", "0.3"])
def test_versions_that_know_no_size_are_asked_about(tmp_path, version):
    voxels = VOXELS if version == "0.3" else VOXELS[None, None]
    path = store(tmp_path / "v.zarr", image("zyx", version), voxels)
    with pytest.raises(EmgenError, match=r"set input\.voxel_size"):
        Volume.open(path)


@pytest.mark.parametrize("axes", ["zyx", "xyz", "yxz", "zxy", "tczyx", "zyxc", "czxy"])
def test_axes_are_read_by_their_names(tmp_path, axes):
    order = [axes.index(a) for a in "zyx"]
    voxels = VOXELS.transpose([np.argsort(np.argsort(order)).tolist().index(i) for i in range(3)])
    for place, name in enumerate(axes):
        voxels = voxels if name in "zyx" else np.expand_dims(voxels, place)
    sizes = dict(zip("zyx", SIZE, strict=True))
    attributes = image(axes, scale=[sizes.get(a, 1) for a in axes])
    for described in attributes["multiscales"][0]["axes"]:
        if described["name"] not in "zyx":
            described.pop("unit")
            described["type"] = "channel"
    volume, found = read(store(tmp_path / "v.zarr", attributes, voxels))
    assert volume.voxel == SIZE
    assert (found == VOXELS).all()
    part = Box((1, 0, 2), (2, 2, 3))
    assert (volume.read(part) == VOXELS[part.slices]).all()


@pytest.mark.parametrize(
    "array",
    [
        {"order": "F", "chunks": (2, 2, 3)},
        {"filters": [Delta("u1")]},
        {"fill_value": 7, "chunks": (1, 3, 4)},
        {"compressors": None},
    ],
    ids=["order F", "a filter", "a fill value", "no compression"],
)
def test_what_an_array_states_is_heeded(tmp_path, array):
    voxels = VOXELS.copy()
    voxels[1] = array.get("fill_value", 1)
    found = read(store(tmp_path / "v.zarr", image(), voxels, **array))[1]
    assert (found == voxels).all()


@pytest.mark.parametrize("dtype", [">u2", "<f4", ">f4", ">i4"])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_numbers_are_read_in_their_byte_order(tmp_path, dtype, zarr_format):
    attributes = image() if zarr_format == 2 else {"ome": {"version": "0.5", **image()}}
    voxels = VOXELS.astype(dtype) * 1000
    found = read(store(tmp_path / "v.zarr", attributes, voxels, zarr_format))[1]
    assert (found == voxels).all()


@pytest.mark.parametrize("dtype", ["c8", "?", "M8[s]", "S3", [("a", "u1"), ("b", "u1")]])
def test_voxels_that_are_not_one_real_number_are_refused(tmp_path, dtype):
    path = store(tmp_path / "v.zarr", image(), np.zeros((2, 3, 4), dtype))
    with pytest.raises(EmgenError, match="integer or floating-point"):
        Volume.open(path)


def with_scale(*transformations):
    attributes = image()
    attributes["multiscales"][0]["datasets"][0]["coordinateTransformations"] = list(transformations)
    return attributes


@pytest.mark.parametrize(
    ("attributes", "fault"),
    [
        (image(version="0.6"), "reads 0.1 to 0.5"),
        ({"ome": {"version": "0.6.dev1", "multiscales": [{"coordinateSystems": []}]}}, "0.1 to"),
        (image(version="0.10"), "reads 0.1 to 0.5"),
        (image(unit=""), r"no unit.*set input\.voxel_size"),
        (image(unit="parsec"), "unknown unit"),
        (image(scale=(40, -8, 8)), "mirrors an axis"),
        (image(scale=(40, 0, 8)), "without a size"),
        (image(scale=(40, float("nan"), 8)), "a finite number"),
        (image(scale=(40, 10**400, 8)), "a finite number"),
        (image(scale=(1e300, 8, 1e-323), unit="meter"), "no numbers"),
        (image(scale=(40, 8)), "3 numbers, one for each axis"),
        (image(scale=(40, True, 8)), "a number"),
        (with_scale({"type": "scale", "path": "/s"}), "in another file"),
        (with_scale({"type": "affine", "affine": [[1]]}), "does not know"),
        (with_scale({"type": "translation", "translation": [1, 1, 1]}), "no scale"),
        (image("zy"), "3-D image"),
        (image("zyxx", scale=(1, 1, 1, 1)), "3-D image"),
        ({"multiscales": []}, "empty"),
        ({"multiscales": image()["multiscales"] * 2}, "2 images"),
        ({"multiscales": [{**image()["multiscales"][0], "datasets": []}]}, "list of levels"),
        ({"plate": {}, "multiscales": None}, "a plate of many"),
        ({**image(), "ome": {"version": "0.5", **image(scale=(32, 8, 8))}}, "two differ"),
    ],
)
def test_what_cannot_be_honoured_is_refused(attributes, fault):
    with pytest.raises(EmgenError, match=fault):
        omezarr_reader.read(attributes, "v")


def test_axes_of_another_kind_are_refused():
    attributes = image()
    attributes["multiscales"][0]["axes"][0]["type"] = "time"
    with pytest.raises(EmgenError, match="must be of type space"):
        omezarr_reader.read(attributes, "v")


def test_levels_out_of_order_are_refused():
    attributes = image()
    finer = copy.deepcopy(attributes["multiscales"][0]["datasets"][0])
    finer["path"], finer["coordinateTransformations"][0]["scale"] = "1", [40, 4, 4]
    attributes["multiscales"][0]["datasets"].append(finer)
    with pytest.raises(EmgenError, match="finest level first"):
        omezarr_reader.read(attributes, "v")


@pytest.mark.parametrize("unit", [None, "", "parsec", "micrometer"])
def test_a_given_voxel_size_wins_over_the_file(unit):
    attributes = image(unit=unit)
    attributes["multiscales"][0]["datasets"] += copy.deepcopy(
        attributes["multiscales"][0]["datasets"]
    )
    fine, coarse = attributes["multiscales"][0]["datasets"]
    fine["coordinateTransformations"].append({"type": "translation", "translation": [80, 0, 4]})
    coarse["coordinateTransformations"][0]["scale"] = [40, 16, 16]
    levels = omezarr_reader.read(attributes, "v", VoxelSize(30, 5, 5)).levels
    assert [level.voxel for level in levels] == [VoxelSize(30, 5, 5), VoxelSize(30, 10, 10)]
    assert levels[0].translation == (60, 0, 2.5)


def test_voxels_of_no_microscope_are_refused(tmp_path):
    path = str(store(tmp_path / "v.zarr", image(scale=(40000, 8, 8))))
    with pytest.raises(EmgenError, match=r"mistaken.*set input\.voxel_size"):
        open_input(Input(volume=path))
    assert open_input(Input(volume=path, voxel_size=[40, 8, 8])).voxel == SIZE
    path = str(store(tmp_path / "w.zarr", image(unit="millimeter")))
    with pytest.raises(EmgenError, match=r"expected 0\.1 to 100000 nm"):
        open_input(Input(volume=path))


def test_labels_are_no_input(tmp_path):
    path = str(store(tmp_path / "v.zarr", image() | {"image-label": {}}))
    with pytest.raises(EmgenError, match="expected grey values"):
        open_input(Input(volume=path))
    assert Volume.open(path).label


@pytest.mark.parametrize(("series", "listed"), [(["0"], True), (["0"], False), (["0", "1"], True)])
def test_the_only_image_of_a_conversion_is_opened(tmp_path, series, listed):
    root = zarr.open_group(tmp_path / "bf", mode="w", zarr_format=2)
    root.attrs["bioformats2raw.layout"] = 3
    if listed:
        root.create_group("OME").attrs["series"] = series
    for name in series:
        store(tmp_path / "bf" / name, image())
    if len(series) == 1:
        volume, found = read(tmp_path / "bf")
        assert (found == VOXELS).all()
        assert volume.path.endswith("bf/0")
    else:
        with pytest.raises(EmgenError, match=r"2 images.*bf/0, .*bf/1"):
            Volume.open(tmp_path / "bf")


def both(path, **other):
    """An image with metadata of both formats over the same chunks, as `zarr migrate` leaves it."""
    encoding = {"name": "v2", "separator": "/"}
    store(path, image(), compressors=None, chunk_key_encoding=encoding)
    newer = path.with_name("newer")
    attributes = {"ome": {"version": "0.5", **image(**other)}}
    store(newer, attributes, zarr_format=3, compressors=None, chunk_key_encoding=encoding)
    shutil.copy(newer / "zarr.json", path)
    shutil.copy(newer / "0/zarr.json", path / "0")
    return path


def test_old_and_new_metadata_must_agree(tmp_path):
    assert (read(both(tmp_path / "v.zarr"))[1] == VOXELS).all()
    with pytest.raises(EmgenError, match="different images"):
        Volume.open(both(tmp_path / "w.zarr", scale=(32, 8, 8)))
    path = both(tmp_path / "u.zarr")
    array = json.loads((path / "0/.zarray").read_text())
    (path / "0/.zarray").write_text(json.dumps({**array, "shape": [2, 3, 3]}))
    with pytest.raises(EmgenError, match="different arrays"):
        Volume.open(path)


def test_an_array_whose_axes_contradict_the_image_is_refused(tmp_path):
    attributes = {"ome": {"version": "0.5", **image()}}
    store(tmp_path / "v.zarr", attributes, zarr_format=3, dimension_names=["x", "y", "z"])
    with pytest.raises(EmgenError, match="expected the same order"):
        Volume.open(tmp_path / "v.zarr")


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("shape", [2**31, 3, 4]),
        ("shape", [2**24, 2**24, 2**24]),
        ("chunks", [4096, 4096, 4096]),
        ("chunks", [0, 1, 1]),
        ("chunks", [2**70, 1, 1]),
    ],
)
def test_absurd_arrays_are_refused(tmp_path, entry, value):
    path = store(tmp_path / "v.zarr", image())
    array = json.loads((path / "0/.zarray").read_text())
    (path / "0/.zarray").write_text(json.dumps({**array, entry: value}))
    with pytest.raises(EmgenError):
        Volume.open(path)


def test_a_level_is_not_an_image(tmp_path):
    path = store(tmp_path / "v.zarr", image())
    with pytest.raises(EmgenError, match="name the folder above"):
        Volume.open(path / "0")


def places(value, path=()):
    """Keys and indices to everything in a JSON value."""
    yield path
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, inner in items:
            yield from places(inner, (*path, key))


def mutated(value, path, new):
    if not path:
        return new
    value = copy.copy(value)
    if new is ... and len(path) == 1:
        del value[path[0]]
        return value
    value[path[0]] = mutated(value[path[0]], path[1:], new)
    return value


deep = []
for _ in range(900):
    deep = [deep]
scraps = st.one_of(
    st.just(...),
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from(
        [10**400, -1, 0, deep, {"0": deep}, float("nan"), float("inf"), "../..", "é\0"]
    ),
    st.floats(),
    st.text(max_size=5),
    st.lists(st.integers(), max_size=3),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)
WHOLE = {**image(), "omero": {"channels": []}}
WHOLE["multiscales"][0]["coordinateTransformations"] = [
    {"type": "translation", "translation": [1, 2, 3]},
    {"type": "scale", "scale": [1, 1, 1]},
]


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_damaged_image_metadata_end_in_a_sentence(data):
    """Or they say the same as before, or say in the specification's words something else that is whole."""
    path = data.draw(st.sampled_from(list(places(WHOLE))))
    attributes = mutated(WHOLE, path, data.draw(scraps)) if path else data.draw(scraps)
    try:
        found = omezarr_reader.read(attributes, "v", data.draw(st.sampled_from([None, SIZE])))
    except EmgenError as error:
        assert len(str(error)) < 500, error  # noqa: PT017
    else:
        assert len(found.levels) == 1
        assert all(np.isfinite([*found.levels[0].voxel, *found.levels[0].translation]))


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_damaged_array_metadata_end_in_a_sentence(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("v")
    attributes = {"ome": {"version": "0.5", **image()}}
    newer = data.draw(st.booleans())
    path = store(
        folder / "v.zarr",
        attributes if newer else image(),
        zarr_format=3 if newer else 2,
        fill_value=0,
        **({"shards": (2, 4, 4), "chunks": (1, 2, 2)} if newer else {}),
    )
    name = data.draw(
        st.sampled_from(["zarr.json", "0/zarr.json"] if newer else [".zattrs", "0/.zarray"])
    )
    whole = json.loads((path / name).read_text())
    place = data.draw(st.sampled_from([p for p in places(whole) if p]))
    new = data.draw(scraps)
    (path / name).write_text(json.dumps(mutated(whole, place, new)))
    try:
        volume = Volume.open(path, missing="refuse")
        found = volume.read(Box.whole(volume.shape)) if volume.shape == VOXELS.shape else None
    except EmgenError:
        found = None
    # numbers of another type may be other numbers
    if found is not None and place[-1] not in ("data_type", "dtype"):
        assert (found == VOXELS).all(), (name, place, new)
    shutil.rmtree(folder)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=40), st.sampled_from([".zattrs", ".zgroup", "0/.zarray", "0/.zattrs"]))
def test_metadata_of_any_bytes_end_in_a_sentence(tmp_path_factory, content, name):
    folder = tmp_path_factory.mktemp("v")
    path = store(folder / "v.zarr", image())
    (path / name).write_bytes(content)
    try:
        Volume.open(path)
    except EmgenError as error:
        assert os.fspath(path) in str(error)  # noqa: PT017
    shutil.rmtree(folder)
