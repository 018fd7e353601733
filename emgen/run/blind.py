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
from emgen.run.plan import Plan
from emgen.sampling import philox
from emgen.sampling.flow import x1_prediction
from emgen.sampling.flower import flower
from emgen.sampling.problem import Problem, Velocity
from emgen.volumes.measured import Measured
from emgen.volumes.samples import read_samples, sample_boxes

ROUNDS, RELAXATION = (
    8,
    1.5,
)  # of the fit, and how far each goes beyond what it finds: the way is slow
ELLIPTIC = 1  # rounds at the end that tell the axes apart; many would drift into a line
PULL = 0.5  # time to which restored sections are taken back and from which the prior denoises them
START, STEPS, SMALLEST_NOISE = 0.5, 6, 0.02
NARROWEST, WIDEST = 0.2, 10.0  # standard deviations in pixels
CROPS, SIZE, SMALLEST = 6, 128, 48

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


def measure(plan: Plan, measured: Measured, device: str = "cpu") -> Ellipse:
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
        return fit(y, velocity, sigma, plan.config.restore.seed)


@torch.no_grad()
def fit(y: Tensor, velocity: Velocity, sigma: float, seed: int = 0) -> Ellipse:
    """The function that blurred sections y (n, height, width) of [-1, 1], measured with noise sigma."""
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
            start_time=START,
        )
        x = PULL * flower(problem) + (1 - PULL) * eps(STEPS)
        x = x1_prediction(x, velocity(x, PULL), PULL)
        fitted = between(x.cpu().numpy(), blurred, covariance)
        if step < ROUNDS - ELLIPTIC:
            mean = np.trace(covariance) / 2
            covariance = np.eye(2) * max(
                mean + RELAXATION * (np.trace(fitted) / 2 - mean), NARROWEST**2
            )
        else:
            covariance = fitted
    return Ellipse.of(covariance)


def between(
    sharp: npt.NDArray[np.floating], blurred: npt.NDArray[np.floating], guess: Covariance
) -> Covariance:
    """The Gaussian that blurs sharp sections (n, height, width) into blurred ones, by least squares of their spectra.

    `guess` is where the search begins.
    """
    window = np.hanning(sharp.shape[1])[:, None] * np.hanning(sharp.shape[2])
    s, b = (np.fft.rfft2(each * window) for each in (sharp, blurred))
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
    found: Covariance = (axes * power.clip(NARROWEST**2, WIDEST**2)) @ axes.T
    return found


def _crops(plan: Plan, measured: Measured) -> npt.NDArray[np.float32]:
    """Parts of sections, those with the most contrast from all over the volume."""
    height, width = (min(n, SIZE) for n in measured.shape[1:])
    if min(height, width) < SMALLEST:
        raise EmgenError(
            f"psf: blind needs sections of at least {SMALLEST} x {SMALLEST} pixels, {measured.path} has shape {measured.shape}; "
            "give the point spread function"
        )
    sections = []
    for sample, box in zip(read_samples(measured), sample_boxes(measured.shape), strict=True):
        sections_with_image = [
            k for k in range(len(sample)) if box.start[0] + k not in plan.missing
        ]
        sections += [
            sample[k, :height, :width]
            for k in sections_with_image[:: max(1, len(sections_with_image) // CROPS)]
        ]
    sections.sort(key=lambda section: float(-section.astype(np.float64).std()))
    return np.stack(sections[:CROPS]).astype(np.float32)
