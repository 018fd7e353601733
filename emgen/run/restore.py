"""One block, start to end: read what the operator needs, to [-1, 1], sample, back to grey values, write.

On a CPU every plane is computed by one thread and planes are shared out to workers, so a voxel never
depends on how many cores there are. On a GPU the network runs in bfloat16 on as many planes as fit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from emgen.errors import EmgenError
from emgen.geometry import Box
from emgen.networks.batches import Batches, Memory
from emgen.networks.card import Card
from emgen.networks.checkpoint import load, load_estimator
from emgen.networks.estimator import Estimator, context_stack, response_norm, tikhonov_start
from emgen.networks.prior import Prior
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
from emgen.run.plan import Plan
from emgen.sampling import philox as noise
from emgen.sampling import samplers as sampler
from emgen.sampling.tiles import Plane, in_threads, planes, tiles_per_call
from emgen.volumes.intensity import store
from emgen.volumes.measured import Measured

SMALLEST_NOISE = 0.01  # of the prior's half range: operators without a closed-form prox need some
ALONE = 0.5  # share of the estimator in a single section whose pixels share noise
BATCH = 8  # planes of a call on a CPU
ALL = 1 << 20  # more than there are: on a GPU `emgen.networks.batches` divides them

Fields = dict[str, npt.NDArray[Any]]


def operator(plan: Plan, box: Box) -> Operator:
    """How the measured voxels came about, for a box of the output."""
    restore, factor = plan.config.restore, max(plan.scale)
    place: dict[str, Any] = {"shape": plan.shape, "box": box}
    physics: Operator
    match restore.mode, restore.section:
        case "denoise", _:
            physics = Identity(**place)
        case "deblur", _:
            physics = Blur(kernel=plan.psf, **place)
        case "superres", _:
            physics = Downsample(factor=factor, **place)
        case _, "slice":
            physics = Slice(factor=factor, **place)
        case _, "mean":
            physics = Mean(factor=factor, **place)
        case _:
            physics = Gaussian(factor=factor, fwhm=float(factor), **place)
    return physics


def known(plan: Plan, physics: Operator, device: str = "cpu") -> Operator:
    """The same where sections are lost. Sections that are restored one by one keep what their neighbours say of them."""
    first, last = physics.footprint.start[0], physics.footprint.stop[0]
    there = torch.tensor([k not in plan.lost for k in range(first, last)], dtype=torch.bool)
    if there.all() or plan.config.restore.mode != "isotropic":
        return physics
    return Masked(physics, there[:, None, None].to(device))


@dataclass(frozen=True)
class Restorer:
    """Restores any box of a plan's output with one prior on one device.

    Attributes:
        plan: of the run.
        device: "cpu" or a CUDA device.
        workers: threads that share the planes of a block on a CPU.
    """

    plan: Plan
    device: str = "cpu"
    workers: int = 1

    @cached_property
    def prior(self) -> tuple[Prior, Card]:
        """The network and its card, the same as when the run was planned."""
        prior, card = load(self.plan.prior["weights"])
        _same(card, self.plan.prior)
        return prior.to(self.device).requires_grad_(False), card

    @cached_property
    def estimator(self) -> Estimator | None:
        """The learned estimate that sampling begins from, if the plan has one."""
        if self.plan.estimator is None:
            return None
        estimator, card = load_estimator(self.plan.estimator["weights"])
        _same(card, self.plan.estimator)
        return estimator.to(self.device).requires_grad_(False)

    def load(self) -> None:
        """Read the networks now, and not when the first block needs them."""
        _ = self.prior, self.estimator

    @cached_property
    def batches(self) -> Callable[[Callable[[Tensor], Tensor], Tensor], Tensor]:
        """Calls of a network on planes: in batches that fit a GPU's memory, as they come on a CPU."""
        if torch.device(self.device).type != "cuda":
            return lambda network, x: network(x)
        if self.plan.config.restore.precision == "float32":
            torch.backends.cudnn.allow_tf32 = False  # which keeps ten bits of a number
        return Batches(Memory(self.device))

    def network(self, x: Tensor, t: float) -> Tensor:
        """The prior's velocity on a stack of planes (n, 1, height, width)."""
        with self._precision():
            return self.batches(lambda part: self.prior[0].velocity(part, t), x).float()

    def _precision(self) -> torch.autocast:
        wanted = self.plan.config.restore.precision
        kind, on_cpu = torch.device(self.device).type, self.device == "cpu"
        short = wanted == "bfloat16" or (wanted == "auto" and not on_cpu)
        return torch.autocast(kind, torch.bfloat16, enabled=short)

    @torch.no_grad()
    def __call__(self, box: Box, measured: npt.NDArray[Any]) -> Fields:
        """Restore the output voxels of `box`.

        Args:
            box: of the output, usually `plan.computed` of a block's outer box.
            measured: stored voxels of `plan.read_box(box)`.

        Returns:
            "mean" in the output's type and, if the plan asks for several samples, "std" in grey values
            (float32), both of shape `box.shape`.

        Raises:
            EmgenError: voxels are not finite numbers.
        """
        plan, needed = self.plan, self.plan.read_box(box)
        measured = plan.fill_missing(measured, needed)
        if not np.isfinite(measured).all():
            raise EmgenError(
                f"measured voxels {needed.start} to {needed.stop} hold NaN or infinite values; mend the input"
            )
        seen = plan.context_box(box)
        inside = box.relative_to(seen).slices
        start = linear(measured.astype(np.float32), needed, seen, plan.scale, plan.centre)
        if self.empty(box, measured):
            return self._fields(start[inside], np.zeros(box.shape, np.float32))
        y, beside = (self._measured(each, measured, needed) for each in (box, seen))
        sigma = self._noise(y)
        base = self._base(box, torch.from_numpy(plan.intensity.encode(start)), y, beside, sigma)
        physics = known(plan, operator(plan, box), self.device)
        samples = torch.stack(
            [
                self._sample(k, y, physics, base, box, sigma)
                for k in range(plan.config.restore.samples)
            ]
        )
        # one call is nearer to the mean than that of few samples
        single = plan.config.restore.returns_estimate
        mean = (base if single else samples.mean(0)).cpu().numpy()
        std = (
            samples.std(0, correction=1).cpu().numpy()
            if len(samples) > 1
            else np.zeros(box.shape, np.float32)
        )
        return self._fields(
            (mean.astype(np.float64) + 1) * plan.intensity.unit + plan.intensity.low,
            std * plan.intensity.unit,
        )

    def fetch(self, outer: Box, measured: Measured) -> npt.NDArray[Any]:
        """The measured voxels that the outer box of a block is restored from."""
        needed = self.plan.read_box(self.plan.aligned(outer))
        return self.plan.fill_missing(measured.read(needed), needed)

    def empty(self, box: Box, measured: npt.NDArray[Any]) -> bool:
        """Whether a box shows background, resin or missing data: all that was measured there has the same grey value.

        `measured` as for a call; what lies beside the box does not count.
        """
        own = self.plan.interpolation_support(box).relative_to(self.plan.read_box(box))
        return is_empty(measured[own.slices])

    def block(self, outer: Box, voxels: npt.NDArray[Any]) -> Fields:
        """Restore the outer box of a block from what was fetched for it."""
        grown = self.plan.aligned(outer)
        inside = outer.relative_to(grown).slices
        return {name: v[inside] for name, v in self(grown, voxels).items()}

    def _measured(self, box: Box, measured: npt.NDArray[Any], needed: Box) -> Tensor:
        """The measured voxels that a box determines wholly, of [-1, 1]."""
        foot = operator(self.plan, box).footprint.relative_to(needed)
        return torch.from_numpy(self.plan.intensity.encode(measured[foot.slices])).to(self.device)

    def _base(
        self, box: Box, linear: Tensor, y: Tensor, beside: Tensor, noise: float | Tensor
    ) -> Tensor:
        """What sampling begins from, on the box.

        y was measured of the box, with that noise; linear interpolation and what was measured beside it are those of `plan.context_box(box)`.
        """
        restore, linear = self.plan.config.restore, linear.to(self.device)
        if self.estimator is None and not restore.returns_estimate:
            return linear
        if restore.mode == "isotropic":
            return self._between(linear, self._cover(box))
        if restore.mode == "denoise":
            return sampler.interpolate_over_sigma(
                noise, lambda s: self._denoised(box, linear, y, beside, s)
            )
        least = SMALLEST_NOISE if restore.mode == "deblur" else 0.0
        sigma = self.plan.correlation_ratio * self.plan.noise / self.plan.intensity.unit
        return self._within(box, linear, beside, max(sigma, least))

    def _denoised(
        self, box: Box, linear: Tensor, y: Tensor, beside: Tensor, sigma: float
    ) -> Tensor:
        """By the estimator, as `_base` has it, where sections have neighbours; a single one is the prior's, which does it better.

        Noise fainter than the estimator learnt goes over to the prior, which knows all. Of noise that neighbouring pixels
        share the prior knows nothing: a single section is then the mean of both, the prior told the level of white noise that
        takes as much from tissue, the estimator the noise's own deviation, as it learnt.
        """
        share, own = 0.0, self.plan.correlation_ratio * sigma
        if self.plan.estimator is not None:
            faintest = self.plan.estimator["faintest_noise"]
            correlated = self.plan.config.restore.noise == "correlated"
            trust = 1.0 if self.plan.measured_shape[0] > 1 else ALONE if correlated else 0.0
            share = trust * min(1.0, own / faintest)
        estimate = torch.zeros_like(y)
        if share > 0:
            estimate += share * self._within(box, linear, beside, own)
        if share < 1:
            estimate += (1 - share) * sampler.posterior_mean_one_call(
                y, sigma, self._velocities("xy")
            )
        return estimate

    def _sample(
        self,
        sample: int,
        y: Tensor,
        physics: Operator,
        base: Tensor,
        box: Box,
        sigma: float | Tensor,
    ) -> Tensor:
        restore = self.plan.config.restore
        isotropic = restore.mode == "isotropic"

        def eps(step: int) -> Tensor:
            return noise.normal(restore.seed, sample, step, box, self.device)

        if restore.sampler != "flower":
            loop = sampler.dps if restore.sampler == "dps" else sampler.em_generalist
            guidance = {"scale" if restore.sampler == "dps" else "alpha": restore.alpha}
            along = self._velocities("xy", "xz", "yz") if isotropic else self._velocities("xy")
            with_data = (False, True, True) if isotropic else (True,)
            if isinstance(physics, Masked):
                y = y * physics.known
            return loop(
                y,
                physics,
                along,
                eps,
                steps=restore.steps_or_default,
                with_data=with_data,
                **guidance,
            )
        if restore.returns_estimate and restore.samples == 1:
            return base
        along = self._velocities("xz", "yz") if isotropic else self._velocities("xy")
        if restore.mode == "deblur" or restore.section == "gaussian":
            least = SMALLEST_NOISE
            sigma = sigma.clamp(min=least) if isinstance(sigma, Tensor) else max(sigma, least)
        return sampler.flower(
            y,
            physics,
            along,
            eps,
            start=base,
            sigma=sigma,
            t0=restore.start_time,
            steps=restore.steps_or_default,
        )

    def _cover(self, box: Box) -> Tensor:
        """A^T 1 on the box, of sections that it cuts off too: how much of every voxel was measured."""
        # the widest section, a Gaussian, is made of fewer than three times as many as its thickness
        grown = box.grow((3 * self.plan.scale[0], 0, 0)).clip(self.plan.shape)
        physics = known(self.plan, operator(self.plan, grown), self.device)
        cover = physics.adjoint(torch.ones(physics.footprint.shape, device=self.device))
        return cover[box.relative_to(grown).slices]

    def _between(self, linear: Tensor, cover: Tensor) -> Tensor:
        """Sections between measured ones: the mean of what the estimator makes of xz and of yz planes."""
        sigma = self.plan.noise / self.plan.intensity.unit
        return (
            self._estimated(linear, cover, sigma)
            + self._estimated(linear.transpose(1, 2), cover.transpose(1, 2), sigma).transpose(1, 2)
        ).contiguous() / 2

    def _within(self, box: Box, linear: Tensor, y: Tensor, sigma: float) -> Tensor:
        """Sections as the estimator knows them from what was measured of them and of those beside them, with noise sigma.

        Linear interpolation and measured voxels y are those of `plan.context_box(box)`.
        """
        seen = self.plan.context_box(box)
        A, wanted = operator(self.plan, seen), box.relative_to(seen).slices[0]
        cover = torch.full_like(linear, response_norm(A))
        cover[[k in self.plan.lost for k in range(seen.start[0], seen.stop[0])]] = 0
        start = tikhonov_start(linear, y, A, sigma)
        turned = self._estimated(start.transpose(0, 1), cover.transpose(0, 1), sigma, wanted)
        return turned.transpose(0, 1).contiguous()

    def _estimated(
        self, start: Tensor, cover: Tensor, sigma: float, wanted: slice = slice(None)
    ) -> Tensor:
        """The estimator on the wanted ones of all planes (rows, planes, columns), see `context_stack`."""
        estimator, (batch, workers) = self.estimator, self._sharing()
        assert estimator is not None

        def planes(inputs: Tensor) -> Tensor:
            with self._precision():
                return self.batches(lambda part: estimator.plane(part, sigma), inputs).float()

        inputs = context_stack(start, cover, estimator.context, wanted)
        parts = inputs.split(tiles_per_call(batch, *inputs.shape[2:]))
        return torch.cat(list(in_threads(planes, parts, workers)))[:, 0].transpose(0, 1)

    def _sharing(self) -> tuple[int, int]:
        """Planes of a call, and threads that make calls."""
        cuda = torch.device(self.device).type == "cuda"
        return (ALL, 1) if cuda else (BATCH, self.workers)

    def _noise(self, y: Tensor) -> float | Tensor:
        """Standard deviation of y's noise: one number, or that of the grey value below the noise at each voxel."""
        detector, unit = self.plan.detector, self.plan.intensity.unit
        sigma = detector.sigma / unit
        if detector.gain == 0:
            return sigma
        clean = sampler.posterior_mean_one_call(y, sigma, self._velocities("xy")).cpu().numpy()
        grey = (clean.astype(np.float64) + 1) * unit + self.plan.intensity.low
        return torch.from_numpy(detector.at(grey) / np.float32(unit)).to(y)

    def _velocities(self, *orientations: Plane) -> list[sampler.Velocity]:
        batch, workers = self._sharing()
        return [
            planes(self.network, each, tile=self.prior[1].tile, batch=batch, workers=workers)
            for each in orientations
        ]

    def _fields(self, grey: npt.NDArray[Any], std: npt.NDArray[Any]) -> Fields:
        # the mean comes last: a block is done when it is there
        spread: Fields = {"std": std} if self.plan.config.restore.samples > 1 else {}
        return {**spread, "mean": store(grey, self.plan.dtype)}


def _same(card: Card, planned: dict[str, Any]) -> None:
    """`EmgenError` unless weights are what they were when the run was planned."""
    if card.sha256 != planned["sha256"]:
        raise EmgenError(
            f"the file of {card.name} has changed since the run was planned: expected sha256 "
            f"{planned['sha256'][:12]}…, found {card.sha256[:12]}…. Restore the file, or use another `run` name"
        )


def is_empty(measured: npt.NDArray[Any]) -> bool:
    """Background, resin or missing data: every voxel has the same grey value."""
    return bool((measured == measured.flat[0]).all())
