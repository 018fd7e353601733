"""The change of variables between diffusion and flow, as laws, and its schedule against diffusers' own."""

import math

import pytest
import torch
from diffusers import DDPMScheduler
from hypothesis import given
from hypothesis import strategies as st

from emgen.sampling import diffusion
from emgen.sampling.flow import x1_prediction

INSIDE = st.floats(diffusion.time(diffusion.STEPS - 1), diffusion.time(0))


@given(st.integers(0, diffusion.STEPS - 1))
def test_steps_and_times_are_each_others_inverse(step):
    assert float(diffusion.step(diffusion.time(step))) == pytest.approx(step, abs=1e-6)


@given(st.integers(0, diffusion.STEPS - 1))
def test_both_paths_hold_the_same_noise_for_the_same_data(step):
    x, eps = torch.randn(2, 5, dtype=torch.float64)
    a, t = diffusion.kept()[step], diffusion.time(step)
    x_s, x_t = math.sqrt(a) * x + math.sqrt(1 - a) * eps, t * x + (1 - t) * eps
    torch.testing.assert_close(diffusion.to_diffusion(x_t, t), x_s)
    torch.testing.assert_close(diffusion.to_flow(x_s, t), x_t)


@given(INSIDE, st.floats(0.05, 2))
def test_the_best_noise_under_a_gaussian_gives_the_best_velocity(t, s):
    """x ~ N(0, s^2): eps = (1 - t) x_t / p and v = (t s^2 - (1 - t)) x_t / p, p = t^2 s^2 + (1 - t)^2."""
    x_t = torch.randn(5, dtype=torch.float64)
    a = diffusion.kept()
    step = float(diffusion.step(t))
    # the diffusion's own posterior, at a step between two others too
    left = math.exp(math.log(t) - math.log(math.hypot(t, 1 - t))) ** 2
    assert a[math.ceil(step)] - 1e-9 <= left <= a[math.floor(step)] + 1e-9
    x_s = diffusion.to_diffusion(x_t, t)
    eps = math.sqrt(1 - left) * x_s / (left * s**2 + 1 - left)
    power = t**2 * s**2 + (1 - t) ** 2
    expected = (t * s**2 - (1 - t)) / power * x_t
    torch.testing.assert_close(diffusion.velocity(eps, x_t, t), expected, rtol=1e-6, atol=1e-9)


@given(st.floats(0, 1), st.floats(0.05, 1))
def test_beyond_its_first_and_last_step_too_it_denoises(t, s):
    """The best prediction of a diffusion that has no step for such times; 0.02 is twice its least noise."""
    x_t = torch.randn(5, dtype=torch.float64)
    near = diffusion.time(float(diffusion.step(t)))
    x_s = diffusion.to_diffusion(x_t, t)
    # at the step that it was asked for, both variances those of x_s
    kept = near**2 / (near**2 + (1 - near) ** 2)
    eps = math.sqrt(1 - kept) * x_s / (kept * s**2 + 1 - kept)
    found = x1_prediction(x_t, diffusion.velocity(eps, x_t, t), t)
    expected = t * s**2 / (t**2 * s**2 + (1 - t) ** 2) * x_t
    torch.testing.assert_close(found / x_t, expected / x_t, rtol=0, atol=0.02)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_a_time_for_each_is_one_time_after_the_other(times):
    x, eps = torch.randn(2, len(times), 1, 2, 3, dtype=torch.float64)
    t = torch.tensor(times, dtype=torch.float64)
    for change in (
        lambda k, t: diffusion.to_diffusion(x[k], t),
        lambda k, t: diffusion.to_flow(x[k], t),
        lambda k, t: diffusion.velocity(eps[k], x[k], t),
    ):
        single = [change(slice(k, k + 1), each) for k, each in enumerate(times)]
        torch.testing.assert_close(change(slice(None), t), torch.cat(single))
    assert diffusion.step(t).tolist() == [float(diffusion.step(each)) for each in times]


@given(INSIDE)
def test_the_velocity_of_a_noise_holds_that_noise(t):
    x_t, v = torch.randn(2, 5, dtype=torch.float64)
    eps = x_t - t * v  # the mean of eps given x_t, where v is that of x - eps
    torch.testing.assert_close(diffusion.velocity(eps, x_t, t), v, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("steps", [1, 7, 1000])
def test_the_schedule_is_that_of_ddpm(steps):
    reference = DDPMScheduler(1000, beta_schedule="linear").alphas_cumprod.double()
    found = torch.tensor(diffusion.schedule(steps), dtype=torch.float64)
    assert len(found) == steps
    at = torch.tensor([float(diffusion.step(t)) for t in found[:, 0]]).round().long()
    assert at[0] == 999 and (steps == 1 or at[-1] == 0)
    torch.testing.assert_close(found[:, 1], reference[at], rtol=1e-4, atol=1e-7)
    assert found[-1, 2] == 1 and torch.equal(found[:-1, 2], found[1:, 1])


@pytest.mark.parametrize("steps", [0, 1001])
def test_a_schedule_has_from_one_to_a_thousand_steps(steps):
    with pytest.raises(ValueError, match="from 1 to 1000 steps"):
        diffusion.schedule(steps)
