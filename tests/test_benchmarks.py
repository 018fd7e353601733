"""What benchmarks measure with: results of other programs, cubic interpolation, the Frechet distance."""

import sys

import numpy as np
import pytest
import tifffile
from runs import ROOT

from emgen.errors import EmgenError
from emgen.geometry import Box


@pytest.fixture
def others(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield __import__("scores").others
    sys.modules.pop("scores", None)


def test_results_of_other_programs_are_read_by_their_names(others, tmp_path, capsys):
    measured = np.zeros((2, 6, 7), np.float32)
    assert others(tmp_path, "a.tif", measured, (4, 6, 7)) == {}
    assert "no results of other programs for a.tif" in capsys.readouterr().out
    assert tifffile.imread(tmp_path / "inputs/a.tif").shape == measured.shape
    (tmp_path / "EMDiffuse").mkdir()
    result = np.ones((4, 6, 7), np.uint8)
    tifffile.imwrite(tmp_path / "EMDiffuse/a.tif", result, photometric="minisblack")
    found = others(tmp_path, "a.tif", measured, (4, 6, 7))
    assert list(found) == ["EMDiffuse"] and (found["EMDiffuse"] == result).all()


def test_a_result_of_another_shape_is_refused(others, tmp_path):
    (tmp_path / "SCUNet").mkdir()
    tifffile.imwrite(
        tmp_path / "SCUNet/a.tif", np.ones((4, 6, 8), np.uint8), photometric="minisblack"
    )
    with pytest.raises(
        EmgenError, match=r"SCUNet/a.tif has shape \(4, 6, 8\); expected \(4, 6, 7\)"
    ):
        others(tmp_path, "a.tif", np.zeros((2, 6, 7), np.float32), (4, 6, 7))


def test_the_frechet_distance_of_gaussians_is_known(monkeypatch):
    """Diagonal covariances: |m1 - m2|^2 + sum (s1 - s2)^2."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks/prior"))
    distance = __import__("fid").frechet_distance
    rng, s1, s2 = np.random.default_rng(0), np.array([1.0, 2.0, 0.5]), np.array([1.5, 1.0, 0.5])
    a = rng.normal(size=(100_000, 3)) * s1
    b = rng.normal(size=(100_000, 3)) * s2 + [1.0, 0.0, -2.0]
    expected = 5 + np.square(s1 - s2).sum()
    assert distance(a, b) == pytest.approx(expected, rel=0.02)
    assert distance(a, a) == pytest.approx(0, abs=1e-6)


@pytest.fixture
def cubic(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    yield __import__("cubic").cubic
    sys.modules.pop("cubic", None)


def test_cubic_interpolation_is_exact_for_polynomials_of_second_degree(cubic):
    measured = ((np.arange(8) * 4 + 1.5) / 32) ** 2
    box = Box((6, 0, 0), (26, 1, 1))
    result = cubic(measured[:, None, None], Box.whole((8, 1, 1)), box, (4, 1, 1), (1.5, 0, 0))
    assert result[:, 0, 0] == pytest.approx((np.arange(6, 26) / 32) ** 2, abs=1e-6)


def test_cubic_interpolation_keeps_measured_voxels_and_holds_the_edges(cubic):
    y = np.random.default_rng(0).normal(size=(5, 4, 6)).astype(np.float32)
    result = cubic(y, Box.whole((5, 4, 6)), Box.whole((20, 4, 6)), (4, 1, 1), (1, 0, 0))
    assert np.array_equal(result[1::4], y) and np.array_equal(result[0], y[0])
