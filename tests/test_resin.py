"""Empty resin: noise is told from structure, and blocks that show only noise pass through no network."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from runs import measured, settings
from scipy.ndimage import gaussian_filter

from emgen.config.run import parse
from emgen.networks.runner import Networks
from emgen.physics.resin import is_only_noise, signs
from emgen.run.job import restore_job
from emgen.run.plan import make
from emgen.run.resolve import resolve
from emgen.run.restore import Restorer
from emgen.volumes.volume import Volume

SHAPE = (6, 96, 104)
Y, X = np.mgrid[: SHAPE[1], : SHAPE[2]]
SMEARS = st.sampled_from([0.0, 0.5, 0.8])


def noise(smear=0.0, shape=SHAPE):
    """Of deviation 1; always the same, since one block of noise in forty is kept."""
    voxels = gaussian_filter(np.random.default_rng(3).normal(size=shape), (0, smear, smear))
    return voxels / voxels.std()


def profile(distance):
    """Across a membrane, three pixels wide."""
    return np.exp(-np.square(distance / 1.5))


@hypothesis_settings(max_examples=25)
@given(
    SMEARS,
    st.floats(10, 1e3),
    st.floats(-1e4, 1e4),
    st.floats(-4, 4),
    st.floats(-4, 4),
    st.booleans(),
)
def test_noise_is_noise_at_any_level_and_brightness_that_changes_slowly(
    smear, level, offset, slope, bend, whole
):
    slow = slope * X / SHAPE[2] + bend * (Y / SHAPE[1]) ** 2
    voxels = offset + level * (noise(smear) + slow)
    assert is_only_noise(np.rint(voxels).astype(np.int32) if whole else voxels.astype(np.float32))


@hypothesis_settings(max_examples=40)
@given(SMEARS, st.floats(4, 100), st.floats(0, np.pi), st.data())
def test_a_membrane_or_a_vesicle_anywhere_keeps_a_block(smear, contrast, angle, data):
    voxels, section = noise(smear), data.draw(st.integers(0, SHAPE[0] - 1))
    y, x = (data.draw(st.integers(8, n - 9)) for n in SHAPE[1:])
    shape = data.draw(st.sampled_from(["line", "short", "vesicle"]))
    across = (Y - y) * np.cos(angle) + (X - x) * np.sin(angle)
    along = (X - x) * np.cos(angle) - (Y - y) * np.sin(angle)
    drawn = {
        "line": profile(across),
        "short": profile(across) * (np.abs(along) < 12),
        "vesicle": profile(np.hypot(Y - y, X - x) - 6),
    }[shape]
    voxels[section] += data.draw(st.sampled_from([-1, 1])) * contrast * drawn
    assert not is_only_noise(voxels)


@hypothesis_settings(max_examples=10)
@given(st.floats(0.01, 100), st.floats(-1e3, 1e3), st.booleans())
def test_offset_and_scale_of_grey_values_do_not_matter(scale, offset, dark):
    voxels = noise(0.5, (4, 80, 80))
    found, other = (
        dict(signs(each)) for each in (voxels, offset + (-scale if dark else scale) * voxels)
    )
    assert found.keys() == other.keys()
    np.testing.assert_allclose(list(found.values()), list(other.values()), rtol=1e-2)


@hypothesis_settings(max_examples=10)
@given(st.integers(0, 40), st.integers(0, 40), st.floats(-1e3, 1e3))
def test_what_was_not_measured_does_not_count(rows, columns, grey):
    known = np.ones(SHAPE, bool)
    known[2] = False
    known[:, :rows, :columns] = False
    voxels = noise()
    changed = np.where(known, voxels, grey)
    assert dict(signs(voxels, known)) == dict(signs(changed, known))


@pytest.mark.parametrize(
    "voxels",
    [
        pytest.param(np.full((4, 80, 80), 7.0), id="constant"),
        pytest.param(noise()[:1], id="too few"),
        pytest.param(noise()[:, :4], id="thin"),
        pytest.param(np.repeat(noise()[:1], 4, 0), id="the same in every section"),
        pytest.param(np.sign(noise(1.5)), id="grains of two grey values"),
        pytest.param(noise() * (1 + 3 * (X > 80)), id="two kinds of noise"),
    ],
)
def test_what_is_not_certainly_noise_is_kept(voxels):
    assert not is_only_noise(voxels)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_tissue_is_kept_at_any_pixel_size_and_under_noise(fib25, step):
    tissue = fib25[:, ::step, ::step].astype(np.float64)
    for first in (0, 12):
        part = tissue[first : first + 12]
        deviation = 2 * part.std()
        assert not is_only_noise(part)
        assert not is_only_noise(part + deviation * noise(0.5, part.shape))


def test_a_block_of_resin_calls_no_network_and_the_one_beside_it_does(fib25, tmp_path, monkeypatch):
    resin = np.rint(170 + 9 * noise(0.5, (6, 96, 96))).astype(np.uint8)
    volume = measured(tmp_path, change=lambda _: np.concatenate([fib25[::4], resin], 2))
    stored = Volume.open(volume)
    grid = {"block": [6, 96, 96], "halo": [0, 0, 0], "blocks_per_job": 2}
    output = {"chunk": [6, 32, 32], "shard": [6, 96, 96]}
    given = {"mode": "denoise", "noise": 9.0}

    calls = []

    def counted(method):
        return lambda *given, **more: calls.append(method) or method(*given, **more)

    for name in ("estimate", "velocity"):
        monkeypatch.setattr(Networks, name, counted(getattr(Networks, name)))
    found = {}
    for choice in ("restore", "skip"):
        config = parse(
            {
                **settings(volume, grid=grid, output=output),
                "input": {"volume": str(volume), "resin": choice},
                "restore": given,
            }
        )
        plan, said = make(resolve(config)), []
        calls.clear()
        facts = restore_job(plan, 0, tmp_path / choice, "cpu", 1, said.append)
        found[choice] = (facts["empty"], len(calls), said, plan)
    (empty, several, _, plan), (skipped, fewer, said, skipping) = found.values()
    assert (empty, skipped) == (0, 1) and several == 2 * fewer > 0
    assert [line.endswith("empty, passed through") for line in said] == [False, True]
    assert plan.key != skipping.key
    assert any("only noise" in sentence for sentence in skipping.story)
    assert not any("only noise" in sentence for sentence in plan.story)

    restorer, outer = Restorer(skipping), skipping.grid[1].outer
    seen = restorer.fetch(outer, stored)
    np.testing.assert_array_equal(restorer.block(outer, seen)["mean"], resin)
    # a trial measures the networks, whatever it shows
    tried = restorer(skipping.aligned(outer), seen)["mean"].astype(float)
    assert tried.std() < 0.7 * resin.std()
