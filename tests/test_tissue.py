"""Where there is tissue: the rule's laws, and what stays, is restored, and is never seen."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from emgen.geometry import Box
from emgen.physics.tissue import MEASURED, Tissue

SHAPE = (8, 90, 100)


def noise(shape=SHAPE, dtype=np.uint8):
    return np.random.default_rng(0).integers(40, 200, shape).astype(dtype)


@st.composite
def damaged(draw):
    """A volume with rectangles of no data, NaN or absence all over it, and the rule for it."""
    voxels, absent = noise(dtype=np.float32), np.zeros(SHAPE, bool)
    for _ in range(draw(st.integers(1, 5))):
        corner = [draw(st.integers(0, n - 1)) for n in SHAPE]
        size = [draw(st.integers(1, n)) for n in (4, 60, 60)]
        part = tuple(slice(a, a + s) for a, s in zip(corner, size, strict=True))
        match draw(st.sampled_from(["no data", "nan", "absent"])):
            case "no data":
                voxels[part] = 0
            case "nan":
                voxels[part] = np.nan
            case "absent":
                absent[part] = True
    missing = tuple(sorted(draw(st.sets(st.integers(0, 7), max_size=4))))
    return voxels, absent, Tissue(SHAPE, (0.0,), missing, draw(st.integers(0, 24)), True)


@given(damaged(), st.data())
def test_a_voxels_state_is_the_same_in_every_box(volume, data):
    voxels, absent, rule = volume
    whole = rule.states(voxels, Box.whole(SHAPE), absent)
    start = [data.draw(st.integers(0, n - 1)) for n in SHAPE]
    stop = [data.draw(st.integers(a + 1, n)) for a, n in zip(start, SHAPE, strict=True)]
    box = Box(tuple(start), tuple(stop))
    around = rule.surroundings(box)
    found = rule.states(voxels[around.slices], around, absent[around.slices])
    found = np.full(around.shape, MEASURED) if found is None else found
    whole = np.full(SHAPE, MEASURED) if whole is None else whole
    np.testing.assert_array_equal(found[box.relative_to(around).slices], whole[box.slices])


@given(damaged())
def test_what_was_measured_is_kept_and_the_rest_is_finite(volume):
    voxels, absent, rule = volume
    box = Box.whole(SHAPE)
    seen = rule.seen(voxels, box, box, absent, 100.0)
    if seen.states is None:
        return
    known = seen.states == MEASURED
    np.testing.assert_array_equal(seen.voxels[known], voxels[known])
    assert np.isfinite(seen.voxels).all()
    assert not known[list(rule.missing)].any() and not known[absent].any()
