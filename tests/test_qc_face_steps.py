"""The folded face step: finds what stitching adds, at its place, and nothing where nothing is."""

import functools

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from emgen.geometry import Box
from emgen.qc import face_steps
from emgen.qc.face_steps import scan, score
from emgen.qc.metrics import seams

BLOCK = (32, 32, 32)
SHAPE = (128, 128, 128)


def reader(array):
    return lambda box: array[box.slices]


@functools.cache
def tissue():
    """Grey values like those of tissue: structure of several scales, and detector noise."""
    rng = np.random.default_rng(0)
    volume = np.full(SHAPE, 128.0)
    for sigma, contrast in ((2.0, 12), (4.0, 20)):
        layer = scipy.ndimage.gaussian_filter(rng.normal(size=SHAPE).astype(np.float32), sigma)
        volume += contrast * layer / layer.std()
    return volume + rng.normal(0, 4, SHAPE)


def stitched(volume, halo, bias, window="uniform", seed=1):
    """The volume as stitched from blocks that are each off by a grey value of their own."""
    rng = np.random.default_rng(seed)
    total, weights = np.zeros(volume.shape), np.zeros(volume.shape)
    for corner in np.ndindex(*(n // b for n, b in zip(volume.shape, BLOCK, strict=True))):
        start = tuple(c * b for c, b in zip(corner, BLOCK, strict=True))
        core = Box(start, tuple(s + b for s, b in zip(start, BLOCK, strict=True)))
        outer = core.grow((halo,) * 3).clip(volume.shape)
        weight = np.ones(outer.shape)
        if window == "hann":
            z, y, x = (np.hanning(n + 2)[1:-1] for n in outer.shape)
            weight = z[:, None, None] * y[:, None] * x
        total[outer.slices] += weight * (volume[outer.slices] + rng.normal(0, bias))
        weights[outer.slices] += weight
    return total / weights


def compare(scores, controls=None):
    """Judged seams along z, y and x."""
    return list(seams.compare(scores, controls).values())


def seams_of(volume, control=None):
    controls = None if control is None else score(scan(reader(control), control.shape, BLOCK))
    return compare(score(scan(reader(volume), volume.shape, BLOCK)), controls)


def test_untouched_tissue_passes():
    for seam in seams_of(tissue(), tissue()):
        assert seam.verdict == "pass"
        assert seam.score < 1.8
    assert {seam.verdict for seam in seams_of(tissue())} == {"pass"}


@pytest.mark.parametrize("halo", [0, 4, 8])
def test_a_bias_of_one_grey_value_per_block_is_found_where_it_is(halo):
    reports = seams_of(stitched(tissue(), halo, 1.0), tissue())
    assert {seam.verdict for seam in reports} & {"warn", "fail"}
    for seam in reports:
        assert seam.relative > 1.6
        assert abs(seam.offset) == halo
        assert seam.height_grey == pytest.approx(1.0, abs=0.6)
    assert "fail" in {seam.verdict for seam in seams_of(stitched(tissue(), halo, 3.0))}


def test_a_smooth_blend_of_equal_blocks_leaves_no_seam():
    volume = stitched(tissue(), 8, 1.0, window="hann")
    assert {seam.verdict for seam in seams_of(volume, tissue())} == {"pass"}
    unbiased = stitched(tissue(), 8, 0.0)
    np.testing.assert_allclose(unbiased, tissue())


def test_the_difference_to_the_input_shows_a_seam_the_tissue_hides():
    rng = np.random.default_rng(2)
    result = stitched(tissue(), 8, 0.3) + rng.normal(0, 1, SHAPE)
    read = reader(result - tissue())
    hidden = seams_of(result)
    shown = compare(score(scan(read, SHAPE, BLOCK)))
    for one, other in zip(hidden, shown, strict=True):
        assert other.relative > one.relative


def test_regions_do_not_matter(monkeypatch):
    volume = tissue()[:90, :70, :64]
    whole = scan(reader(volume), volume.shape, BLOCK)
    monkeypatch.setattr(face_steps, "REGION_SIDE", 32)
    parts = scan(reader(volume), volume.shape, BLOCK)
    for one, other in zip(whole.means + whole.areas, parts.means + parts.areas, strict=True):
        np.testing.assert_allclose(one, other)


def test_face_means_are_means_over_faces():
    volume = tissue()[:40, :48, :50]
    faces = scan(reader(volume), volume.shape, (16, 16, 20))
    assert faces.means[0][7, 1, 2] == pytest.approx(volume[7, 16:32, 40:].mean())
    assert faces.means[1][9, 2, 0] == pytest.approx(volume[32:, 9, :20].mean())
    assert faces.means[2][11, 2, 2] == pytest.approx(volume[32:, 32:, 11].mean())
    assert faces.areas[2][2, 2] == 8 * 16


@settings(max_examples=15, deadline=None)
@given(st.floats(0.1, 10), st.floats(-100, 100), st.integers(0, 9))
def test_contrast_and_brightness_do_not_matter(gain, offset, seed):
    volume = np.random.default_rng(seed).normal(size=(24, 24, 24))
    one, other = (
        score(scan(reader(v), v.shape, (8, 8, 8))) for v in (volume, gain * volume + offset)
    )
    for a, b in zip(one, other, strict=True):
        assert a.score == pytest.approx(b.score, rel=1e-6)
        assert a.offset == b.offset


def test_few_faces_are_judged_by_what_chance_gives():
    verdicts = []
    for seed in range(40):
        volume = np.random.default_rng(seed).normal(size=(32, 32, 32))
        reports = compare(score(scan(reader(volume), volume.shape, (16, 16, 16))))
        assert all(seam.chance > 1.4 for seam in reports)
        verdicts += [seam.verdict for seam in reports]
    assert verdicts.count("fail") == 0
    assert verdicts.count("warn") <= 2


def test_what_recurs_with_every_measured_section_is_no_seam():
    volume = tissue().copy()
    volume[::8] += np.random.default_rng(3).normal(0, 40, (16, *SHAPE[1:]))
    faces = scan(reader(volume), SHAPE, BLOCK)
    assert compare(score(faces))[0].verdict != "pass"
    assert compare(score(faces, (8, 1, 1)))[0].verdict == "pass"
    biased = scan(reader(stitched(volume, 0, 6.0)), SHAPE, BLOCK)
    seam = compare(score(biased, (8, 1, 1)))[0]
    assert seam.verdict != "pass"
    # The second difference has wings beside the step, where less noise may raise them above it.
    assert abs(seam.offset) <= 1


def test_flicker_of_sections_passes_beside_its_control():
    volume = tissue() + np.random.default_rng(4).normal(0, 5, (SHAPE[0], 1, 1))
    restored = scipy.ndimage.gaussian_filter(volume, (0, 0.7, 0.7))
    assert {seam.verdict for seam in seams_of(restored, volume)} == {"pass"}


def test_a_linear_interpolation_is_no_seam():
    sections = tissue()[::8]
    at = np.minimum(np.arange(SHAPE[0]) / 8, len(sections) - 1.001)
    low, part = at.astype(int), (at % 1)[:, None, None]
    volume = np.rint((1 - part) * sections[low] + part * sections[low + 1])
    faces = scan(reader(volume), SHAPE, BLOCK)
    assert compare(score(faces, (8, 1, 1)))[0].verdict == "pass"


def test_an_axis_of_one_block_has_no_seam():
    volume = tissue()[:20, :64, :64]
    z, y, x = seams_of(volume)
    assert (z.score, z.relative, z.verdict) == (None, None, "pass")
    assert y.score is not None
    assert x.score is not None


def test_a_constant_volume_passes():
    for seam in seams_of(np.full((64, 64, 64), 7, dtype=np.uint8)):
        assert (seam.score, seam.verdict) == (1.0, "pass")
