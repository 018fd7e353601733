"""Sections evened and hot pixels taken out: on reading, alike for every division."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs import measured, settings

from emgen.arrays import Array
from emgen.config.input import Input
from emgen.config.run import parse
from emgen.geometry import Box
from emgen.run.inspection.corrections import decide
from emgen.run.plan import Plan, make
from emgen.run.resolve import resolve
from emgen.volumes.corrected import Corrected, Corrections, corrected, isolated, without_hot

RNG = np.random.default_rng(0)
SHAPE = (7, 20, 24)
GREY = RNG.integers(0, 256, SHAPE).astype(np.uint8)
BOTH = Corrections(
    gain=tuple(np.linspace(0.7, 1.4, 7)),
    offset=tuple(np.linspace(-20, 20, 7)),
    hot=60.0,
    kept=(0.0,),
)


@given(st.data())
def test_any_box_reads_as_in_the_whole(data):
    corners = [
        sorted(data.draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True)))
        for n in SHAPE
    ]
    box = Box(*zip(*corners, strict=True))
    volume = Corrected(Array(GREY), BOTH)
    assert (volume.read(box) == volume.read(Box.whole(SHAPE))[box.slices]).all()
    assert volume.read(box).dtype == GREY.dtype


def test_no_correction_changes_nothing():
    volume = Corrected(Array(GREY), Corrections())
    assert (volume.read(Box.whole(SHAPE)) == GREY).all()


def test_no_data_stays():
    changed = Corrected(Array(GREY), BOTH).read(Box.whole(SHAPE))
    assert ((changed == 0) >= (GREY == 0)).all()


def test_only_isolated_pixels_are_taken_out(fib25):
    hot = fib25.copy()
    hot[3, 10, 10], hot[5, 0, 0], hot[9, 95, 40] = 255, 255, 0
    found = isolated(hot, 60)
    assert {tuple(map(int, place)) for place in np.argwhere(found)} >= {(3, 10, 10), (5, 0, 0)}
    mended = without_hot(hot, 60)
    assert (mended == hot)[~found].all()
    assert abs(int(mended[3, 10, 10]) - int(fib25[3, 10, 10])) < 40
    assert without_hot(fib25, 200) is fib25


@pytest.mark.parametrize("every", [1, 3])
def test_evened_sections_are_nearer_to_what_they_were(fib25, every):
    sound = fib25[::every].astype(float)
    gain, offset = (RNG.uniform(a, b, (len(sound), 1, 1)) for a, b in ((0.8, 1.25), (-25, 25)))
    uneven = np.clip(np.rint((sound - 128) * gain + 128 + offset), 0, 255).astype(np.uint8)
    corrections = decide(Array(uneven), Input(volume="v", equalise="sections"), (), ())
    evened = Corrected(Array(uneven), corrections).read(Box.whole(uneven.shape)).astype(float)

    def jumps(voxels: np.ndarray) -> float:
        return float(np.abs(np.diff(np.median(voxels, axis=(1, 2)))).mean())

    assert jumps(evened) < 0.35 * jumps(uneven)
    assert "evened" in corrections.story


def test_nothing_is_decided_unasked():
    assert decide(Array(GREY), Input(volume="v"), (), ()) is None


def test_corrections_travel_in_the_plan_and_are_part_of_its_key(tmp_path):
    plans = {}
    for name, given_input in {
        "plain": {},
        "even": {"equalise": "sections", "hot_pixels": "remove"},
    }.items():
        spec = resolve(parse(settings(measured(tmp_path / name), input=given_input)))
        plan = make(spec)
        plan.write(tmp_path / name / "plan.json")
        plans[name] = Plan.read(tmp_path / name / "plan.json")
        assert plans[name].corrections == plan.corrections
    plain, even = plans["plain"], plans["even"]
    assert plain.corrections is None
    assert len(even.corrections.gain) == even.measured_shape[0]
    assert even.key != plain.key
    assert even.fingerprint == plain.fingerprint
    assert "evened" in even.story[-1]
    assert not any("evened" in sentence for sentence in plain.story)
    array = Array(GREY)
    assert corrected(array, plain.corrections) is array
    assert corrected(array, even.corrections) == Corrected(array, even.corrections)
