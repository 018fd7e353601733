"""Laws that every operator keeps, on any box, and the physics each one stands for."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import scipy.ndimage
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emgen.geometry import Box
from emgen.physics.interpolation import linear
from emgen.physics.operators import (
    Blur,
    Downsample,
    Gaussian,
    Identity,
    Masked,
    Mean,
    Operator,
    Slice,
)
from emgen.physics.operators.convolution import conjugate_gradient
from emgen.physics.operators.operator import EVERYWHERE
from emgen.physics.psf import gaussian

SHAPE = (8, 12, 12)
ELLIPSE = gaussian(1.0, 0.5, angle=0.6)
LOPSIDED = np.array([[0.0, 0.1, 0.0], [0.3, 0.3, 0.2], [0.0, 0.1, 0.0]])
OPERATORS = [
    Identity(SHAPE),
    Slice(SHAPE, 4),
    Mean(SHAPE, 4),
    Mean(SHAPE, 1),
    Gaussian(SHAPE, 4, fwhm=4.0),
    Gaussian(SHAPE, 2, fwhm=5.0),
    Gaussian(SHAPE, 4, fwhm=0.1),
    Downsample(SHAPE, 2),
    Downsample(SHAPE, 3),
    Blur(SHAPE, 0.8),
    Blur(SHAPE, (0.4, 1.3)),
    Blur(SHAPE, kernel=ELLIPSE),
    Blur(SHAPE, kernel=LOPSIDED),
]
CLOSED_FORM = [A for A in OPERATORS if isinstance(A, Identity | Slice | Mean | Downsample)]


def name(A: Operator) -> str:
    return " ".join(
        [
            type(A).__name__,
            *(f"{v}" for k, v in vars(A).items() if k in ("factor", "fwhm", "sigma")),
        ]
    )


quick = settings(max_examples=15, deadline=None)
every_operator = pytest.mark.parametrize("whole", OPERATORS, ids=name)


@st.composite
def boxes(draw: st.DrawFn) -> Box:
    pairs = [sorted(draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in SHAPE]
    return Box(tuple(a for a, _ in pairs), tuple(b for _, b in pairs))


def volume(
    seed: int, shape: tuple[int, ...] = SHAPE, dtype: torch.dtype = torch.float64
) -> torch.Tensor:
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


@cache
def matrix(A: Operator) -> np.ndarray:
    """The operator of a whole volume as an array (measured z, y, x, output z, y, x)."""
    columns = torch.eye(np.prod(SHAPE)).reshape(-1, *SHAPE)
    return (
        torch.stack([A(column) for column in columns], dim=-1)
        .reshape(*A.measured_shape, *SHAPE)
        .numpy()
    )


# Laws


@every_operator
@given(box=boxes())
@quick
def test_a_box_equals_the_cropped_volume_to_the_bit(whole: Operator, box: Box) -> None:
    x, A = volume(1, dtype=torch.float32), replace(whole, box=box)
    y = A(x[box.slices])
    assert tuple(y.shape) == A.footprint.shape
    assert torch.equal(y, whole(x)[A.footprint.slices])


@every_operator
@given(box=boxes())
@quick
def test_the_footprint_is_what_the_box_determines_wholly(whole: Operator, box: Box) -> None:
    weights = matrix(whole)
    outside = weights.copy()
    outside[(slice(None),) * 3 + box.slices] = 0
    determined = ~(outside != 0).any(axis=(3, 4, 5))
    expected = np.zeros(whole.measured_shape, bool)
    expected[replace(whole, box=box).footprint.slices] = True
    if box.size:
        assert np.array_equal(determined, expected)


@every_operator
@given(box=boxes())
@quick
def test_adjoint(whole: Operator, box: Box) -> None:
    A = replace(whole, box=box)
    x, y = volume(2, box.shape), volume(3, A.footprint.shape)
    assert torch.isclose((A(x) * y).sum(), (x * A.adjoint(y)).sum(), rtol=1e-10, atol=1e-10)


@every_operator
@given(box=boxes(), r=st.sampled_from([1e-3, 0.1, 10.0]))
@quick
def test_prox_solves_its_problem(whole: Operator, box: Box, r: float) -> None:
    A = replace(whole, box=box)
    h, y = volume(4, box.shape), volume(5, A.footprint.shape)
    x = A.prox(h, y, r)
    # The gradient of |A x - y|^2 + r |x - h|^2 vanishes.
    residual = A.adjoint(A(x) - y) + r * (x - h)
    assert residual.norm() <= 2e-6 * (A.adjoint(A(h) - y).norm() + 1e-9)


@every_operator
@given(box=boxes(), seed=st.integers(0, 9))
@quick
def test_prox_with_an_r_for_each_voxel_solves_its_problem(
    whole: Operator, box: Box, seed: int
) -> None:
    A = replace(whole, box=box)
    h, y = volume(4, box.shape), volume(5, A.footprint.shape)
    r = volume(seed, A.footprint.shape).exp()
    lost = volume(seed + 10, A.footprint.shape) > 0.8
    x = A.prox(h, y, r.masked_fill(lost, np.inf))
    # The gradient of sum (A x - y)^2 / r + |x - h|^2 vanishes, where 1 / r is zero for what is lost.
    weight = (1 / r).masked_fill(lost, 0)
    residual = A.adjoint(weight * (A(x) - y)) + (x - h)
    assert residual.norm() <= 1e-4 * (A.adjoint(weight * (A(h) - y)).norm() + 1e-9)


@every_operator
def test_one_r_is_the_same_r_for_every_voxel(whole: Operator) -> None:
    h, y = volume(4), volume(5, whole.measured_shape)
    same = torch.full_like(y, 0.3)
    assert torch.allclose(whole.prox(h, y, 0.3), whole.prox(h, y, same), atol=1e-5)


@every_operator
def test_what_is_missing_binds_nothing(whole: Operator) -> None:
    h, y = volume(4), volume(5, whole.measured_shape)
    measured = torch.ones(whole.measured_shape[0], 1, 1, dtype=torch.bool)
    measured[1] = False
    A, other = Masked(whole, measured), torch.where(measured, y, 1e3)
    assert (A.footprint, A.scale, A.shape) == (whole.footprint, whole.scale, whole.shape)
    for r in (0.0, 0.2):
        assert torch.equal(A.prox(h, y, r), A.prox(h, other, r))
    assert torch.equal(A(h)[~measured.flatten()], torch.zeros_like(y[:1]))
    assert torch.equal(A(h)[measured.flatten()], whole(h)[measured.flatten()])
    assert torch.isclose((A(h) * y).sum(), (h * A.adjoint(y)).sum())
    assert torch.equal(A.interpolate_back(y), A.interpolate_back(other))
    box = Box((2, 3, 0), (7, 11, 12))
    inner = Masked(replace(whole, box=box), measured[replace(whole, box=box).footprint.slices[0]])
    torch.testing.assert_close(inner(h[box.slices]), A(h)[inner.footprint.slices])


@every_operator
def test_prox_in_single_precision(whole: Operator) -> None:
    h, y = volume(4), volume(5, whole.measured_shape)
    x = whole.prox(h.float(), y.float(), 0.01)
    assert x.dtype == torch.float32
    assert torch.allclose(x.double(), whole.prox(h, y, 0.01), atol=1e-4)


@every_operator
def test_prox_keeps_what_already_agrees(whole: Operator) -> None:
    h = volume(6)
    for r in (0.0, 0.3):
        assert torch.allclose(whole.prox(h, whole(h), r), h, atol=1e-6)


@every_operator
@given(box=boxes())
@quick
def test_a_grey_volume_stays_grey(whole: Operator, box: Box) -> None:
    A = replace(whole, box=box)
    ones = torch.ones(box.shape)
    assert torch.allclose(A(ones), torch.ones(A.footprint.shape))
    if isinstance(A, Blur):
        return  # its rough inverse is the adjoint, which is darker where a box is cut
    if A.footprint.size:
        assert torch.allclose(A.interpolate_back(A(ones)), ones)
    else:
        assert not A.interpolate_back(A(ones)).any()


@every_operator
@given(box=boxes())
@quick
def test_support_is_enough_to_interpolate(whole: Operator, box: Box) -> None:
    A = replace(whole, box=box)
    if box.size == 0:
        return
    y = volume(7, whole.measured_shape).numpy()
    where = (A.scale, A.centre)
    support = A.acquisition.support(box, whole.measured_shape)
    assert Box.whole(whole.measured_shape).contains(support)
    assert support.contains(A.footprint) or A.footprint.size == 0
    everything = linear(y, Box.whole(y.shape), box, *where)
    assert np.array_equal(linear(y[support.slices], support, box, *where), everything)


@every_operator
def test_centre_is_the_centre_of_mass(whole: Operator) -> None:
    if isinstance(whole, Blur) and whole.kernel is not None:
        return  # a lopsided kernel moves the image, and is meant to
    A = replace(whole, shape=(72, 12, 12), box=EVERYWHERE)
    middle = tuple(n // 2 for n in A.measured_shape)
    y = torch.zeros(A.measured_shape)
    y[middle] = 1
    found = scipy.ndimage.center_of_mass(A.adjoint(y).numpy())
    expected = [k * s + c for k, s, c in zip(middle, A.scale, A.centre, strict=True)]
    assert found == pytest.approx(expected, abs=1e-3)


@every_operator
def test_inputs_are_never_written_to(whole: Operator) -> None:
    x, y = volume(8), volume(9, whole.measured_shape)
    x_before, y_before = x.clone(), y.clone()
    (
        whole(x),
        whole.adjoint(y),
        whole.interpolate_back(y),
        whole.prox(x, y, 0.0),
        whole.prox(x, y, 1.0),
    )
    assert torch.equal(x, x_before)
    assert torch.equal(y, y_before)


@pytest.mark.parametrize("whole", CLOSED_FORM, ids=name)
@given(box=boxes())
@quick
def test_a_times_its_adjoint_is_a_multiple_of_one(whole: Operator, box: Box) -> None:
    A = replace(whole, box=box)
    y = volume(10, A.footprint.shape)
    assert torch.allclose(A(A.adjoint(y)) * A.count, y)


@pytest.mark.parametrize("whole", CLOSED_FORM, ids=name)
@given(box=boxes())
@quick
def test_without_noise_the_measurement_is_kept(whole: Operator, box: Box) -> None:
    A = replace(whole, box=box)
    h, y = volume(11, box.shape, torch.float32), volume(12, A.footprint.shape, torch.float32)
    x = A.prox(h, y, 0.0)
    assert torch.allclose(A(x), y, atol=1e-6)
    if A.count == 1:
        assert torch.equal(A(x), y)


@pytest.mark.parametrize("whole", [A for A in OPERATORS if max(A.scale) > 1], ids=name)
def test_bringing_back_interpolates_as_the_baseline_does(whole: Operator) -> None:
    y = volume(13, whole.measured_shape, torch.float32)
    expected = linear(y.numpy(), Box.whole(y.shape), whole.box, whole.scale, whole.centre)
    assert np.allclose(whole.interpolate_back(y), expected, atol=1e-6)


# What each one stands for


def test_slice_takes_every_factor_th_section() -> None:
    x = volume(14)
    assert torch.equal(Slice(SHAPE, 4)(x), x[::4])


def test_mean_averages_sections() -> None:
    x = volume(15)
    assert torch.allclose(Mean(SHAPE, 4)(x), x.reshape(2, 4, 12, 12).mean(dim=1))


def test_downsample_averages_pixels() -> None:
    x = volume(16)
    assert torch.allclose(
        Downsample(SHAPE, 3)(x), torch.nn.functional.avg_pool2d(x[:, None], 3)[:, 0]
    )


@pytest.mark.parametrize("kernel", [ELLIPSE, LOPSIDED], ids=["ellipse", "lopsided"])
def test_blur_is_a_mirrored_convolution(kernel: np.ndarray) -> None:
    x = volume(17)
    expected = scipy.ndimage.convolve(x.numpy(), (kernel / kernel.sum())[None], mode="mirror")
    assert np.allclose(Blur(SHAPE, kernel=kernel)(x), expected, atol=1e-5)


def test_blur_by_sigma_is_a_gaussian() -> None:
    x = volume(18)
    expected = scipy.ndimage.gaussian_filter(x.numpy(), (0, 1, 2), truncate=3, mode="mirror")
    assert np.allclose(Blur(SHAPE, (1, 2))(x), expected)


def test_gaussian_sections_are_a_blur_between_samples() -> None:
    x, A = volume(19), Gaussian(SHAPE, 1, fwhm=3.0)
    expected = scipy.ndimage.gaussian_filter1d(
        x.numpy(), A.sigma, 0, radius=int(3 * A.sigma), mode="nearest"
    )
    assert np.allclose(A(x), expected)
    wide = Gaussian((400, 1, 1), 4, fwhm=40.0)
    weights = wide.adjoint(torch.eye(100, dtype=torch.float64)[50][:, None, None]).flatten().numpy()
    position = np.arange(400) - (50 * 4 + 1.5)
    assert np.sqrt((weights * position**2).sum()) == pytest.approx(wide.sigma, rel=0.02)
    assert (weights > weights.max() / 2).sum() == pytest.approx(40, abs=1)


def test_an_elliptic_gaussian_points_where_it_is_told() -> None:
    kernel = gaussian(3.0, 1.0, angle=np.pi / 6)
    y, x = np.mgrid[: kernel.shape[0], : kernel.shape[1]].astype(float)
    y, x = y - kernel.shape[0] // 2, x - kernel.shape[1] // 2
    covariance = np.array([[(kernel * a * b).sum() for b in (y, x)] for a in (y, x)])
    _, vectors = np.linalg.eigh(covariance)
    assert abs(vectors[:, 1] @ [np.cos(np.pi / 6), np.sin(np.pi / 6)]) == pytest.approx(1, abs=1e-4)
    assert kernel.sum() == pytest.approx(1)


def test_the_measured_volume_is_smaller_by_the_scale() -> None:
    assert Slice(SHAPE, 4).measured_shape == (2, 12, 12)
    assert Downsample(SHAPE, 3).measured_shape == (8, 4, 4)
    assert Slice(SHAPE, 4).centre == (0, 0, 0)
    assert Mean(SHAPE, 4).centre == (1.5, 0, 0)
    assert Downsample(SHAPE, 3).centre == (0, 1, 1)


def test_restricting_twice_counts_from_the_volume() -> None:
    box = Box((2, 0, 0), (6, 12, 12))
    assert replace(Slice(SHAPE, 4, box=box), box=Box.whole(SHAPE)) == Slice(SHAPE, 4)
    assert Slice(SHAPE, 4, box=box).footprint == Box((1, 0, 0), (2, 12, 12))


# Conjugate gradients


def test_conjugate_gradient_solves_in_as_many_steps_as_there_are_eigenvalues() -> None:
    scale = torch.tensor([1.0, 2.0, 3.0, 1.0, 2.0], dtype=torch.float64)
    b, calls = volume(20, (5,)), []

    def normal(x: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return scale * x

    assert torch.allclose(conjugate_gradient(normal, b), b / scale)
    assert len(calls) <= 3
    assert not conjugate_gradient(normal, torch.zeros(5)).any()


def test_conjugate_gradient_stops() -> None:
    calls = []

    def normal(x: torch.Tensor) -> torch.Tensor:
        calls.append(1)
        return torch.linspace(1e-6, 1, 50, dtype=torch.float64) * x

    conjugate_gradient(normal, volume(21, (50,)), most=7)
    assert len(calls) == 7


# Faults


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Slice(SHAPE, 0), "factor must be a whole number"),
        (lambda: Mean(SHAPE, 3), "multiple of"),
        (lambda: Mean((0, 4, 4), 1), "multiple of"),
        (lambda: Gaussian(SHAPE, 4, fwhm=0.0), "width must be a positive number"),
        (lambda: Gaussian(SHAPE, 4, fwhm=float("nan")), "width must be a positive number"),
        (lambda: Downsample(SHAPE, 0), "factor must be a whole number"),
        (lambda: Blur(SHAPE, -1.0), "sigma must be positive"),
        (lambda: Blur(SHAPE, (1.0, 2.0, 3.0)), "sigma must be positive"),
        (lambda: Blur(SHAPE), "either a sigma or a kernel"),
        (lambda: Blur(SHAPE, 1.0, kernel=LOPSIDED), "either a sigma or a kernel"),
        (lambda: Blur(SHAPE, kernel=np.ones((2, 3))), "odd number of pixels"),
        (lambda: Blur(SHAPE, kernel=-np.ones((3, 3))), "sum positive"),
        (lambda: Identity(SHAPE, box=Box((0, 0, 0), (9, 12, 12))), "not inside the output volume"),
    ],
)
def test_nonsense_is_refused(make, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()
