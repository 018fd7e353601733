"""Samplers against closed forms: under a Gaussian prior everything they should find is known.

For x from N(0, C) the exact velocity is v(x, t) = (t C (t^2 C + (1 - t)^2)^-1 x - x) / (1 - t), and
given y = A x + sigma eps the mean of x is m = C A^T (A C A^T + sigma^2)^-1 y. With these every
sampler is linear in its noise, so its mean over all seeds is its result without noise.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import DDPMScheduler
from torch import Tensor

from emgen.geometry import Box
from emgen.physics.interpolation import linear
from emgen.physics.operators import (
    Blur,
    Downsample,
    Gaussian,
    Identity,
    Mean,
    Operator,
    Slice,
    without,
)
from emgen.sampling import diffusion
from emgen.sampling.dps import dps
from emgen.sampling.em_generalist import em_generalist
from emgen.sampling.flower import flower
from emgen.sampling.posterior_mean import posterior_mean_one_call
from emgen.sampling.problem import Noise, Problem, Velocity
from emgen.sampling.sampler import sampler

SHAPE = (8, 6, 6)
SIZE = 8 * 6 * 6
OPERATORS = [
    Identity(SHAPE),
    Slice(SHAPE, 2),
    Slice(SHAPE, 4),
    Mean(SHAPE, 4),
    Gaussian(SHAPE, 2, fwhm=2.0),
    Downsample(SHAPE, 2),
    Blur(SHAPE, 0.7),
]
every_operator = pytest.mark.parametrize("A", OPERATORS, ids=lambda A: type(A).__name__)


def volume(seed: int, shape: tuple[int, ...] = SHAPE) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def silence(k: int) -> Tensor:
    return torch.zeros(SHAPE, dtype=torch.float64)


def hiss(k: int) -> Tensor:
    return volume(1000 + k)


def white(x: Tensor, t: float) -> Tensor:
    """The exact velocity of N(0, 1)."""
    return (t / (t**2 + (1 - t) ** 2) * x - x) / (1 - t)


class Tissue:
    """A Gaussian prior whose correlation falls off as exp(-distance / 3) on each axis."""

    def __init__(self) -> None:
        axes = [torch.arange(n, dtype=torch.float64) for n in SHAPE]
        z, y, x = (torch.exp(-(a[:, None] - a[None]).abs() / 3) for a in axes)
        self.covariance = torch.kron(torch.kron(z, y), x)
        self.power, self.modes = torch.linalg.eigh(self.covariance)

    def velocity(self, x: Tensor, t: float) -> Tensor:
        gain = t * self.power / (t**2 * self.power + (1 - t) ** 2)
        return ((self.modes @ (gain * (self.modes.T @ x.flatten()))).reshape(SHAPE) - x) / (1 - t)

    def sample(self, seed: int) -> Tensor:
        return (self.modes @ (self.power.sqrt() * volume(seed).flatten())).reshape(SHAPE)

    def posterior_mean(self, A: Operator, y: Tensor, sigma: float) -> Tensor:
        m, c = matrix(A, SHAPE), self.covariance
        seen = m @ c @ m.T + sigma**2 * torch.eye(len(m), dtype=m.dtype)
        return (c @ m.T @ torch.linalg.solve(seen, y.flatten())).reshape(SHAPE)


def posed(
    y: Tensor, A: Operator, velocities: list[Velocity], noise: Noise = silence, **more: Any
) -> Problem:
    """A problem of three steps with a start of zeros, unless told otherwise."""
    usual = {"sigma": 0.1, "steps": 3, "start": silence(0).to(y.dtype)}
    return Problem(y=y, A=A, velocities=velocities, noise=noise, **usual | more)


def matrix(linear_map: Callable[[Tensor], Tensor], shape: tuple[int, ...]) -> Tensor:
    """A linear map of volumes of this shape as a matrix."""
    units = torch.eye(torch.Size(shape).numel(), dtype=torch.float64)
    return torch.stack([linear_map(unit.reshape(shape)).flatten() for unit in units], dim=1)


def error(x: Tensor, expected: Tensor) -> float:
    return float((x - expected).norm() / expected.norm())


@pytest.fixture(scope="module")
def tissue() -> Tissue:
    return Tissue()


# Flower


@every_operator
@pytest.mark.parametrize("sigma", [0.02, 0.3, 2.0])
@pytest.mark.parametrize("steps", [1, 3, 10])
def test_flower_finds_the_posterior_mean_of_white_noise(
    A: Operator, sigma: float, steps: int
) -> None:
    # Let m solve (A^T A / s^2 + 1) m = A^T y / s^2. At t = 0: h = 0 and nu = 1, so x* = m.
    # From x = t m: h = t^2 / (t^2 + (1 - t)^2) m, hence h / nu = c m and 1 / nu = 1 + c with
    # c = t^2 / (1 - t)^2, and (A^T A / s^2 + 1 + c) x* = A^T y / s^2 + c m has the solution m.
    y = volume(1, A.measured_shape)
    start = torch.zeros(SHAPE, dtype=torch.float64)
    x = flower(posed(y, A, [white], start=start, sigma=sigma, steps=steps))
    expected = A.prox(start, y, sigma**2)
    assert torch.allclose(x, expected, atol=1e-4)


@every_operator
def test_flower_converges_to_the_posterior_mean(A: Operator, tissue: Tissue) -> None:
    sigma = 0.2
    y = A(tissue.sample(2))
    y = y + sigma * volume(3, tuple(y.shape))
    expected = tissue.posterior_mean(A, y, sigma)
    start = torch.from_numpy(
        linear(y.numpy(), Box.whole(y.shape), A.box, A.scale, A.centre)
    ).double()

    def run(steps: int, t0: float = 0.0) -> float:
        velocities = [tissue.velocity]
        more = {"start": start, "sigma": sigma, "start_time": t0, "steps": steps}
        return error(flower(posed(y, A, velocities, **more)), expected)

    # Of first order: four times the steps, less than half the error (a quarter in the limit).
    errors = [run(10), run(40), run(160)]
    assert errors[1] < errors[0] / 2
    assert errors[2] < errors[1] / 2
    assert errors[2] < 0.06
    # A dozen steps from the interpolation are nearer than the interpolation is, or nothing.
    assert run(12, t0=0.5) < min(error(start, expected), 1.0)


def test_flower_is_linear_in_its_noise(tissue: Tissue) -> None:
    A = Mean(SHAPE, 4)
    y, start = A(tissue.sample(4)), tissue.sample(5)

    def run(noise: Callable[[int], Tensor]) -> Tensor:
        return flower(posed(y, A, [tissue.velocity], noise, start=start, start_time=0.3, steps=5))

    both = (run(hiss) + run(lambda k: -hiss(k))) / 2
    assert not torch.allclose(run(hiss), both, atol=0.01)
    assert torch.allclose(both, run(silence))


def test_known_sections_come_back_to_the_bit() -> None:
    A = Slice(SHAPE, 4)
    y = volume(6, A.measured_shape).float()

    def some_network(x: Tensor, t: float) -> Tensor:
        return torch.tanh(x.roll(1, 0) - 0.3 * x) + t

    more = {"sigma": 0.0, "start_time": 0.4, "steps": 7}
    x = flower(posed(y, A, [some_network], lambda k: hiss(k).float(), **more))
    assert torch.equal(x[::4], y)
    assert x.dtype == torch.float32


def test_flower_takes_planes_in_turn_with_fresh_noise_each_time() -> None:
    seen: list[tuple[str, float]] = []
    asked: list[int] = []

    def plane(name: str) -> Velocity:
        def velocity(x: Tensor, t: float) -> Tensor:
            seen.append((name, t))
            return white(x, t)

        return velocity

    def noise(k: int) -> Tensor:
        asked.append(k)
        return hiss(k)

    planes = [plane("xz"), plane("yz")]
    y = volume(7)
    flower(posed(y, Identity(SHAPE), planes, noise, start=y, start_time=0.2, steps=4))
    assert seen == [
        ("xz", 0.2),
        ("yz", pytest.approx(0.4)),
        ("xz", pytest.approx(0.6)),
        ("yz", pytest.approx(0.8)),
    ]
    assert asked == sorted(set(asked))


# EM Generalist


@every_operator
def test_em_generalist_converges_to_its_limit(A: Operator, tissue: Tissue) -> None:
    # Near t = 1 a step without noise moves x by -(1 - t)^alpha B (A x - y) - (1 - t)^2 C^-1 x. The
    # first term dies out more slowly, so that the loop ends with A x = y and C^-1 x in the range
    # of B: x = C B (A C B)^-1 y. For B = A^T that is the posterior mean without noise.
    y = A(tissue.sample(8))
    b = matrix(A.interpolate_back, A.measured_shape)
    cb = tissue.covariance @ b
    limit = (cb @ torch.linalg.solve(matrix(A, SHAPE) @ cb, y.flatten())).reshape(SHAPE)
    if isinstance(A, Identity | Blur):
        assert error(limit, tissue.posterior_mean(A, y, 1e-5)) < 1e-3

    def run(steps: int) -> float:
        return error(em_generalist(posed(y, A, [tissue.velocity], steps=steps)), limit)

    errors = [run(20), run(80), run(320)]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < (0.2 if isinstance(A, Blur) else 0.03)


def test_em_generalist_without_data_does_not_look_at_it(tissue: Tissue) -> None:
    A = Slice(SHAPE, 2)

    def run(y: Tensor) -> Tensor:
        return em_generalist(posed(y, A, [], hiss, unbound=[tissue.velocity]))

    assert torch.equal(run(volume(9, A.measured_shape)), run(volume(10, A.measured_shape)))


def test_a_larger_alpha_trusts_the_measurement_less(tissue: Tissue) -> None:
    A = Identity(SHAPE)
    y = tissue.sample(11)
    weak, strong = (
        error(em_generalist(posed(y, A, [white], guidance=alpha, steps=10)), y)
        for alpha in (2.0, 0.1)
    )
    assert strong < weak


# One call


@pytest.mark.parametrize("sigma", [0.0, 0.1, 1.0])
def test_one_shot_is_the_posterior_mean(sigma: float, tissue: Tissue) -> None:
    y = tissue.sample(12) + sigma * volume(13)
    if sigma == 0:
        assert torch.equal(posterior_mean_one_call(y, sigma, [lambda x, t: torch.ones_like(x)]), y)
        return
    expected = tissue.posterior_mean(Identity(SHAPE), y, sigma)
    assert torch.allclose(posterior_mean_one_call(y, sigma, [tissue.velocity]), expected)


def test_one_shot_averages_planes(tissue: Tissue) -> None:
    y = tissue.sample(14)
    each = [posterior_mean_one_call(y, 0.5, [velocity]) for velocity in (white, tissue.velocity)]
    assert torch.allclose(
        posterior_mean_one_call(y, 0.5, [white, tissue.velocity]), (each[0] + each[1]) / 2
    )


@pytest.mark.parametrize("sigma", [0.05, 0.4])
def test_the_same_noise_everywhere_is_one_noise(sigma: float, tissue: Tissue) -> None:
    y = tissue.sample(30)
    everywhere = torch.full(SHAPE, sigma, dtype=torch.float64)
    expected = posterior_mean_one_call(y, sigma, [tissue.velocity])
    assert torch.allclose(posterior_mean_one_call(y, everywhere, [tissue.velocity]), expected)


def test_noise_that_differs_is_removed_where_it_is() -> None:
    # Under a white prior every voxel is on its own: y / (1 + sigma^2).
    y, sigma = volume(31), 0.05 * 8 ** volume(32).sigmoid()
    expected = y / (1 + sigma**2)
    found = posterior_mean_one_call(y, sigma, [white])
    assert (found - expected).abs().max() < 0.05
    typical = posterior_mean_one_call(y, float(sigma.mean()), [white])
    assert (found - expected).norm() < 0.25 * (typical - expected).norm()


def test_flower_trusts_each_voxel_by_its_noise(tissue: Tissue) -> None:
    A, start = Slice(SHAPE, 2), tissue.sample(33)
    y = A(tissue.sample(34))
    sigma = torch.full(tuple(y.shape), 0.5, dtype=torch.float64)
    sigma[1] = 0.0
    x = flower(posed(y, A, [tissue.velocity], hiss, start=start, sigma=sigma, start_time=0.5))
    assert torch.equal(A(x)[1], y[1])
    assert not torch.allclose(A(x)[2], y[2], atol=0.05)


# Diffusion posterior sampling


def test_dps_without_guidance_takes_the_steps_of_ddpm() -> None:
    ddpm = DDPMScheduler(1000, beta_schedule="linear", clip_sample=False)
    x = hiss(0)
    for k, s in enumerate(range(999, -1, -1)):
        t = diffusion.time(s)
        x_t = diffusion.to_flow(x, t)
        eps = x_t - t * white(x_t, t)
        # diffusers adds a draw of its own: the same one twice, of which the half-sum is the mean
        with torch.random.fork_rng():
            torch.manual_seed(0)
            drawn = ddpm.step(eps, s, x).prev_sample
            torch.manual_seed(0)
            own = torch.randn(SHAPE, dtype=x.dtype) if s else 0.0
        spread = float(ddpm._get_variance(s)) ** 0.5 if s else 0.0
        x = drawn - spread * own + spread * hiss(k + 1)
    A = Identity(SHAPE)
    assert torch.allclose(
        dps(posed(volume(15), A, [], hiss, unbound=[white], steps=1000)), x, atol=1e-4
    )


def test_dps_without_guidance_samples_the_prior() -> None:
    A = Identity(SHAPE)
    x = dps(posed(volume(15), A, [white], hiss, guidance=0.0, steps=100))
    assert float(x.std()) == pytest.approx(1, abs=0.15)  # four standard errors of 288 voxels
    assert not x.requires_grad


def test_dps_is_drawn_to_the_measurement(tissue: Tissue) -> None:
    A = Mean(SHAPE, 4)
    y = A(tissue.sample(16))

    def misfit(scale: float, with_data: bool = True) -> float:
        bound, unbound = ([tissue.velocity], []) if with_data else ([], [tissue.velocity])
        x = dps(posed(y, A, bound, hiss, unbound=unbound, guidance=scale, steps=60))
        return error(A(x), y)

    assert misfit(8.0) < 0.4 * misfit(0.0)
    assert misfit(8.0, with_data=False) == misfit(0.0)


def test_one_dps_step_follows_the_gradient() -> None:
    # With v = -x_t / 2 the mean of the data is h = g x, so |h - y| has the gradient g (h - y) / |h - y|.
    y, x = volume(17), hiss(0)
    t = diffusion.time(999)
    g = (t**2 + (1 - t) ** 2) ** 0.5 * (1 + t) / 2
    h = g * x
    problem = posed(y, Identity(SHAPE), [lambda x, t: -x / 2], hiss, guidance=0.7, steps=1)
    found = dps(problem)
    planes = (SIZE / 128**2) ** 0.5
    assert torch.allclose(found, h - 0.7 * planes * g * (h - y) / (h - y).norm())


def test_the_strength_of_dps_does_not_depend_on_the_number_of_planes() -> None:
    def pull(planes: int) -> Tensor:
        y, x = torch.ones(planes, 6, 6), torch.zeros(planes, 6, 6)
        A = Identity((planes, 6, 6))
        return dps(posed(y, A, [lambda x, t: 0 * x], lambda k: x))

    assert torch.allclose(pull(1), pull(5)[:1])


# Contract


every_sampler = pytest.mark.parametrize("name", ["flower", "em-generalist", "dps"])


@every_sampler
def test_inputs_are_never_written_to(name: str) -> None:
    A = Mean(SHAPE, 4)
    y, eps, start = volume(18, A.measured_shape), volume(19), volume(20)
    before = [tensor.clone() for tensor in (y, eps, start)]
    sampler(name).solve(posed(y, A, [white], lambda k: eps, start=start, start_time=0.1))
    assert all(torch.equal(a, b) for a, b in zip((y, eps, start), before, strict=True))


@every_sampler
def test_a_missing_section_says_nothing(name: str) -> None:
    A = Mean(SHAPE, 4)
    y, lost = volume(25, A.measured_shape), without(A, torch.tensor([True, False])[:, None, None])
    x = [
        sampler(name).solve(posed(torch.cat([y[:1], dark]), lost, [white], hiss, start_time=0.1))
        for dark in (y[1:], 100 + y[1:])
    ]
    assert torch.equal(*x)


def test_no_steps_and_no_velocities_are_refused() -> None:
    y = volume(21)
    with pytest.raises(ValueError, match="at least one velocity and one step"):
        posed(y, Identity(SHAPE), [white], steps=0)
    with pytest.raises(ValueError, match="at least one velocity and one step"):
        posed(y, Identity(SHAPE), [])


@pytest.mark.parametrize("wrong", [{"start_time": 1.0}, {"start_time": -0.1}, {"sigma": -1.0}])
def test_nonsense_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected 0 <= start_time < 1 and sigma >= 0"):
        posed(volume(22), Identity(SHAPE), [white], **wrong)


@pytest.mark.parametrize("wrong", [{"start": None}, {"unbound": [white], "velocities": []}])
def test_flower_needs_a_start_and_a_plane_that_is_bound(wrong: dict[str, Any]) -> None:
    velocities = wrong.pop("velocities", [white])
    with pytest.raises(ValueError, match="flower needs a start"):
        flower(posed(volume(23), Identity(SHAPE), velocities, **wrong))


def test_one_shot_refuses_negative_noise() -> None:
    with pytest.raises(ValueError, match="sigma must not be negative"):
        posterior_mean_one_call(volume(24), -0.1, [white])
