"""One block, start to end: read what the operator needs, to [-1, 1], sample, back to grey values."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from emgen.errors import EmgenError
from emgen.geometry import Box
from emgen.modes.observation import Coverage, Observation
from emgen.networks.runner import Networks
from emgen.physics.resin import is_only_noise
from emgen.physics.tissue import MEASURED, Seen
from emgen.run import tensors
from emgen.run.plan import Plan
from emgen.sampling import philox
from emgen.sampling.posterior_mean import posterior_mean_one_call
from emgen.sampling.problem import Problem
from emgen.volumes.measured import Measured

Fields = dict[str, npt.NDArray[Any]]
"""Of a block: "mean" in the output's type, and "std" in grey values (float32) where there are several samples."""


@dataclass(frozen=True)
class Restorer:
    """Restores any box of a plan's output on one device.

    Attributes:
        plan: of the run.
        device: "cpu" or a CUDA device.
        workers: threads that share the planes of a block on a CPU.
        compiled: whether the networks are compiled, see `emgen.networks.runner`.
    """

    plan: Plan
    device: str = "cpu"
    workers: int = 1
    compiled: bool = False

    @cached_property
    def networks(self) -> Networks:
        """The networks of the plan."""
        plan = self.plan
        precision = plan.config.restore.precision
        return Networks(
            plan.prior, plan.estimator, self.device, self.workers, precision, self.compiled
        )

    def fetch(self, outer: Box, measured: Measured) -> Seen:
        """The measured voxels that the outer box of a block is restored from, made up where nothing was measured."""
        return self.plan.see(measured, self.plan.read_box(self.plan.aligned(outer)))

    def block(self, outer: Box, measured: Seen | npt.NDArray[Any]) -> Fields:
        """Restore the outer box of a block from what was fetched for it."""
        aligned = self.plan.aligned(outer)
        inside, seen = outer.relative_to(aligned).slices, self._seen(aligned, measured)
        fields = self._restored(aligned, seen, self.is_empty(aligned, seen))
        return {name: v[inside] for name, v in fields.items()}

    def is_empty(self, box: Box, measured: Seen) -> bool:
        """Whether a block's box passes through no network: it is blank or, where the settings say so, only noise.

        `measured` as for a call; context sections do not count.
        """
        part = self._support(box, measured)
        if is_blank(part) or self.plan.config.input.resin == "restore":
            return is_blank(part)
        return is_only_noise(part.voxels, None if part.states is None else part.states == MEASURED)

    def _support(self, box: Box, measured: Seen) -> Seen:
        support = self.plan.interpolation_support(box).relative_to(self.plan.read_box(box))
        return measured.within(support)

    def _seen(self, box: Box, measured: Seen | npt.NDArray[Any]) -> Seen:
        if isinstance(measured, Seen):
            return measured
        read_box = self.plan.read_box(box)
        return self.plan.seen(measured, None, read_box, read_box)

    def __call__(self, box: Box, measured: Seen | npt.NDArray[Any]) -> Fields:
        """Restore the output voxels of `box`, unless it is blank. A trial's box is restored even if it shows only noise.

        Args:
            box: of the output.
            measured: voxels of `plan.read_box(box)`, as seen or as stored.

        Returns:
            Fields of shape `box.shape`.
        """
        seen = self._seen(box, measured)
        return self._restored(box, seen, is_blank(self._support(box, seen)))

    @torch.no_grad()
    def _restored(self, box: Box, measured: Seen, empty: bool) -> Fields:
        plan, read_box = self.plan, self.plan.read_box(box)
        voxels, context = tensors.upload(measured.voxels, self.device), plan.context_box(box)
        grey = tensors.linear(voxels, read_box, context, plan.scale, plan.centre)
        if empty:
            inside = grey[box.relative_to(context).slices]
            return self._fields(box, inside, torch.zeros_like(inside))
        observation = self._observe(box, grey, voxels, self._known(measured))
        estimate = plan.mode.estimate(observation, self.networks)
        mean, std = self._posterior(observation, estimate)
        return self._fields(box, tensors.decode(mean, plan.intensity), std * plan.intensity.unit)

    def _known(self, measured: Seen) -> Tensor | None:
        if measured.states is None:
            return None
        return torch.from_numpy(measured.states == MEASURED).to(self.device)

    def _observe(self, box: Box, grey: Tensor, voxels: Tensor, known: Tensor | None) -> Observation:
        """What was measured of a box, in half ranges.

        Args:
            box: of the output.
            grey: linear interpolation on its context box, in grey values.
            voxels: those of its read box, made up where nothing was measured.
            known: which of them were measured, None where all were.
        """
        plan, context = self.plan, self.plan.context_box(box)
        y, y_context = (self._measured(part, box, voxels) for part in (box, context))
        return Observation(
            box=box,
            context=context,
            linear=tensors.encode(grey, plan.intensity),
            y=y,
            y_context=y_context,
            sigma=self._sigma(y),
            noise=plan.noise_model,
            unit=plan.intensity.unit,
            coverage=None if known is None else Coverage(known, plan.read_box(box), plan.missing),
            device=self.device,
        )

    def _measured(self, part: Box, box: Box, voxels: Tensor) -> Tensor:
        """The measured voxels that a part of the context box determines wholly, in half ranges."""
        plan = self.plan
        footprint = plan.mode.acquisition.footprint(part, plan.shape)
        inside = voxels[footprint.relative_to(plan.read_box(box)).slices]
        return tensors.encode(inside, plan.intensity)

    def _sigma(self, y: Tensor) -> float | Tensor:
        """Deviation of y's noise in half ranges: one number, or that of the clean grey value at each voxel."""
        noise, intensity = self.plan.noise_model, self.plan.intensity
        sigma = noise.sigma / intensity.unit
        if noise.gain == 0:
            return sigma
        clean = posterior_mean_one_call(y, sigma, self.networks.velocities(("xy",)))
        grey = intensity.decode(clean.cpu().numpy())
        return torch.from_numpy(noise.at(grey) / np.float32(intensity.unit)).to(y)

    def _posterior(self, observation: Observation, estimate: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the posterior on the box, in half ranges; 0 of one sample."""
        mode, samples = self.plan.mode, self.plan.config.restore.samples
        if mode.returns_estimate and samples == 1:
            return estimate, torch.zeros_like(estimate)
        draws = torch.stack([self._sample(k, observation, estimate) for k in range(samples)])
        # an estimate is nearer to the mean than the mean of few samples
        mean = estimate if mode.returns_estimate else draws.mean(0)
        std = draws.std(0, correction=1) if samples > 1 else torch.zeros_like(mean)
        return mean, std

    def _sample(self, number: int, observation: Observation, estimate: Tensor) -> Tensor:
        mode, restore = self.plan.mode, self.plan.config.restore
        box, sigma, floor = observation.box, observation.sigma, mode.noise_floor

        def noise(step: int) -> Tensor:
            return philox.normal(restore.seed, number, step, box, self.device)

        problem = Problem(
            y=observation.y,
            A=mode.operator_covering(box, observation.coverage),
            sigma=sigma.clamp(min=floor) if isinstance(sigma, Tensor) else max(sigma, floor),
            velocities=self.networks.velocities(mode.planes),
            unbound=self.networks.velocities(mode.unbound_planes),
            noise=noise,
            steps=mode.steps,
            start=estimate,
            start_time=mode.start_time,
            guidance=restore.alpha,
        )
        return mode.sampler.solve(problem)

    def _fields(self, box: Box, grey: Tensor, std: Tensor) -> Fields:
        # before the cast, which makes a zero of NaN where voxels are integers
        sound = torch.isfinite(grey) & torch.isfinite(std)
        if not sound.all():
            raise EmgenError(
                f"{int((~sound).sum())} of {box.size} restored voxels from {box.start} to {box.stop} are NaN or infinite, "
                f"with the weights {self.plan.prior['weights']}; another prior or sampler, precision: float32, or mending "
                "the input there may help"
            )
        # the mean comes last: a block is done when it is there
        spread: Fields = {"std": std.cpu().numpy()} if self.plan.several_samples else {}
        return {**spread, "mean": tensors.download(grey, self.plan.dtype)}


def is_blank(seen: Seen) -> bool:
    """Whether nothing is to be restored in what was seen: it shows no tissue, or all has one grey value."""
    return not seen.shows_tissue or is_constant(seen.voxels)


def is_constant(voxels: npt.NDArray[Any]) -> bool:
    """Whether all voxels have one grey value."""
    return bool((voxels == voxels.flat[0]).all())
