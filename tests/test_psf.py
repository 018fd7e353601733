import json

import numpy as np
import pytest
import scipy.ndimage
import tifffile
from hypothesis import given
from hypothesis import settings as settings_of
from hypothesis import strategies as st
from runs import measured, restore, settings

from emgen.arrays import deblur
from emgen.config.run import parse
from emgen.errors import EmgenError
from emgen.physics.psf import gaussian, read_kernel
from emgen.run.fit_psf import Ellipse, fit_gaussian
from emgen.run.plan import make
from emgen.run.resolve import resolve

WIDE = {
    "grid": {"block": [16, 48, 48], "halo": [4, 8, 8]},
    "output": {"shard": [16, 48, 48], "chunk": [16, 48, 48]},
}


def deblurred(volume, psf, **restore_):
    return settings(volume, restore={"mode": "deblur", "steps": 2, "psf": psf, **restore_}, **WIDE)


def test_a_file_of_a_gaussian_is_that_gaussian(tmp_path):
    volume, path = measured(tmp_path), tmp_path / "psf.tif"
    tifffile.imwrite(path, 7 * gaussian(1.5, 1.0, np.radians(30)))
    _, by_file = restore(tmp_path / "a", deblurred(volume, {"kernel": str(path)}))
    _, by_name = restore(tmp_path / "b", deblurred(volume, {"sigma": [1.5, 1.0], "angle": 30}))
    np.testing.assert_array_equal(by_file, by_name)


def test_another_kernel_in_the_same_file_is_another_setting(tmp_path):
    volume, path = measured(tmp_path), tmp_path / "psf.tif"
    found = []
    for sigma in (1.0, 2.0):
        tifffile.imwrite(path, gaussian(sigma, sigma))
        found.append(resolve(parse(deblurred(volume, {"kernel": str(path)}))).settings)
    assert found[0] != found[1]


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (np.ones((4, 5)), "shape (4, 5); expected a plane (y, x) with an odd number"),
        (np.ones((2, 3, 5, 7)), "expected a plane"),
        (np.zeros((3, 3)), "their sum positive"),
        (np.full((3, 3), np.nan), "must be finite"),
    ],
)
def test_a_file_that_is_no_kernel_is_refused(tmp_path, array, words):
    tifffile.imwrite(tmp_path / "psf.tif", array, photometric="minisblack")
    with pytest.raises(EmgenError) as error:
        read_kernel(str(tmp_path / "psf.tif"))
    assert words in str(error.value)


def test_a_line_is_a_kernel_too_and_an_array_is_checked_like_a_file(tmp_path, fib25):
    line = np.ones((1, 7))
    tifffile.imwrite(tmp_path / "psf.tif", line, photometric="minisblack")
    np.testing.assert_array_equal(read_kernel(str(tmp_path / "psf.tif")), line / 7)
    image = fib25[0].astype(np.float32)
    by_array = deblur(image, line, steps=1)
    assert by_array.plan.psf == ((1 / 7,) * 7,)
    with pytest.raises(EmgenError, match="psf holds an array of shape"):
        deblur(image, np.ones((2, 2)))
    blocks = {"block": (1, 16, 16), "halo": (0, 4, 4)}
    deblur(image, np.ones((3, 3)), steps=1, **blocks)
    with pytest.raises(EmgenError, match="reaches 5 pixels"):
        deblur(image, np.ones((11, 11)), steps=1, **blocks)


def test_a_function_wider_than_the_halo_is_refused_where_blocks_meet(tmp_path):
    volume = measured(tmp_path)  # 40 x 40 pixels
    with pytest.raises(EmgenError, match=r"reaches 9 pixels along y, the halo 8: set grid.halo"):
        resolve(
            parse(
                deblurred(volume, {"sigma": 3.0})
                | {
                    "grid": {"block": [16, 32, 32], "halo": [4, 8, 8]},
                    "output": {"shard": [16, 32, 32], "chunk": [16, 32, 32]},
                }
            )
        )
    resolve(parse(deblurred(volume, {"sigma": 3.0})))  # one block is the whole section


def test_what_was_fitted_to_other_voxels_is_refused(tmp_path):
    found = resolve(parse(deblurred(measured(tmp_path), "blind")))
    kernel = gaussian(1.0, 1.0).tolist()
    path = tmp_path / "psf.json"
    path.write_text(json.dumps({"input": make(found).fingerprint, "kernel": kernel}))
    assert make(found, psf=path).psf == tuple(map(tuple, kernel))
    path.write_text(json.dumps({"input": "another", "kernel": kernel}))
    with pytest.raises(EmgenError, match=r"psf.json was fitted to other voxels"):
        make(found, psf=path)


def test_a_file_that_is_not_there_is_named(tmp_path):
    (tmp_path / "text.tif").write_text("no picture")
    for name in ("none.tif", "text.tif"):
        with pytest.raises(EmgenError, match=f"{name} cannot be read as a TIFF"):
            read_kernel(str(tmp_path / name))


@pytest.mark.parametrize("psf", [{"sigma": 3, "kernel": "a.tif"}, {"blind": True, "sigma": 1.0}])
def test_two_ways_at_once_are_refused(psf):
    with pytest.raises(EmgenError, match="give one of sigma, kernel and blind"):
        parse({"run": "a", "input": {"volume": "b"}, "restore": {"mode": "deblur", "psf": psf}})


def test_blind_is_a_word_too():
    config = {"run": "a", "input": {"volume": "b"}, "restore": {"mode": "deblur", "psf": "blind"}}
    found = parse(config)
    assert found.restore.psf.blind
    assert parse(found.model_dump(mode="json")) == found


def blurred(sections, true, noise=2.0, seed=0):
    kernel = gaussian(*true[:2], np.radians(true[2]))[None]
    soft = scipy.ndimage.convolve(sections.astype(np.float32), kernel, mode="mirror")
    return soft + noise * np.random.default_rng(seed).standard_normal(soft.shape)


@given(st.floats(1, 4), st.floats(1, 4), st.floats(-89, 89))
@settings_of(max_examples=20, deadline=None)
def test_the_function_between_a_sharp_and_a_blurred_section_is_found(a, b, angle):
    rng = np.random.default_rng(0)
    sharp = rng.normal(size=(2, 96, 96))
    found = fit_gaussian(sharp, blurred(sharp, (a, b, angle), 0.0), np.eye(2))
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    axes = np.array([[c, -s], [s, c]])
    expected = (axes * [a**2, b**2]) @ axes.T
    np.testing.assert_allclose(found, expected, atol=0.15 * max(a, b) ** 2)


def test_an_ellipse_is_its_covariance():
    c, s = np.cos(0.5), np.sin(0.5)
    axes = np.array([[c, -s], [s, c]])
    found = Ellipse.of((axes * [9.0, 2.25]) @ axes.T)
    assert found.sigma == pytest.approx((3, 1.5))
    assert found.angle == pytest.approx(np.degrees(0.5))


ROUGH = pytest.mark.xfail(
    strict=True, reason="a round blur of few small sections is found as an ellipse"
)


@pytest.mark.slow
@pytest.mark.parametrize(
    "true",
    [
        pytest.param((1.0, 1.0, 0), marks=ROUGH),
        pytest.param((2.0, 2.0, 0), marks=ROUGH),
        (3.0, 1.5, 30),
    ],
)
def test_an_unknown_blur_is_found_and_undone(fib25, true):
    truth = fib25[:6]
    soft = blurred(truth, true)
    found = deblur(soft, "blind", noise=2.0)
    kernel = np.array(found.plan.psf)
    y, x = np.indices(kernel.shape) - np.array(kernel.shape)[:, None, None] // 2
    spread = (
        np.linalg.eigvalsh(
            [
                [(kernel * y * y).sum(), (kernel * y * x).sum()],
                [(kernel * y * x).sum(), (kernel * x * x).sum()],
            ]
        )
        ** 0.5
    )
    np.testing.assert_allclose(spread, sorted(true[:2]), rtol=0.35)
    error = [np.square(each.astype(float) - truth).mean() for each in (found.mean, soft)]
    assert error[0] < error[1] / 1.2


def test_sections_too_small_to_fit_to_are_refused():
    with pytest.raises(EmgenError, match="psf: blind needs sections of at least 48 x 48"):
        deblur(np.random.default_rng(0).normal(size=(3, 40, 60)), "blind")
