import pytest
from hypothesis import given
from hypothesis import strategies as st

from emgen.errors import EmgenError
from emgen.geometry import VoxelSize
from emgen.volumes import omezarr, omezarr_reader

sizes = st.floats(0.5, 100).map(lambda v: round(v, 3))
voxels = st.builds(VoxelSize, sizes, sizes, sizes)
factors = st.tuples(*[st.sampled_from([1, 2, 4, 8])] * 3)


@given(voxels, st.lists(factors, max_size=3), st.sampled_from(["0.4", "0.5"]))
def test_what_is_written_is_read_again(voxel, steps, version):
    levels = [omezarr.level_of(str(i), voxel, f) for i, f in enumerate([(1, 1, 1), *steps])]
    image = omezarr_reader.read(omezarr.write("v", levels, version, (0, 1, 2, 3)), "v")
    assert image == omezarr.Image(version, tuple(levels), ("z", "y", "x"))


@given(voxels, factors)
def test_every_level_covers_the_same_place(voxel, by):
    """The near edge of a level's first voxel is that of level 0: half a voxel before its centre."""
    level = omezarr.level_of("1", voxel, by)
    for first, size, fine in zip(level.translation, level.voxel, voxel, strict=True):
        assert first - size / 2 == pytest.approx(-fine / 2)


def described(**axis):
    axes = [{"name": name, "type": "space", **axis} for name in "zyx"]
    transformations = [
        {"type": "scale", "scale": [0.04, 0.004, 0.004]},
        {"type": "translation", "translation": [1, 0, 0]},
    ]
    return {
        "ome": {
            "version": "0.5",
            "multiscales": [
                {
                    "axes": axes,
                    "datasets": [{"path": "0", "coordinateTransformations": transformations}],
                }
            ],
        }
    }


@pytest.mark.parametrize(
    ("unit", "nm"), [("micrometer", 1e3), ("nanometer", 1), ("angstrom", 0.1), ("millimeter", 1e6)]
)
def test_units_become_nanometres(unit, nm):
    (level,) = omezarr_reader.read(described(unit=unit), "v").levels
    assert tuple(level.voxel) == pytest.approx((0.04 * nm, 0.004 * nm, 0.004 * nm))
    assert level.translation == pytest.approx((nm, 0, 0))


def test_a_scale_for_all_levels_counts_too():
    attributes = described(unit="nanometer")
    attributes["ome"]["multiscales"][0]["coordinateTransformations"] = [
        {"type": "scale", "scale": [100, 1000, 1000]}
    ]
    assert tuple(omezarr_reader.read(attributes, "v").levels[0].voxel) == pytest.approx((4, 4, 4))


@pytest.mark.parametrize(
    ("attributes", "fault"),
    [
        ({}, "not an OME-Zarr image"),
        (described(), "voxel size is unknown"),
        (described(unit="parsec"), "unknown unit of length 'parsec'"),
    ],
)
def test_metadata_that_says_too_little_is_refused(attributes, fault):
    with pytest.raises(EmgenError, match=fault):
        omezarr_reader.read(attributes, "v")


def test_a_level_without_a_scale_is_refused():
    attributes = described(unit="nanometer")
    attributes["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"] = []
    with pytest.raises(EmgenError, match="no scale"):
        omezarr_reader.read(attributes, "v")
