"""Known answers of the modes that restore section by section, and what the input says of the settings."""

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given
from hypothesis import strategies as st
from synthetic import texture

from emgen.arrays import Array
from emgen.config import parse
from emgen.networks.device import fixed_arithmetic
from emgen.qc import section_model, simple_methods
from emgen.qc.metrics import named
from emgen.qc.metrics.measurement import MeasurementFigures
from emgen.qc.metrics.trial import compared
from emgen.run.known_answers import Answer, known_answers
from emgen.run.plan import make
from emgen.run.resolve import resolve

TRIAL, MEASUREMENT = named("trial"), named("measurement")
SIGMA = 12.0


def planned(voxels: np.ndarray, **restore):
    config = parse({"run": "array", "input": {"volume": "array"}, "restore": restore})
    return make(resolve(config, Array(voxels))), Array(voxels)


def answers(restored, alone=None, count: int = 8) -> list[Answer]:
    rng = np.random.default_rng(0)
    made = []
    for k in range(count):
        truth = texture(k, 2)
        noisy = truth + rng.normal(0, SIGMA, truth.shape).astype(np.float32)
        lone = None if alone is None else alone(truth, noisy)
        made.append(Answer(noisy, truth, 0.0, restored(truth, noisy), lone))
    return made


def verdicts(made: list[Answer]) -> dict[str, str]:
    plan, _ = planned(
        np.uint8(np.random.default_rng(0).integers(0, 255, (3, 64, 64))), mode="denoise", noise=9
    )
    return {c.name: c.verdict for c in TRIAL.checks(compared(made), plan)}


def test_what_beats_the_best_simple_method_passes_and_what_does_not_fails():
    assert verdicts(answers(lambda truth, noisy: (3 * truth + noisy) / 4)) == {
        "known answers": "pass"
    }
    assert verdicts(answers(lambda truth, noisy: noisy)) == {"known answers": "fail"}
    for width in simple_methods.SMOOTHED:
        smooth = answers(lambda t, noisy, w=width: scipy.ndimage.gaussian_filter(noisy, w))
        assert verdicts(smooth) == {"known answers": "fail"}


def test_a_stack_that_harms_is_told_and_one_that_helps_passes():
    def good(truth, noisy):
        return (3 * truth + noisy) / 4

    def better(truth, noisy):
        return (4 * truth + noisy) / 5

    assert verdicts(answers(good, alone=better))["stack or single"] == "warn"
    assert verdicts(answers(better, alone=good))["stack or single"] == "pass"


def test_nothing_known_is_not_tested():
    assert verdicts([]) == {"known answers": "not tested"}


@given(st.sampled_from([2, 3, 4]), st.integers(0, 9))
def test_enlarging_keeps_every_pixel_in_its_place(factor, seed):
    fine = scipy.ndimage.gaussian_filter(texture(seed, 4), 3)
    coarse = fine.reshape(48 // factor, factor, 48 // factor, factor).mean((1, 3))
    _, (larger,) = simple_methods.best([coarse], [fine])
    inner = (slice(8, -8),) * 2
    assert np.abs(larger - fine)[inner].max() < 0.15 * np.ptp(fine)


@pytest.mark.parametrize(
    "restore", [{"mode": "denoise", "noise": SIGMA}, {"mode": "superres", "factor": 2}]
)
def test_known_answers_are_restored_beside_their_truth(fib25, restore):
    voxels = np.asarray(fib25[:5, :64, :64])
    plan, measured = planned(voxels, **restore)
    with fixed_arithmetic():
        made = known_answers(plan, measured, most=2)
    assert len(made) == 2
    for each in made:
        assert each.restored.shape == each.truth.shape
        assert each.alone is not None and each.alone.shape == each.truth.shape
        assert np.corrcoef(each.restored.ravel(), each.truth.ravel())[0, 1] > 0.3


def figures(said: float, measured: float, contrast: float = 40.0, **more) -> MeasurementFigures:
    facts = {"noise_estimated": False, "texture": None, **more}
    return MeasurementFigures(
        noise_measured_grey=measured, noise_said_grey=said, contrast_grey=contrast, **facts
    )


@pytest.mark.parametrize(
    ("said", "measured", "verdict"),
    [(20, 20, "pass"), (0, 4, "pass"), (0, 20, "warn"), (6, 20, "warn"), (60, 20, "warn")],
)
def test_noise_is_what_the_settings_say(said, measured, verdict):
    (check,) = MEASUREMENT.checks(figures(said, measured), None)
    assert check.verdict == verdict and not check.decisive


def test_noise_that_was_estimated_is_no_test():
    (check,) = MEASUREMENT.checks(figures(20, 20, noise_estimated=True), None)
    assert check.verdict == "not tested"


@given(st.sampled_from([2, 4]), st.integers(0, 20))
def test_tissue_that_is_alike_along_all_axes_has_texture_as_its_voxels_say(factor, seed):
    noise = np.random.default_rng(seed).normal(size=(64, 48, 48))
    alike = scipy.ndimage.gaussian_filter(noise, factor / 1.5, mode="wrap")
    right = section_model.texture([alike[::factor]], factor)
    assert abs(right) < 0.6
    assert (
        section_model.texture([alike[::factor]], 2 * factor)
        < right
        < section_model.texture([alike[::factor]], factor // 2)
    )


@given(st.integers(0, 20))
def test_means_differ_less_along_z_than_slices(seed):
    noise = np.random.default_rng(seed).normal(size=(64, 48, 48))
    alike = scipy.ndimage.gaussian_filter(noise, 2, mode="wrap")
    means = alike.reshape(16, 4, 48, 48).mean(1)
    assert section_model.texture([means], 4) < section_model.texture([alike[::4]], 4)


def test_samples_too_small_have_no_texture():
    assert section_model.texture([np.zeros((1, 64, 64))], 4) is None
    assert section_model.texture([np.zeros((9, 7, 64))], 4) is None
