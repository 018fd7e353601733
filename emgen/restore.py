"""One block, start to end: read what the operator needs, to [-1, 1], sample, back to grey values, write.

On a CPU every plane is computed by one thread and planes are shared out to workers, so a voxel never
depends on how many cores there are. On a GPU the network runs in bfloat16 on all planes that fit.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from emgen import noise, sampler
from emgen.errors import EmgenError
from emgen.geometry import Box
from emgen.intensity import store
from emgen.interpolate import linear
from emgen.operators import Blur, Downsample, Gaussian, Identity, Mean, Operator, Slice
from emgen.plan import Plan
from emgen.prior.card import Card
from emgen.prior.checkpoint import load
from emgen.prior.network import Prior
from emgen.tiles import Plane, planes
from emgen.volume import BlockStore, Volume

SMALLEST_NOISE = 0.01  # of the prior's half range: operators without a closed-form prox need some
GPU_BATCH, CPU_BATCH = 64, 8

Fields = dict[str, npt.NDArray[Any]]


def operator(plan: Plan, box: Box) -> Operator:
    """How the measured voxels came about, for a box of the output."""
    restore, factor = plan.config.restore, max(plan.scale)
    place: dict[str, Any] = {"shape": plan.shape, "box": box}
    match restore.mode, restore.section:
        case "denoise", _:
            return Identity(**place)
        case "deblur", _:
            return Blur(sigma=restore.psf.sigma, **place)
        case "superres", _:
            return Downsample(factor=factor, **place)
        case _, "slice":
            return Slice(factor=factor, **place)
        case _, "mean":
            return Mean(factor=factor, **place)
        case _:
            return Gaussian(factor=factor, fwhm=float(factor), **place)


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
        if card.sha256 != self.plan.prior["sha256"]:
            raise EmgenError(
                f"the prior {card.name} has changed since the run was planned: expected sha256 "
                f"{self.plan.prior['sha256'][:12]}…, found {card.sha256[:12]}…. Restore the file, or use another `run` name"
            )
        return prior.to(self.device).requires_grad_(False), card

    def network(self, x: Tensor, t: float) -> Tensor:
        """The prior's velocity on a stack of planes (n, 1, height, width)."""
        with torch.autocast("cuda", torch.bfloat16, enabled=self.device != "cpu"):
            return halved(self.prior[0].velocity, x, t).float()

    @torch.no_grad()
    def __call__(self, box: Box, measured: npt.NDArray[Any]) -> Fields:
        """Restore the output voxels of `box`.

        Args:
            box: of the output, usually `plan.computed` of a block's outer box.
            measured: stored voxels of `plan.support(box)`.

        Returns:
            "mean" in the output's type and, if the plan asks for several samples, "std" in grey values
            (float32), both of shape `box.shape`.

        Raises:
            EmgenError: voxels are not finite numbers.
        """
        plan, support = self.plan, self.plan.support(box)
        if not np.isfinite(measured).all():
            raise EmgenError(
                f"measured voxels {support.start} to {support.stop} hold NaN or infinite values; mend the input"
            )
        start = linear(measured.astype(np.float32), support, box, plan.scale, plan.centre)
        if is_empty(measured):
            return self._fields(start, np.zeros(box.shape, np.float32))
        physics = operator(plan, box)
        seen = plan.intensity.encode(measured[physics.footprint.relative_to(support).slices])
        y, base = (
            torch.from_numpy(a).to(self.device) for a in (seen, plan.intensity.encode(start))
        )
        samples = torch.stack(
            [self._sample(k, y, physics, base, box) for k in range(plan.config.restore.samples)]
        )
        mean = samples.mean(0).cpu().numpy()
        std = (
            samples.std(0, correction=1).cpu().numpy()
            if len(samples) > 1
            else np.zeros(box.shape, np.float32)
        )
        return self._fields(
            (mean.astype(np.float64) + 1) * plan.intensity.unit + plan.intensity.low,
            std * plan.intensity.unit,
        )

    def _sample(self, sample: int, y: Tensor, physics: Operator, base: Tensor, box: Box) -> Tensor:
        restore = self.plan.config.restore
        sigma = self.plan.noise / self.plan.intensity.unit
        isotropic = restore.mode == "isotropic"

        def eps(step: int) -> Tensor:
            return noise.normal(restore.seed, sample, step, box, self.device)

        if restore.sampler != "flower":
            loop = sampler.dps if restore.sampler == "dps" else sampler.em_generalist
            strength = {"scale" if restore.sampler == "dps" else "alpha": restore.alpha}
            along = self._velocities("xy", "xz", "yz") if isotropic else self._velocities("xy")
            with_data = (False, True, True) if isotropic else (True,)
            return loop(
                y, physics, along, eps, steps=restore.calls, with_data=with_data, **strength
            )
        along = self._velocities("xz", "yz") if isotropic else self._velocities("xy")
        if restore.mode == "denoise":
            return sampler.one_shot(y, sigma, along)
        if isinstance(physics, Blur | Gaussian):
            sigma = max(sigma, SMALLEST_NOISE)
        return sampler.flower(
            y, physics, along, eps, start=base, sigma=sigma, t0=restore.start, steps=restore.calls
        )

    def _velocities(self, *orientations: Plane) -> list[sampler.Velocity]:
        on_cpu = self.device == "cpu"
        batch, workers = (CPU_BATCH, self.workers) if on_cpu else (GPU_BATCH, 1)
        return [
            planes(self.network, each, tile=self.prior[1].tile, batch=batch, workers=workers)
            for each in orientations
        ]

    def _fields(self, grey: npt.NDArray[Any], std: npt.NDArray[Any]) -> Fields:
        # the mean comes last: a block is done when it is there
        spread: Fields = {"std": std} if self.plan.config.restore.samples > 1 else {}
        return {**spread, "mean": store(grey, self.plan.dtype)}


def is_empty(measured: npt.NDArray[Any]) -> bool:
    """Background, resin or missing data: every voxel has the same grey value."""
    return bool((measured == measured.flat[0]).all())


def halved(velocity: Callable[[Tensor, float], Tensor], x: Tensor, t: float) -> Tensor:
    """`velocity(x, t)`, in halves where the device's memory does not hold the whole batch."""
    try:
        return velocity(x, t)
    except torch.OutOfMemoryError:
        if len(x) == 1:
            raise EmgenError(
                f"one plane of {tuple(x.shape[-2:])} voxels does not fit the device's memory; choose a smaller grid.block"
            ) from None
    torch.cuda.empty_cache()
    half = len(x) // 2
    return torch.cat([halved(velocity, x[:half], t), halved(velocity, x[half:], t)])


@contextmanager
def claimed_device() -> Iterator[str]:
    """A CUDA device that no other emgen process on this machine uses, or "cpu" if there is none at all."""
    count = torch.cuda.device_count()
    for device in range(count):
        lock = (
            Path(tempfile.gettempdir())
            / f"emgen-{os.getuid()}-gpu-{os.environ.get('CUDA_VISIBLE_DEVICES', '')}-{device}.lock"
        )
        with lock.open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            yield f"cuda:{device}"
            return
    # all are taken: share the first rather than fall back to a device hundreds of times slower
    yield "cuda:0" if count else "cpu"


def open_results(plan: Plan, number: int, path: Path) -> BlockStore:
    """The block store of a job, empty if it was made for other settings or other blocks."""
    blocks = plan.grid.job(number)
    fields: dict[str, Any] = {"std": np.float32} if plan.config.restore.samples > 1 else {}
    return BlockStore.open(
        path,
        plan.job_key(number),
        len(blocks),
        plan.grid.outer_shape(),
        {**fields, "mean": plan.dtype},
    )


def restore_job(
    plan: Plan, number: int, path: Path, device: str, workers: int, say: Callable[[str], None]
) -> dict[str, Any]:
    """Restore the blocks of a job that have no result yet.

    Args:
        plan: of the run.
        number: of the job.
        path: its block store.
        device: "cpu" or a CUDA device.
        workers: threads on a CPU.
        say: is told of every block.

    Returns:
        How many blocks were done before, now, and were empty.
    """
    torch.set_num_threads(1)  # of one plane: the order of every sum is fixed
    results, measured = open_results(plan, number, path), Volume.open(plan.config.input.volume)
    restorer = Restorer(plan, device, workers)
    facts = {"blocks": len(plan.grid.job(number)), "found": 0, "empty": 0, "voxels": 0}
    for place, index in enumerate(plan.grid.job(number)):
        if results.done(place):
            facts["found"] += 1
            say(f"block {index}: found from an earlier start")
            continue
        outer = plan.grid[index].outer
        grown = plan.computed(outer)
        voxels = measured.read(plan.support(grown))
        inside = outer.relative_to(grown).slices
        results.write(place, {name: v[inside] for name, v in restorer(grown, voxels).items()})
        empty = is_empty(voxels)
        facts["empty"] += empty
        facts["voxels"] += outer.size
        say(
            f"block {index} ({place + 1} of {facts['blocks']}): {'empty, passed through' if empty else 'restored'}"
        )
    return facts
