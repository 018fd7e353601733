"""Sections that are held out: where, what is seen of them, and what is made of the figures."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs import measured, settings
from synthetic import held_out, texture

from emgen.config.run import parse
from emgen.geometry import Box
from emgen.networks.device import fixed_arithmetic
from emgen.qc import heldout_scores
from emgen.qc.heldout_figures import SectionModel, compared
from emgen.qc.metrics import heldout as heldout_metric
from emgen.qc.metrics import named
from emgen.run import heldout
from emgen.run.heldout import Held, hold_out, places
from emgen.run.plan import Plan, make
from emgen.run.resolve import resolve
from emgen.volumes.intensity import Intensity
from emgen.volumes.volume import Volume

HELDOUT = named("heldout")


def planned(folder, *, change=None, **restore) -> tuple[Plan, Volume]:
    volume = measured(folder, change=change, corner=Box((0, 30, 40), (8, 78, 88)))
    config = settings(volume, restore={"steps": 1, **restore})
    return make(resolve(parse(config))), Volume.open(volume)


SLICES: Any = SimpleNamespace(config=parse(settings("x")))


def verdict(parts: list[Held], plan: Any = SLICES) -> str:
    first = HELDOUT.checks(compared(parts, 255.0), plan)[0]
    assert first.decisive
    return first.verdict


def test_places_lie_inside_and_hold_out_measured_sections_between_measured_ones(tmp_path):
    plan, _ = planned(tmp_path)
    chosen = places(plan)
    assert len(chosen) == heldout.PLACES[0]
    for place in chosen:
        assert Box.whole(plan.shape).contains(place.box)
        for k in place.sections:
            around = (k - 1, k, k + 1)
            assert around[0] >= 0 and around[2] < plan.measured_shape[0]
            assert all(
                plan.scale[0] * n in range(place.box.start[0], place.box.stop[0]) for n in around
            )
    held_out = {k for place in chosen for k in place.sections}
    assert not any(k + 1 in held_out for k in held_out)


def test_what_was_held_out_is_not_seen(tmp_path):
    """Another image in the sections held out changes what they are compared with, and nothing that is made of the rest."""
    plan, volume = planned(tmp_path)
    (place,) = places(plan, most=1)

    def otherwise(voxels):
        changed = voxels.copy()
        changed[list(place.sections)] = changed[list(place.sections), ::-1]
        return changed

    class Changed:
        shape, dtype, voxel, path = volume.shape, volume.dtype, volume.voxel, volume.path
        translation = volume.translation

        def read(self, box):
            whole = otherwise(volume.read(Box.whole(volume.shape)))
            return whole[box.slices]

        def absent(self, box):
            return None

    with fixed_arithmetic():
        first = hold_out(plan, volume, most=1)
        second = hold_out(plan, Changed(), most=1)
    assert len(first) == len(second) == len(place.sections)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a.restored, b.restored)
        np.testing.assert_array_equal(a.linear, b.linear)
        assert not np.array_equal(a.measured, b.measured)


def test_missing_sections_and_their_neighbours_are_not_held_out(tmp_path):
    def lost(voxels):
        voxels = voxels.copy()
        voxels[3] = 0
        return voxels

    plan, _ = planned(tmp_path, change=lost)
    assert plan.missing == (3,)
    assert {k for place in places(plan) for k in place.sections} == {1, 5}


def test_the_truth_passes_and_interpolation_fails():
    assert verdict(held_out(lambda truth, linear: truth + 3 * texture(99) / 128)) == "pass"
    assert verdict(held_out(lambda truth, linear: linear)) == "fail"


def test_interpolation_that_is_blurred_fails_and_sharpened_never_passes():
    for sigma in heldout_scores.BLURS:
        assert (
            verdict(held_out(lambda t, linear, s=sigma: heldout_scores.blurred(linear, s)))
            == "fail"
        )
    sharper = held_out(lambda t, linear: 2 * linear - heldout_scores.blurred(linear, 2))
    assert verdict(sharper) != "pass"


def test_another_tissue_and_noise_fail():
    assert verdict(held_out(lambda truth, linear: texture(77, 2))) == "fail"
    rng = np.random.default_rng(0)
    assert verdict(held_out(lambda t, linear: linear + rng.normal(0, 9, linear.shape))) == "fail"


def test_few_places_never_pass():
    better = held_out(lambda truth, linear: (truth + linear) / 2, count=3)
    assert verdict(better) == "warn"


def test_nothing_held_out_is_not_tested(tmp_path):
    plan, _ = planned(tmp_path)
    assert verdict([], plan) == "not tested"


@given(st.sampled_from([0.5, 1.0, 1.5]), st.integers(0, 50))
def test_smoothing_hardly_changes_ring_correlation(sigma, seed):
    parts = held_out(lambda truth, linear: linear, count=2, seed=seed)
    before = heldout_scores.scores(parts, lambda each: each.linear)
    after = heldout_scores.scores(parts, lambda each: heldout_scores.blurred(each.linear, sigma))
    assert after.detail == pytest.approx(before.detail, abs=0.03)


@given(st.floats(0, 3))
def test_the_best_blur_is_the_best(sigma):
    parts = held_out(lambda truth, linear: linear, count=2)
    best = heldout_scores.best_blur(parts)
    near = min(heldout_scores.BLURS, key=lambda s: abs(s - sigma))
    error = {
        s: heldout_scores.scores(
            parts, lambda each, s=s: heldout_scores.blurred(each.linear, s)
        ).mean_squared
        for s in (best, near)
    }
    assert error[best] <= error[near] + 1e-6


def test_an_interval_holds_its_figure_and_narrows_with_places():
    few, many = (held_out(lambda t, linear: (t + linear) / 2, count=n) for n in (4, 24))
    widths = []
    for parts in (few, many):
        gain = compared(parts, 255.0).gain_over_linear_db
        assert gain.low <= gain.value <= gain.high
        widths.append(gain.high - gain.low)
    assert widths[1] < widths[0]


@pytest.mark.parametrize("likeness", [0.0, 1.0])
def test_the_other_section_model_is_tried_only_where_sections_tell_of_each_other(
    likeness, monkeypatch
):
    """White sections tell nothing of each other, and the test costs half; a repeated section tells all."""
    asked = []

    def hold_out(plan, *args, **options):
        asked.append(plan)
        return [
            Held(k, 1, truth := texture(k), truth, before := likeness * truth + noise, before)
            for k in range(4)
            for noise in (texture(100 + k) * (1 - likeness),)
        ]

    monkeypatch.setattr("emgen.run.heldout.hold_out", hold_out)
    monkeypatch.setattr("emgen.run.heldout.by_the_other_model", lambda plan: "the other")
    plan = SimpleNamespace(
        config=parse(settings("x")), intensity=Intensity(0, 255), dtype="uint8", scale=(4, 1, 1)
    )
    samples = [np.stack([texture(k) for k in range(6)])]
    _, figures = heldout_metric.tried(plan, None, samples)
    assert (len(asked), figures.section_model is None) == ((2, False) if likeness else (1, True))


@pytest.mark.parametrize(
    ("section", "evidence", "verdict"),
    [
        ("slice", -0.2, "pass"),
        ("slice", 0.2, "warn"),
        ("mean", 0.2, "pass"),
        ("mean", -0.2, "warn"),
        ("mean", 0.01, "not tested"),
    ],
)
def test_another_section_model_that_fits_better_warns(section, evidence, verdict):
    plan = SimpleNamespace(config=parse(settings("x", restore={"section": section, "steps": 3})))
    figures = compared(held_out(lambda truth, linear: (truth + linear) / 2), 255.0)
    gain = figures.gain_over_linear_db
    model = SectionModel(gain_db=gain, texture=0.0, evidence_db=evidence)
    check = HELDOUT.checks(figures.model_copy(update={"section_model": model}), plan)[1]
    assert (check.name, check.verdict) == ("section model", verdict)
