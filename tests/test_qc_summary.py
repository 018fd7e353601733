import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from synthetic import run, volume

from emgen.errors import EmgenError
from emgen.geometry import Box
from emgen.qc.metrics import METRICS, named
from emgen.qc.metrics.consistency import compared
from emgen.qc.metrics.image import ImageFigures
from emgen.qc.metrics.seams import SeamsFigures
from emgen.qc.summary import Summary, schema, summarise
from emgen.qc.verdict import Check, advice, by_urgency, judged, not_tested, overall

ROOT = Path(__file__).parent.parent


def summarised(folder, restored=lambda truth: truth, **more):
    plan, sample = run(folder, restored, **more)
    return summarise(
        plan,
        {
            metric.name: metric.measure(sample, 2).figures
            for metric in METRICS
            if metric.applies(plan.config)
            and metric.name not in ("segmentation", "heldout", "trial")
        },
    )


def verdicts(summary):
    return {check.name: check.verdict for check in summary.checks}


def reason(summary, name):
    return next(check.reason for check in summary.checks if check.name == name)


def noisy(truth):
    """Worse than interpolation everywhere but in the measured sections."""
    wrong = np.random.default_rng(1).normal(128, 60, truth.shape)
    wrong[::4] = truth[::4]
    return wrong


def test_the_schema_in_the_repository_is_the_code_s():
    assert (ROOT / "config/summary.schema.json").read_text() == schema()


def test_a_summary_follows_its_schema_and_comes_back(tmp_path):
    summary = summarised(tmp_path, noisy)
    summary.write(tmp_path / "summary.json")
    written = json.loads((tmp_path / "summary.json").read_text())
    Draft202012Validator(json.loads(schema())).validate(written)
    assert written["schema_version"] == 2
    assert Summary.read(tmp_path / "summary.json") == summary


def test_a_perfect_restoration_passes(tmp_path):
    summary = summarised(tmp_path)
    assert summary.verdict == "pass"
    assert summary.image.figures.restored.rmse_grey == 0
    assert summary.image.figures.restored.psnr_db is None
    assert summary.image.figures.interpolated.psnr_db < 40
    assert list(summary.image.figures.restored.ssim.values()) == pytest.approx([1, 1, 1])
    assert summary.fsc.figures.restored.curves["axial"].at_half.at_nyquist
    assert summary.fsc.figures.restored.fine_power["spherical"] == pytest.approx(1)


def test_figures_are_those_of_restored_sections_only(tmp_path):
    """What happens in sections that were kept as they were measured changes no figure with a reference."""

    def restored(truth, kept):
        volume = truth + np.random.default_rng(0).normal(0, 9, truth.shape)
        volume[::4] = kept(truth[::4].astype(float))
        return volume

    exact = summarised(tmp_path / "exact", lambda truth: restored(truth, lambda part: part))
    spoilt = summarised(tmp_path / "spoilt", lambda truth: restored(truth, lambda part: 255 - part))
    assert exact.image.figures.restored.rmse_grey == spoilt.image.figures.restored.rmse_grey
    detail = [s.image.figures.restored.ring_correlation for s in (exact, spoilt)]
    assert detail[0] == detail[1] and set(detail[0]) == {"1", "2"}
    assert exact.fsc.figures.restored.curves == spoilt.fsc.figures.restored.curves
    assert exact.image.sampled.restored_sections == 15
    copied = summarised(tmp_path / "copied", lambda truth: np.repeat(truth[::4], 4, axis=0))
    assert copied.image.figures.restored.rmse_grey > 10


def test_blurring_what_was_restored_gains_no_detail(tmp_path):
    def smooth(truth, sigma):
        noise = np.random.default_rng(1).normal(0, 25, truth.shape)
        return scipy.ndimage.gaussian_filter(truth + noise, (0, sigma, sigma))

    sharp, soft = (
        summarised(tmp_path / str(sigma), lambda truth, s=sigma: smooth(truth, s)).image.figures
        for sigma in (0, 1.0)
    )
    assert soft.restored.psnr_db > sharp.restored.psnr_db
    for distance, before in sharp.restored.ring_correlation.items():
        assert soft.restored.ring_correlation[distance] < before + 0.02


def test_a_restoration_worse_than_interpolation_fails(tmp_path):
    summary = summarised(tmp_path, noisy)
    assert summary.verdict == "fail"
    failed = {name for name, each in verdicts(summary).items() if each == "fail"}
    assert {"psnr", "ssim", "resolution lateral", "fine detail"} <= failed
    # what is kept by construction was not put to a test
    assert verdicts(summary)["consistency"] == "not tested"
    assert summary.sentence.startswith("Do not use the result")


def test_measured_sections_that_were_not_kept_fail(tmp_path):
    summary = summarised(tmp_path, lambda truth: truth.astype(float) + 20)
    assert verdicts(summary)["consistency"] == "fail"
    assert "not kept" in reason(summary, "consistency")
    assert summary.consistency.figures.restored.bias_grey == pytest.approx(20, abs=1)
    assert summary.consistency.figures.interpolated.rmse_grey == 0


def test_noise_of_the_input_is_the_measure_where_there_is_noise(tmp_path):
    kept = summarised(tmp_path / "kept", factor=1, noise=10.0)
    assert verdicts(kept)["consistency"] == "warn"
    assert "noise was kept" in reason(kept, "consistency")
    rng = np.random.default_rng(2)
    changed = summarised(
        tmp_path / "changed", lambda t: t + rng.normal(0, 10, t.shape), factor=1, noise=10.0
    )
    assert verdicts(changed)["consistency"] == "pass"
    assert changed.consistency.figures.restored.relative_to_noise == pytest.approx(1, abs=0.1)
    much = summarised(
        tmp_path / "much", lambda t: t + rng.normal(0, 40, t.shape), factor=1, noise=10.0
    )
    assert verdicts(much)["consistency"] == "fail"


def test_blocks_that_do_not_fit_together_are_found(tmp_path):
    def stepped(truth):
        steps = np.random.default_rng(3).normal(0, 15, (3, 2, 3))
        return truth + np.kron(steps, np.ones((8, 16, 16)))[:24, :32, :40]

    summary = summarised(tmp_path, stepped)
    assert verdicts(summary)["seams"] in ("warn", "fail")
    assert "grey values" in reason(summary, "seams") and "block faces" in reason(summary, "seams")


def test_a_single_block_has_no_seams():
    seam = {
        "score": None,
        "offset": None,
        "paired": False,
        "height_grey": 0,
        "chance": 1,
        "relative": None,
        "verdict": "pass",
        "profile": [],
    }
    axes = dict.fromkeys("zyx", seam)
    place = {"start": (0, 0, 0), "stop": (8, 8, 8), "block": (8, 8, 8), "halo": (0, 0, 0)}
    figures = SeamsFigures(**place, figures={"restored": axes, "interpolated": axes})
    (only,) = named("seams").checks(figures, None)
    assert only.verdict == "not tested" and "single block" in only.reason


def test_without_a_reference_only_what_needs_none_is_judged(tmp_path):
    summary = summarised(tmp_path, reference=False)
    assert set(verdicts(summary)) == {
        *("noise", "distance of sections", "seams", "consistency", "reference"),
    }
    assert summary.verdict == "not tested"
    assert summary.image is None and summary.fsc is None and summary.segmentation is None


def test_objects_of_the_reference_itself_are_its_own(tmp_path):
    truth = np.repeat(np.arange(1, 5), 10)[None, None, :].repeat(32, 1).repeat(24, 0)
    plan, sample = run(tmp_path)
    labels = volume(tmp_path / "labels.ome.zarr", truth.astype(np.uint16), label=True)
    qc = sample.qc.model_copy(update={"labels": labels})
    sample = dataclasses.replace(sample, qc=qc)
    measured = named("segmentation").measure(sample, 1)
    figures, section = measured.figures, measured.arrays
    restored = figures.against_reference.restored
    assert restored.voi_split_bits == restored.voi_merge_bits == 0
    assert figures.against_labels.restored == figures.against_labels.reference
    assert section["restored"].shape == section["labels"].shape == (21, 40)
    np.testing.assert_array_equal(section["stop"] - section["start"], (21, 1, 40))
    checks = named("segmentation").checks(figures, plan)
    assert [check.name for check in checks] == ["segmentation", "objects"]


@pytest.mark.parametrize("samples", [2, 4, 9])
def test_the_spread_of_correct_samples_is_calibrated(tmp_path, samples):
    # samples and truth are drawn alike, so that E|mean - truth|^2 = sigma^2 (1 + 1/n)
    rng, sigma = np.random.default_rng(0), 8.0
    shape = (samples, 24, 32, 40)
    drawn, truth = rng.normal(0, sigma, shape), rng.normal(0, sigma, shape[1:])
    _, sample = run(
        tmp_path,
        lambda tissue: tissue + drawn.mean(0) - truth,
        samples=samples,
        spread=drawn.std(0, ddof=1).astype(np.float32),
    )
    figures = named("uncertainty").measure(sample, 1).figures
    assert figures.rms_grey == pytest.approx(sigma, rel=0.02)
    assert figures.error_over_spread == pytest.approx(1, abs=0.02)


def test_a_spread_half_as_large_as_the_error_is_told_as_such(tmp_path):
    error = 6 * np.random.default_rng(0).normal(size=(24, 32, 40))
    _, sample = run(tmp_path, lambda truth: truth + error, samples=4, spread=3 / (1 + 1 / 4) ** 0.5)
    assert named("uncertainty").measure(sample, 1).figures.error_over_spread == pytest.approx(
        2, abs=0.05
    )


def test_the_coverage_of_normal_errors_is_that_of_the_normal_distribution(tmp_path):
    error = 6 * np.random.default_rng(0).normal(size=(24, 32, 40))
    spread = np.full(error.shape, 6 / (1 + 1 / 4) ** 0.5, np.float32)
    spread[0] = 0  # measured, and so without spread: it says nothing of the others
    _, sample = run(tmp_path, lambda truth: np.round(truth + error), samples=4, spread=spread)
    coverage = named("uncertainty").measure(sample, 1).figures.coverage
    assert coverage == pytest.approx({"1": 0.683, "2": 0.954, "3": 0.997}, abs=0.05)


@pytest.mark.parametrize(
    ("value", "expected"), [(1, "pass"), (2, "pass"), (2.1, "warn"), (3, "warn"), (3.1, "fail")]
)
def test_limits_belong_to_the_better_verdict(value, expected):
    assert judged(value, 2, 3) == expected
    assert judged(-value, -2, -3, higher=True) == expected


def check(verdict, *, decisive=False, name="toy"):
    return Check(
        name=name, verdict=verdict, measure="", value=None, reason="It is so.", decisive=decisive
    )


VERDICT = st.sampled_from(["pass", "warn", "fail", "not tested"])
CHECKS = st.lists(st.builds(check, VERDICT, decisive=st.booleans()))


@given(CHECKS)
def test_a_pass_is_earned_by_a_decisive_test(checks):
    verdict = overall(checks)
    decided = {each.verdict for each in checks if each.decisive}
    if verdict == "pass":
        assert "pass" in decided
        assert not {each.verdict for each in checks} & {"warn", "fail"}
    assert (verdict == "fail") == any(each.verdict == "fail" for each in checks)
    if decided <= {"not tested"} and verdict != "fail":
        assert verdict == "not tested"


@given(CHECKS, CHECKS)
def test_more_checks_never_hide_a_fault(checks, more):
    order = ["pass", "warn", "fail"]
    before, after = overall(checks), overall([*checks, *more])
    if "not tested" not in (before, after):
        assert order.index(after) >= order.index(before)


@given(CHECKS)
def test_one_sentence_says_whether_to_use_the_result(checks):
    sentence = advice(checks)
    assert sentence.endswith(".") and sentence.count(". ") == 0


def test_failures_come_first_and_decisive_tests_before_others():
    checks = [
        check("pass", name="a"),
        check("fail", name="b"),
        check("pass", decisive=True, name="c"),
        not_tested("d", "It was not."),
        check("warn", name="e"),
    ]
    assert [each.name for each in by_urgency(checks)] == ["b", "e", "d", "c", "a"]


def test_figures_without_numbers_are_not_written(tmp_path):
    with pytest.raises(ValueError, match="finite"):
        ImageFigures.model_validate(
            {**summarised(tmp_path).image.model_dump(), "data_range": float("inf")}
        )


def test_another_file_is_refused_with_its_name(tmp_path):
    (tmp_path / "image.json").write_text("{}")
    with pytest.raises(EmgenError, match=r"image\.json is not a ImageFigures"):
        ImageFigures.read(tmp_path / "image.json")


def test_tiles_too_small_for_a_measured_voxel_are_said_so(tmp_path):
    _, sample = run(tmp_path)
    nothing = Box((0, 0, 0), (0, 32, 40))
    figures = compared(sample, lambda box, voxels: (nothing, voxels[:0]))
    (only,) = named("consistency").checks(figures, sample.plan)
    assert only.verdict == "not tested" and "qc.tile" in only.reason
