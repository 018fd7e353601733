"""Interpolation is exact where it should be, and knows nothing of boxes."""

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from emgen.geometry import Box
from emgen.physics.interpolation import linear, support

MEASURED = (5, 4, 6)


def volume(shape: tuple[int, ...] = MEASURED) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@st.composite
def geometry(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[float, ...], Box]:
    scale = draw(st.tuples(*[st.integers(1, 4)] * 3))
    centre = tuple(draw(st.sampled_from([0, (s - 1) / 2, s - 1])) for s in scale)
    pairs = []
    for n, s in zip(MEASURED, scale, strict=True):
        start = draw(st.integers(0, n * s - 1))
        pairs.append((start, draw(st.integers(start + 1, n * s))))
    return scale, centre, Box(tuple(a for a, _ in pairs), tuple(b for _, b in pairs))


@given(where=geometry())
@settings(max_examples=40, deadline=None)
def test_a_value_depends_on_its_position_only(where) -> None:
    scale, centre, box = where
    y = volume()
    everything = Box.whole([n * s for n, s in zip(MEASURED, scale, strict=True)])
    whole = linear(y, Box.whole(MEASURED), everything, scale, centre)
    assert whole.dtype == np.float32
    assert np.array_equal(linear(y, Box.whole(MEASURED), box, scale, centre), whole[box.slices])


@given(where=geometry())
@settings(max_examples=40, deadline=None)
def test_the_support_is_enough(where) -> None:
    scale, centre, box = where
    y, m = volume(), support(box, scale, centre, MEASURED)
    expected = linear(y, Box.whole(MEASURED), box, scale, centre)
    assert np.array_equal(linear(y[m.slices], m, box, scale, centre), expected)


def test_a_ramp_is_reproduced() -> None:
    scale, centre = (4, 1, 1), (1.5, 0, 0)
    measured = (np.arange(8) * 4 + 1.5) / 32
    result = linear(
        measured[:, None, None], Box.whole((8, 1, 1)), Box((6, 0, 0), (26, 1, 1)), scale, centre
    )
    assert result[:, 0, 0] == pytest.approx(np.arange(6, 26) / 32, abs=1e-6)


def test_measured_voxels_stay_and_edges_are_held() -> None:
    y = volume()
    result = linear(y, Box.whole(MEASURED), Box.whole((20, 4, 6)), (4, 1, 1), (1, 0, 0))
    assert np.array_equal(result[1::4], y)
    assert np.array_equal(result[0], y[0])
    assert np.array_equal(result[-2], y[-1])


def test_linear_as_scipy_does_it() -> None:
    y, scale = volume(), (3, 2, 2)
    centre = tuple((s - 1) / 2 for s in scale)
    shape = tuple(n * s for n, s in zip(MEASURED, scale, strict=True))
    at = [(np.arange(n) - c) / s for n, c, s in zip(shape, centre, scale, strict=True)]
    expected = scipy.ndimage.map_coordinates(
        y, np.meshgrid(*at, indexing="ij"), order=1, mode="nearest"
    )
    assert np.allclose(
        linear(y, Box.whole(MEASURED), Box.whole(shape), scale, centre), expected, atol=1e-6
    )


def test_integers_are_welcome_and_left_alone() -> None:
    y = np.arange(4, dtype=np.uint8)[:, None, None]
    before = y.copy()
    result = linear(y, Box((2, 0, 0), (6, 1, 1)), Box((4, 0, 0), (12, 1, 1)), (2, 1, 1), (0, 0, 0))
    assert result[:, 0, 0] == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5, 3, 3])
    assert np.array_equal(y, before)


def test_the_wrong_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="expected the measured voxels"):
        linear(volume(), Box.whole((5, 4, 5)), Box.whole((1, 1, 1)), (1, 1, 1), (0, 0, 0))
    with pytest.raises(ValueError, match="at least one"):
        linear(
            np.zeros((0, 1, 1)), Box.whole((0, 1, 1)), Box.whole((1, 1, 1)), (1, 1, 1), (0, 0, 0)
        )
