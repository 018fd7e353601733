import json
import shutil

import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from emgen.errors import EmgenError
from emgen.geometry import Box, VoxelSize
from emgen.volumes.volume import Volume

VOXEL = VoxelSize(40, 4, 4)
FACTORS = [(1, 1, 1), (1, 2, 2), (1, 4, 4)]


def make(path, shape=(20, 65, 131), dtype="uint8", ngff="0.5", **more):
    return Volume.create(
        path, shape, dtype, VOXEL, ngff=ngff, chunk=(8, 16, 16), shard=(16, 32, 32), **more
    )


@pytest.mark.parametrize("ngff", ["0.4", "0.5"])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
def test_voxels_and_geometry_come_back(tmp_path, ngff, dtype):
    voxels = (np.random.default_rng(0).normal(size=(20, 65, 131)) * 90 + 100).astype(dtype)
    volume = make(
        tmp_path / "v.ome.zarr", dtype=dtype, ngff=ngff, factors=FACTORS, origin=(20.0, 0.0, 6.0)
    )
    volume.write(Box.whole(volume.shape), voxels)
    again = Volume.open(tmp_path / "v.ome.zarr")
    assert (again.read(Box.whole(again.shape)) == voxels).all()
    assert (again.voxel, again.translation, again.dtype) == (VOXEL, (20, 0, 6), np.dtype(dtype))
    coarse = Volume.open(tmp_path / "v.ome.zarr", level=2)
    assert (coarse.shape, coarse.voxel, coarse.translation) == (
        (20, 17, 33),
        VoxelSize(40, 16, 16),
        (20, 6, 12),
    )


@pytest.mark.parametrize("ngff", ["0.4", "0.5"])
def test_other_readers_accept_what_we_write(tmp_path, ngff):
    import ome_zarr.io
    import ome_zarr.reader
    import ome_zarr_models
    import yaozarrs

    path = tmp_path / "v.ome.zarr"
    volume = make(
        path,
        ngff=ngff,
        factors=FACTORS,
        window=(0, 20, 200, 255),
        attributes={"emgen": {"key": "k"}},
    )
    voxels = np.random.default_rng(0).integers(0, 255, volume.shape).astype(np.uint8)
    volume.write(Box.whole(volume.shape), voxels)
    yaozarrs.validate_zarr_store(str(path))
    model = ome_zarr_models.open_ome_zarr(zarr.open_group(path, mode="r"))
    assert model.ome_zarr_version == ngff
    (node,) = ome_zarr.reader.Reader(ome_zarr.io.parse_url(path))()
    assert [level.shape for level in node.data] == [(20, 65, 131), (20, 33, 66), (20, 17, 33)]
    assert (np.asarray(node.data[0]) == voxels).all()


def test_version_0_5_is_sharded_zstd_1_without_shuffle(tmp_path):
    make(tmp_path / "v.ome.zarr")
    array = json.loads((tmp_path / "v.ome.zarr/0/zarr.json").read_text())
    (sharding,) = array["codecs"]
    assert sharding["name"] == "sharding_indexed" and sharding["configuration"]["chunk_shape"] == [
        8,
        16,
        16,
    ]
    blosc = sharding["configuration"]["codecs"][-1]["configuration"]
    assert (blosc["cname"], blosc["clevel"], blosc["shuffle"]) == ("zstd", 1, "noshuffle")
    assert array["dimension_names"] == ["z", "y", "x"]


def test_leading_axes_of_one_are_looked_through(tmp_path):
    group = zarr.open_group(tmp_path / "tczyx.zarr", mode="w", zarr_format=2)
    group.create_array("0", data=np.arange(24, dtype=np.uint16).reshape(1, 1, 2, 3, 4))
    axes = [{"name": n, "type": t} for n, t in (("t", "time"), ("c", "channel"))]
    axes += [{"name": n, "type": "space", "unit": "micrometer"} for n in "zyx"]
    scale = {"type": "scale", "scale": [1, 1, 0.04, 0.004, 0.004]}
    group.attrs["multiscales"] = [
        {
            "version": "0.4",
            "axes": axes,
            "datasets": [{"path": "0", "coordinateTransformations": [scale]}],
        }
    ]
    volume = Volume.open(tmp_path / "tczyx.zarr")
    assert (volume.shape, tuple(volume.voxel)) == ((2, 3, 4), pytest.approx((40, 4, 4)))
    assert volume.read(Box((1, 0, 0), (2, 1, 4))).tolist() == [[[12, 13, 14, 15]]]


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_a_write_that_cuts_a_unit_is_refused(tmp_path_factory, data):
    volume = make(tmp_path_factory.mktemp("v") / "v.ome.zarr")
    start = [data.draw(st.integers(0, n - 1)) for n in volume.shape]
    stop = [data.draw(st.integers(a + 1, n)) for a, n in zip(start, volume.shape, strict=True)]
    whole = all(
        a % u == 0 and (b % u == 0 or b == n)
        for a, b, u, n in zip(start, stop, volume.write_unit, volume.shape, strict=True)
    )
    box = Box(start, stop)
    if whole:
        volume.write(box, np.ones(box.shape, np.uint8))
        assert volume.read(box).all()
    else:
        with pytest.raises(ValueError, match="cut a write unit"):
            volume.write(box, np.ones(box.shape, np.uint8))


def test_a_volume_is_never_overwritten(tmp_path):
    make(tmp_path / "v.ome.zarr")
    with pytest.raises(EmgenError, match="never overwrites"):
        make(tmp_path / "v.ome.zarr")


def test_faults_are_named(tmp_path):
    with pytest.raises(EmgenError, match="there is no volume"):
        Volume.open(tmp_path / "none.zarr")
    (tmp_path / "text.zarr").write_text("no volume")
    with pytest.raises(EmgenError, match="cannot be opened"):
        Volume.open(tmp_path / "text.zarr")
    zarr.open_group(tmp_path / "bare.zarr", mode="w")
    with pytest.raises(EmgenError, match="not an OME-Zarr image"):
        Volume.open(tmp_path / "bare.zarr")
    make(tmp_path / "v.ome.zarr")
    shutil.rmtree(tmp_path / "v.ome.zarr/0")
    with pytest.raises(EmgenError, match="no such array"):
        Volume.open(tmp_path / "v.ome.zarr")


def test_metadata_that_is_not_json_is_named(tmp_path):
    make(tmp_path / "v.ome.zarr")
    (tmp_path / "v.ome.zarr/zarr.json").write_text("{")
    with pytest.raises(EmgenError, match=r"v\.ome\.zarr"):
        Volume.open(tmp_path / "v.ome.zarr")


def test_a_damaged_chunk_is_named(tmp_path):
    volume = make(tmp_path / "v.ome.zarr")
    volume.write(Box.whole(volume.shape), np.full(volume.shape, 7, np.uint8))
    shard = tmp_path / "v.ome.zarr/0/c/0/0/0"
    shard.write_bytes(b"\0" * shard.stat().st_size)
    with pytest.raises(EmgenError, match="damaged or incomplete"):
        volume.read(Box((0, 0, 0), (1, 8, 8)))


@pytest.mark.parametrize(
    ("axes", "shape", "fault"),
    [
        ("yx", (4, 4), "needs a 3-D image"),
        ("tczyx", (2, 1, 4, 4, 4), "expected one 3-D image"),
        ("zyxw", (4, 4, 4, 2), "expected one 3-D image"),
    ],
)
def test_images_that_are_not_one_3d_volume_are_refused(tmp_path, axes, shape, fault):
    group = zarr.open_group(tmp_path / "v.zarr", mode="w", zarr_format=3)
    group.create_array("0", shape=shape, dtype="uint8")
    scale = [{"type": "scale", "scale": [1.0] * len(shape)}]
    described = [{"name": name, "type": "space", "unit": "nanometer"} for name in axes]
    group.attrs["ome"] = {
        "version": "0.5",
        "multiscales": [
            {"axes": described, "datasets": [{"path": "0", "coordinateTransformations": scale}]}
        ],
    }
    with pytest.raises(EmgenError, match=fault):
        Volume.open(tmp_path / "v.zarr")


def test_axes_without_a_unit_are_refused(tmp_path):
    volume = make(tmp_path / "v.ome.zarr")
    group = zarr.open_group(volume.path)
    ome = group.attrs["ome"]
    for axis in ome["multiscales"][0]["axes"]:
        del axis["unit"]
    group.attrs["ome"] = ome
    with pytest.raises(EmgenError, match="voxel size is unknown"):
        Volume.open(volume.path)
