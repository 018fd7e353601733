"""What holds for every mode, and what each refuses."""

import ast
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from runs import ROOT

from emgen.config.input import Input
from emgen.config.restore import Restore
from emgen.errors import EmgenError
from emgen.geometry import Box, VoxelSize
from emgen.modes import mode
from emgen.modes.observation import Coverage
from emgen.physics.noise_model import NoiseModel
from emgen.physics.psf import as_tuples, gaussian

MEASURED = (5, 12, 16)
THICK = VoxelSize(24, 8, 8)
KERNEL = as_tuples(gaussian(1.0, 0.7))
SETTINGS = {
    "slice": {"factor": 3},
    "mean": {"section": "mean", "factor": 4},
    "gaussian": {"section": "gaussian"},
    "denoise": {"mode": "denoise"},
    "superres": {"mode": "superres", "factor": 2},
    "deblur": {"mode": "deblur"},
}
every_mode = pytest.mark.parametrize("name", SETTINGS)


def made(name="slice", measured=MEASURED, **more):
    psf = KERNEL if name == "deblur" else None
    return mode(Restore(**{**SETTINGS[name], **more}), measured, THICK, psf)


def fault(**restore):
    with pytest.raises(EmgenError) as error:
        mode(Restore(**restore), MEASURED, THICK)
    return str(error.value)


@every_mode
def test_the_physical_extent_is_kept(name):
    this = made(name)
    for n, size, m, measured in zip(this.shape, this.voxel, MEASURED, THICK, strict=True):
        assert n * size == pytest.approx(m * measured)


@every_mode
def test_an_operator_has_the_geometry_of_its_mode(name):
    this = made(name)
    A = this.operator(Box.whole(this.shape))
    assert A.acquisition == this.acquisition and A.measured_shape == MEASURED


@every_mode
@given(st.data())
def test_what_a_box_determines_is_the_same_with_and_without_torch(name, data):
    this = made(name)
    corners = [
        sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in this.shape
    ]
    box = Box(tuple(a for a, _ in corners), tuple(b for _, b in corners))
    assert this.operator(box).footprint == this.acquisition.footprint(box, this.shape)


@every_mode
def test_missing_sections_bind_nothing_between_sections_only(name):
    this = made(name)
    whole, support = Box.whole(this.shape), Box.whole(this.measured_shape)
    known = torch.ones(this.measured_shape, dtype=torch.bool)
    known[1] = False
    masked = (
        type(this.operator_covering(whole, Coverage(known, support, (1,)))).__name__ == "Masked"
    )
    assert masked == this.through_z
    assert type(this.operator_covering(whole, None)) is type(this.operator(whole))


@every_mode
def test_parts_of_sections_that_were_not_measured_bind_nothing(name):
    this = made(name)
    known = torch.ones(this.measured_shape, dtype=torch.bool)
    known[0, 0] = False
    coverage = Coverage(known, Box.whole(this.measured_shape))
    operator = this.operator_covering(Box.whole(this.shape), coverage)
    x = torch.rand(this.shape)
    assert (operator(x)[0, 0] == 0).all()
    torch.testing.assert_close(operator(x)[known], this.operator(Box.whole(this.shape))(x)[known])


@every_mode
def test_sections_that_are_restored_one_by_one_need_no_halo_along_z(name):
    this = made(name)
    assert this.halo((4, 5, 6)) == ((4, 5, 6) if this.through_z else (0, 5, 6))
    assert this.strides(8) == ((8, 8, 8) if this.through_z else (1, 8, 8))
    box = Box((1, 0, 0), (2, 8, 8))
    assert (this.context(box, 2) == box) == this.through_z


@every_mode
def test_bracketed_sections_and_those_beyond_are_all_of_them(name):
    this = made(name)
    first, stop = this.bracketed_sections(())
    beyond = this.extrapolated(())
    assert first == 0 and stop == (this.shape[0] if beyond is None else beyond.start[0])


@every_mode
def test_a_trial_is_the_same_restoration_of_another_volume(name):
    this = made(name, measured=(5, 64, 64))
    trial = this.trial(NoiseModel(4.0), 2)
    assert replace(trial.mode, measured_shape=this.measured_shape) == this
    crop = np.random.default_rng(0).uniform(0, 255, (trial.sections, trial.side, trial.side))
    for known in trial.problems(crop, np.random.default_rng(1)):
        assert known.y.shape == trial.mode.measured_shape
        compared = np.empty(trial.box.shape)[trial.compared].shape
        assert np.broadcast_shapes(known.truth.shape, compared) == compared
        assert known.noise_power > 0


@every_mode
def test_a_trial_needs_sections_that_are_large_enough(name):
    assert made(name, measured=(5, 7, 64)).trial(NoiseModel(4.0), 2) is None


@every_mode
@pytest.mark.parametrize("samples", [1, 4])
def test_the_story_is_whole_sentences(name, samples):
    class Planned:
        config = SimpleNamespace(input=Input(volume="measured.ome.zarr", resin="skip"))
        dtype, missing = "uint8", (0, 2)
        no_data, absent, blank, inferred = (0.0,), False, 0.125, 0.01
        noise_model = NoiseModel(3.0, correlation_ratio=0.8)
        prior, estimator = {"name": "the-prior"}, {"name": "the-estimator"}

    story = made(name, samples=samples).story(Planned())
    assert all(re.match(r"^[A-Z0-9].*\.$", sentence) for sentence in story), story
    text = " ".join(story)
    assert "section 2" in text and "12 % of the sampled voxels show no tissue" in text
    assert "section 0 (counted from 0) holds no image, with no tissue beyond" in text
    assert "2.4 grey values" in text and "only noise passed through no network" in text
    assert "the-prior" in text or "the-estimator" in text


@pytest.mark.parametrize(
    ("restore", "words"),
    [
        ({"mode": "superres"}, "superres needs a factor of 2, 3 or 4"),
        ({"mode": "superres", "factor": 5}, "found 5"),
        ({"mode": "denoise", "factor": 4}, "denoise keeps the voxel size"),
        ({"mode": "deblur", "adapt": {"steps": 3}}, "would learn their blur"),
        ({"sampler": "em-generalist", "alpha": 3}, "alpha must be at most 2"),
    ],
)
def test_settings_that_do_not_fit_are_refused(restore, words):
    assert words in fault(**restore)


@pytest.mark.parametrize(
    ("name", "restore"),
    [
        ("start", {"sampler": "dps", "start": 0.5}),
        ("estimator", {"sampler": "em-generalist", "estimator": "emgen-axial"}),
        ("noise", {"sampler": "em-generalist", "noise": 12.0}),
        ("noise", {"mode": "denoise", "sampler": "dps", "noise": "poisson"}),
        ("alpha", {"alpha": 0.5}),
        ("psf", {"mode": "denoise", "psf": {"sigma": 3}}),
        ("section", {"mode": "superres", "factor": 2, "section": "mean"}),
        ("steps", {"mode": "denoise", "steps": 12}),
        ("start", {"mode": "denoise", "start": 0.5}),
    ],
)
def test_what_has_no_effect_is_refused(name, restore):
    message = fault(**restore)
    assert f"restore.{name} has no effect with mode" in message
    assert f"remove `{name}`" in message


def test_steps_have_an_effect_where_samples_tell_how_sure_an_estimate_is():
    assert made("denoise", steps=3, samples=2).steps == 3


def test_what_is_done_anyway_may_be_said():
    assert made("denoise", factor=1).shape == MEASURED
    assert made(sampler="em-generalist", estimator="linear").estimator_name is None


@pytest.mark.parametrize("size", [18.0, 4.0])
def test_an_anisotropy_that_is_no_whole_number_needs_a_factor(size):
    with pytest.raises(EmgenError, match=r"Set restore\.factor|nothing to restore along z"):
        mode(Restore(), MEASURED, VoxelSize(size, 8, 8))


def test_only_modes_ask_what_mode_it_is():
    """Whoever asks for a mode by its name knows something that its file should say."""
    asking = []
    for path in sorted((ROOT / "emgen").rglob("*.py")):
        if path.parent.name == "modes":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            compared = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
            subject = [node.subject] if isinstance(node, ast.Match) else []
            if any(
                "mode" in ast.unparse(part).split(".")[-1].split("[")[-1]
                for part in compared + subject
            ):
                asking.append(f"{path.relative_to(ROOT)}:{node.lineno}: {ast.unparse(node)[:80]}")
    names = [
        line
        for line in asking
        if re.search(r"mode\b", line) and re.search(r"isotropic|denoise|superres|deblur", line)
    ]
    assert names == []
