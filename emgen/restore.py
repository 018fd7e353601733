"""One block, start to end: read what the operator needs, to [-1, 1], sample, back to grey values, write.

On a CPU every plane is computed by one thread and planes are shared out to workers, so a voxel never
depends on how many cores there are. On a GPU the network runs in bfloat16 on all planes that fit.
"""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Semaphore
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from emgen import noise, sampler
from emgen.draft import Measured, abreast
from emgen.errors import EmgenError
from emgen.geometry import Box
from emgen.intensity import store
from emgen.interpolate import linear
from emgen.operators import Blur, Downsample, Gaussian, Identity, Masked, Mean, Operator, Slice
from emgen.plan import Plan
from emgen.prior.card import Card
from emgen.prior.checkpoint import load, load_interpolator
from emgen.prior.interpolator import Interpolator, stacked
from emgen.prior.network import Prior
from emgen.tiles import Plane, fitting, in_threads, planes
from emgen.volume import BlockStore, Volume

SMALLEST_NOISE = 0.01  # of the prior's half range: operators without a closed-form prox need some
GPU_BATCH, CPU_BATCH = 64, 8

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
    def interpolator(self) -> Interpolator | None:
        """The learned interpolation that sampling begins from, if the plan has one."""
        if self.plan.interpolator is None:
            return None
        interpolator, card = load_interpolator(self.plan.interpolator["weights"])
        _same(card, self.plan.interpolator)
        return interpolator.to(self.device).requires_grad_(False)

    def load(self) -> None:
        """Read the networks now, and not when the first block needs them."""
        _ = self.prior, self.interpolator

    def network(self, x: Tensor, t: float) -> Tensor:
        """The prior's velocity on a stack of planes (n, 1, height, width)."""
        with self._precision():
            return halved(self.prior[0].velocity, x, t).float()

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
            measured: stored voxels of `plan.support(box)`.

        Returns:
            "mean" in the output's type and, if the plan asks for several samples, "std" in grey values
            (float32), both of shape `box.shape`.

        Raises:
            EmgenError: voxels are not finite numbers.
        """
        plan, support = self.plan, self.plan.support(box)
        measured = plan.filled(measured, support)
        if not np.isfinite(measured).all():
            raise EmgenError(
                f"measured voxels {support.start} to {support.stop} hold NaN or infinite values; mend the input"
            )
        empty = is_empty(measured)
        start = linear(measured.astype(np.float32), support, box, plan.scale, plan.centre)
        if empty:
            return self._fields(start, np.zeros(box.shape, np.float32))
        physics = known(plan, operator(plan, box), self.device)
        seen = plan.intensity.encode(measured[physics.footprint.relative_to(support).slices])
        y, base = (
            torch.from_numpy(a).to(self.device) for a in (seen, plan.intensity.encode(start))
        )
        if self.interpolator is not None:
            base = self._learned(base, self._cover(box), self.interpolator)
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

    def fetch(self, outer: Box, measured: Measured) -> npt.NDArray[Any]:
        """The measured voxels that the outer box of a block is restored from."""
        support = self.plan.support(self.plan.computed(outer))
        return self.plan.filled(measured.read(support), support)

    def block(self, outer: Box, voxels: npt.NDArray[Any]) -> Fields:
        """Restore the outer box of a block from what was fetched for it."""
        grown = self.plan.computed(outer)
        inside = outer.relative_to(grown).slices
        return {name: v[inside] for name, v in self(grown, voxels).items()}

    def _sample(self, sample: int, y: Tensor, physics: Operator, base: Tensor, box: Box) -> Tensor:
        restore = self.plan.config.restore
        isotropic = restore.mode == "isotropic"

        def eps(step: int) -> Tensor:
            return noise.normal(restore.seed, sample, step, box, self.device)

        if restore.sampler != "flower":
            loop = sampler.dps if restore.sampler == "dps" else sampler.em_generalist
            strength = {"scale" if restore.sampler == "dps" else "alpha": restore.alpha}
            along = self._velocities("xy", "xz", "yz") if isotropic else self._velocities("xy")
            with_data = (False, True, True) if isotropic else (True,)
            if isinstance(physics, Masked):
                y = y * physics.known
            return loop(
                y, physics, along, eps, steps=restore.calls, with_data=with_data, **strength
            )
        along = self._velocities("xz", "yz") if isotropic else self._velocities("xy")
        sigma = self._noise(y)
        if restore.mode == "denoise":
            return sampler.one_shot(y, sigma, along)
        if restore.mode == "deblur" or restore.section == "gaussian":
            least = SMALLEST_NOISE
            sigma = sigma.clamp(min=least) if isinstance(sigma, Tensor) else max(sigma, least)
        return sampler.flower(
            y, physics, along, eps, start=base, sigma=sigma, t0=restore.begin, steps=restore.calls
        )

    def _cover(self, box: Box) -> Tensor:
        """A^T 1 on the box, of sections that it cuts off too: how much of every voxel was measured."""
        # the widest section, a Gaussian, is made of fewer than three times as many as its thickness
        grown = box.grow((3 * self.plan.scale[0], 0, 0)).clip(self.plan.shape)
        physics = known(self.plan, operator(self.plan, grown), self.device)
        cover = physics.adjoint(torch.ones(physics.footprint.shape, device=self.device))
        return cover[box.relative_to(grown).slices]

    def _learned(self, linear: Tensor, cover: Tensor, interpolator: Interpolator) -> Tensor:
        """What a learned interpolation makes of a linear one, the mean of what it sees in xz and in yz planes."""
        sigma = self.plan.noise / self.plan.intensity.unit
        batch, workers = self._sharing()

        def planes(inputs: Tensor) -> Tensor:
            with self._precision():
                return halved(interpolator.plane, inputs, sigma).float()

        found = []
        for turn in (lambda x: x, lambda x: x.transpose(1, 2)):
            inputs = stacked(turn(linear), turn(cover), interpolator.beside)
            count = fitting(batch, *inputs.shape[2:])
            parts = torch.cat(list(in_threads(planes, inputs.split(count), workers)))
            found.append(turn(parts[:, 0].transpose(0, 1)))
        mean: Tensor = (found[0] + found[1]) / 2
        return mean.contiguous()

    def _sharing(self) -> tuple[int, int]:
        """Planes of a call, and threads that make calls."""
        return (CPU_BATCH, self.workers) if self.device == "cpu" else (GPU_BATCH, 1)

    def _noise(self, y: Tensor) -> float | Tensor:
        """Standard deviation of y's noise: one number, or that of the grey value below the noise at each voxel."""
        detector, unit = self.plan.detector, self.plan.intensity.unit
        sigma = detector.sigma / unit
        if detector.gain == 0:
            return sigma
        clean = sampler.one_shot(y, sigma, self._velocities("xy")).cpu().numpy()
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
    todo = []
    for place, index in enumerate(plan.grid.job(number)):
        if results.done(place):
            facts["found"] += 1
            say(f"block {index}: found from an earlier start")
        else:
            todo.append((place, index, plan.grid[index].outer))
    if not todo:
        return facts
    restorer.load()
    lanes = abreast(plan.config, plan.grid, workers) if device == "cpu" else 1
    computing = Semaphore(lanes)

    def one(place: int, index: int, outer: Box) -> bool:
        voxels = restorer.fetch(outer, measured)
        with computing:
            fields = restorer.block(outer, voxels)
        results.write(place, fields)
        return is_empty(voxels)

    # two more than are computed: while a GPU works, the next block is read and the last one written
    with ThreadPoolExecutor(lanes + 2, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        done = pool.map(one, *zip(*todo, strict=True))
        for (place, index, outer), empty in zip(todo, done, strict=True):
            facts["empty"] += empty
            facts["voxels"] += outer.size
            how = "empty, passed through" if empty else "restored"
            say(f"block {index} ({place + 1} of {facts['blocks']}): {how}")
    return facts
