"""A point spread function nobody measured: an elliptic Gaussian fitted to the blurred sections and the prior.

In turn, the sections are restored with the present function and pulled towards what the prior holds to be tissue,
and the function is fitted that blurs the result into what was measured. That has a fixed point, since a prior
sharpens what is too smooth and smooths what was sharpened too much. It is stochastic expectation-maximisation with
three parameters; the blind deconvolution of EM Generalist fits the 1089 pixels of a kernel instead.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import minimize
from torch import Tensor

from emgen.errors import EmgenError
from emgen.geometry import Box
from emgen.networks.device import fixed_arithmetic
from emgen.networks.runner import Networks
from emgen.physics.operators import Blur
from emgen.physics.psf import Kernel, as_tuples, gaussian
from emgen.physics.tissue import MEASURED, Seen
from emgen.run.plan import Plan
from emgen.sampling import philox
from emgen.sampling.flow import x1_prediction
from emgen.sampling.flower import flower
from emgen.sampling.problem import Problem, Velocity
from emgen.volumes.measured import Measured
from emgen.volumes.samples import sample_boxes

ROUNDS = 8
"""Rounds of the fit."""
RELAXATION = 1.5
"""How far each round goes beyond what it finds: rounds of 1 approach the fixed point too slowly."""
ELLIPTIC_ROUNDS = 1
"""Rounds at the end that tell the axes apart; many of them would drift into a line."""
PULL_TIME = 0.5
"""Time to which restored sections are taken back, and from which the prior denoises them."""
START_TIME, STEPS = 0.5, 6
"""Of the sampler in each round."""
SMALLEST_NOISE = 0.02
"""Least noise in half ranges that the sampler is told: a blur is not invertible."""
SIGMA_LIMITS = (0.2, 10.0)
"""Standard deviations in pixels: narrower is no blur, wider leaves nothing to fit."""
CROPS, CROP_SIZE, SMALLEST_SIZE = 6, 128, 48
"""Parts of sections that are fitted, pixels on a side of each, and the least that will do."""
MIN_MEASURED = 0.9
"""Share of a part's pixels that must have been measured; the rest is its own continuation."""

Covariance = npt.NDArray[np.float64]
"""Of the Gaussian, (2, 2) in pixels squared, y first."""


@dataclass(frozen=True)
class Ellipse:
    """An elliptic Gaussian: standard deviations in pixels along its own axes, turned by `angle` degrees from y to x."""

    sigma: tuple[float, float]
    angle: float

    @classmethod
    def of(cls, covariance: Covariance) -> Ellipse:
        power, axes = np.linalg.eigh(covariance)
        angle = math.degrees(math.atan2(axes[1, 1], axes[0, 1]))
        return cls((float(power[1] ** 0.5), float(power[0] ** 0.5)), (angle + 90) % 180 - 90)

    @property
    def kernel(self) -> Kernel:
        return as_tuples(gaussian(*self.sigma, math.radians(self.angle)))


def fit_psf(plan: Plan, measured: Measured, device: str = "cpu") -> Ellipse:
    """The point spread function of a volume to deblur.

    Args:
        plan: of a run that has none yet.
        measured: the input.
        device: "cpu" or a CUDA device.

    Raises:
        EmgenError: sections are too small.
    """
    crops = _crops(plan, measured)
    networks = Networks(plan.prior, None, device, precision="float32")
    (velocity,) = networks.velocities(("xy",))
    y = torch.from_numpy(plan.intensity.encode(crops)).to(device)
    with fixed_arithmetic("float32"):
        sigma = plan.noise_model.sigma / plan.intensity.unit
        return fit_ellipse(y, velocity, sigma, plan.config.restore.seed)


@torch.no_grad()
def fit_ellipse(y: Tensor, velocity: Velocity, sigma: float, seed: int = 0) -> Ellipse:
    """The Gaussian that blurred the sections y.

    Args:
        y: sections (n, height, width) in the prior's half range.
        velocity: of the prior along xy planes.
        sigma: standard deviation of the noise in y, in half ranges.
        seed: of the sampler's noise.
    """
    covariance = np.eye(2)
    box, blurred = Box.whole(tuple(y.shape)), y.cpu().numpy()
    for step in range(ROUNDS):
        A = Blur(box.shape, kernel=Ellipse.of(covariance).kernel)

        def eps(k: int, step: int = step) -> Tensor:
            return philox.normal(seed, step, k, box, y.device)

        problem = Problem(
            y=y,
            A=A,
            sigma=max(sigma, SMALLEST_NOISE),
            velocities=[velocity],
            noise=eps,
            steps=STEPS,
            start=y,
            start_time=START_TIME,
        )
        x = PULL_TIME * flower(problem) + (1 - PULL_TIME) * eps(STEPS)
        x = x1_prediction(x, velocity(x, PULL_TIME), PULL_TIME)
        fitted = fit_gaussian(x.cpu().numpy(), blurred, covariance)
        if step < ROUNDS - ELLIPTIC_ROUNDS:
            mean = np.trace(covariance) / 2
            covariance = np.eye(2) * max(
                mean + RELAXATION * (np.trace(fitted) / 2 - mean), SIGMA_LIMITS[0] ** 2
            )
        else:
            covariance = fitted
    return Ellipse.of(covariance)


def fit_gaussian(
    sharp: npt.NDArray[np.floating], blurred: npt.NDArray[np.floating], guess: Covariance
) -> Covariance:
    """The Gaussian that blurs sharp sections into blurred ones, by least squares of their spectra.

    Args:
        sharp: sections (n, height, width).
        blurred: the same sections, blurred.
        guess: the covariance in pixels squared where the search begins.
    """
    window = np.hanning(sharp.shape[1])[:, None] * np.hanning(sharp.shape[2])
    s, b = (np.fft.rfft2(sections * window) for sections in (sharp, blurred))
    fy = 2 * np.pi * np.fft.fftfreq(sharp.shape[1])[:, None]
    fx = 2 * np.pi * np.fft.rfftfreq(sharp.shape[2])
    power, cross = (np.abs(s) ** 2).sum(0), (b * s.conj()).real.sum(0)

    def misfit(p: npt.NDArray[np.float64]) -> float:
        gain = np.exp(-(p[0] * fy**2 + p[1] * fx**2 + 2 * p[2] * fy * fx) / 2)
        return float((power * gain**2 - 2 * cross * gain).sum() / power.sum())

    first = np.array([guess[0, 0], guess[1, 1], guess[0, 1]])
    options = {"xatol": 1e-3, "fatol": 1e-10, "maxiter": 400}
    a, b_, c = minimize(misfit, first, method="Nelder-Mead", options=options).x
    return _inside(np.array([[a, c], [c, b_]]))


def _inside(covariance: Covariance) -> Covariance:
    power, axes = np.linalg.eigh(covariance)
    inside: Covariance = (axes * power.clip(SIGMA_LIMITS[0] ** 2, SIGMA_LIMITS[1] ** 2)) @ axes.T
    return inside


def _crops(plan: Plan, measured: Measured) -> npt.NDArray[np.float32]:
    """Parts of sections, those with the most contrast from all over the volume."""
    height, width = (min(n, CROP_SIZE) for n in measured.shape[1:])
    if min(height, width) < SMALLEST_SIZE:
        raise EmgenError(
            f"psf: blind needs sections of at least {SMALLEST_SIZE} x {SMALLEST_SIZE} pixels, {measured.path} has shape {measured.shape}; "
            "give the point spread function"
        )
    sections = []
    for box in sample_boxes(measured.shape):
        seen = plan.see(measured, box)
        shown = [
            k
            for k in range(len(seen.voxels))
            if box.start[0] + k not in plan.missing
            and _share(seen, k, height, width) > MIN_MEASURED
        ]
        sections += [seen.voxels[k, :height, :width] for k in shown[:: max(1, len(shown) // CROPS)]]
    if not sections:
        raise EmgenError(
            f"psf: blind found no part of a section of {measured.path} that shows tissue all over; give the point spread "
            "function"
        )
    sections.sort(key=lambda section: float(-section.astype(np.float64).std()))
    return np.stack(sections[:CROPS]).astype(np.float32)


def _share(seen: Seen, k: int, height: int, width: int) -> float:
    """Share of the pixels of a crop of section k that were measured."""
    if seen.states is None:
        return 1.0
    return float((seen.states[k, :height, :width] == MEASURED).mean())
