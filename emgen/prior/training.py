"""Training a prior: one loop, exact resume, weights chosen by how well they denoise.

The learning rate warms up, stays, and falls to zero over the last `decay` steps. A run can be stopped at
any time and goes on from its last checkpoint, bit for bit on a CPU; to finish one early, or to go on
from a finished one, start it again with another number of steps.

Under `accelerate launch` the processes share every batch: the patches, noises and times of a step are the
same however many there are.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from safetensors import SafetensorError
from torch import Tensor, nn

from emgen.errors import EmgenError
from emgen.prior import flow, patches, progress, validation
from emgen.prior.card import Card, resolve
from emgen.prior.checkpoint import load, save
from emgen.prior.recipe import Recipe, names
from emgen.prior.state import State

TOLD = 100  # steps between two lines of progress
VALIDATED = 48  # patches, of one and a half times the size, all held-out sources together

Batch = tuple[Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Run:
    """A recipe with everything that it needs opened.

    Attributes:
        recipe: what to do.
        folder: of checkpoints, log, pictures and weights.
        sources: to learn from.
        held_out: patches (n, 1, h, w) to validate on, by source.
        accelerator: this process among those that share the work.
        architecture: arguments of `Prior`.
    """

    recipe: Recipe
    folder: Path
    sources: list[patches.Source]
    held_out: dict[str, Tensor]
    accelerator: Accelerator
    architecture: dict[str, Any]

    @classmethod
    def open(cls, recipe: Recipe, folder: Path, initial: Card | None = None) -> Run:
        """Look at everything that may be wrong before the first step.

        Raises:
            EmgenError: sources that cannot be used, a batch that the processes cannot share, or a folder that
                cannot be written.
        """
        size, large = recipe.patches.largest, 3 * recipe.patches.size // 2
        needed = [*((s, size) for s in recipe.sources), *((v, large) for v in recipe.validation)]
        opened = patches.open_all(needed, Path(recipe.data))
        sources, held_out = opened[: len(recipe.sources)], opened[len(recipe.sources) :]
        count = -(-VALIDATED // len(held_out))
        fixed = {
            source.name: torch.from_numpy(patches.fixed(source, count, large))
            for source in held_out
        }
        accelerator = Accelerator()
        if recipe.optimiser.batch % accelerator.num_processes:
            raise EmgenError(
                f"optimiser.batch {recipe.optimiser.batch} cannot be shared by {accelerator.num_processes} processes; "
                "choose a whole multiple"
            )
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EmgenError(f"{folder} cannot be made: {error.strerror}") from None
        architecture = initial.architecture if initial else recipe.network
        device = accelerator.device
        fixed = {name: x.to(device) for name, x in fixed.items()}
        return cls(recipe, folder, sources, fixed, accelerator, architecture)

    @property
    def bf16(self) -> bool:
        wanted = self.recipe.precision
        return wanted == "bfloat16" or (wanted == "auto" and self.accelerator.device.type == "cuda")

    def say(self, text: str) -> None:
        if self.accelerator.is_main_process:
            print(text, flush=True)

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """This process's part of every batch, made ahead by threads."""
        threads = 1 if self.accelerator.device.type == "cpu" else min(8, os.cpu_count() or 1)
        waiting: deque[Future[Batch]] = deque()
        with ThreadPoolExecutor(threads) as executor:
            for step in range(first, last):
                while len(waiting) <= threads and step + len(waiting) < last:
                    waiting.append(executor.submit(self.batch, step + len(waiting)))
                yield waiting.popleft().result()

    def batch(self, step: int) -> Batch:
        """Patches x and noises eps (n, 1, h, w) and times t (n,): from the seed and the step alone."""
        recipe, whole = self.recipe, self.recipe.optimiser.batch
        mine = range(self.accelerator.process_index, whole, self.accelerator.num_processes)
        weights = [
            each.weight or float(np.prod(source.shape))
            for each, source in zip(recipe.sources, self.sources, strict=True)
        ]
        x = patches.batch(self.sources, weights, recipe.patches, recipe.seed, step, mine)
        eps = patches.noise(recipe.seed, step, mine, recipe.patches.size)
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        t = flow.times(whole, recipe.flow.late, generator)[list(mine)]
        pair = torch.from_numpy(x), torch.from_numpy(eps)
        if recipe.flow.coupling == "optimal-transport":
            return pair[0], flow.coupled(*pair), t
        return *pair, t


def train(recipe: Recipe, folder: Path, initial: str | None = None) -> Card:
    """Train, or go on training, until the recipe's number of steps; the best weights by validation are in `folder`.

    Args:
        recipe: what to do.
        folder: of checkpoints, log, pictures and weights.
        initial: prior to begin with, instead of random weights.

    Raises:
        EmgenError: a source cannot be used, the disk is full, or the checkpoint belongs to another run.
    """
    base = load(initial) if initial else None
    run = Run.open(recipe, folder, base[1] if base else None)
    device = run.accelerator.device
    state = State.new(recipe, run.architecture, device, base[0] if base else None)
    identity = {**recipe.identity, "initial": base[1].sha256 if base else None}
    weights = folder / f"{recipe.name}.safetensors"
    if State.exists(folder):
        state.load(folder, identity)
        run.say(f"going on from step {state.step} of {recipe.optimiser.steps}")
    progress.forget_after(folder, state.step if State.exists(folder) else -1)
    if not weights.exists():
        state.best = -np.inf
    if base and state.step == 0:
        validate(run, state, None)
    network = run.accelerator.prepare(state.prior)
    losses: deque[Tensor] = deque(maxlen=500)
    last, spent = recipe.optimiser.steps, progress.seconds(folder)
    begun = saved = told = time.monotonic()
    for batch in run.batches(state.step, last):
        losses.append(step(run, state, network, batch))
        now = time.monotonic()
        if state.step % TOLD == 0:
            pace = TOLD / (now - told)
            recent = torch.stack(list(losses)[-TOLD:]).mean()
            run.say(
                f"step {state.step} of {last}  loss {recent:.4f}  {pace:.2f} steps/s  "
                f"{(last - state.step) / pace / 60:.0f} min left"
            )
            told = now
        # the clock of the main process decides for all, so that they validate together
        due = now - saved > 60 * recipe.checkpoint_minutes or state.step == last
        if _agreed(run.accelerator, due):
            validate(run, state, float(torch.stack(list(losses)).mean()), spent + now - begun)
            if run.accelerator.is_main_process:
                with _writing(folder, state.step):
                    state.save(folder, identity)
            saved = told = time.monotonic()
    run.accelerator.wait_for_everyone()
    if run.accelerator.is_main_process:
        progress.draw_curves(folder)
        progress.draw_samples(folder, state.average, run.held_out)
    return resolve(str(weights))


def step(run: Run, state: State, network: nn.Module, batch: Batch) -> Tensor:
    """One step of the optimiser on this process's part of a batch; returns the loss."""
    settings = run.recipe.optimiser
    x, eps, t = (part.to(run.accelerator.device) for part in batch)
    state.set_rate(settings.rate_at(state.step))
    state.prior.train()
    with torch.autocast(run.accelerator.device.type, torch.bfloat16, enabled=run.bf16):
        loss = flow.loss(network, x, eps, t)
    state.prior.zero_grad(set_to_none=True)
    run.accelerator.backward(loss)
    nn.utils.clip_grad_norm_(state.prior.parameters(), settings.clip)
    state.update(settings.average)
    return loss.detach()


def validate(run: Run, state: State, loss: float | None, seconds: float = 0.0) -> None:
    """Validate the running average, note it, and export it if it is the best so far."""
    if not run.accelerator.is_main_process:
        return
    found = {name: validation.denoise_psnr(state.average, x) for name, x in run.held_out.items()}
    run.say(f"step {state.step}  validation denoise PSNR {validation.mean(found)}")
    with _writing(run.folder, state.step):
        progress.note(run.folder, state.step, seconds, loss, found)
        if run.recipe.keep:
            (run.folder / "averages").mkdir(exist_ok=True)
            export(
                run, state, found, run.folder / "averages" / f"step-{state.step:07d}.safetensors"
            )
        if (score := validation.score(found)) > state.best:
            state.best = score
            export(run, state, found, run.folder / f"{run.recipe.name}.safetensors")


def export(run: Run, state: State, found: dict[str, validation.Psnr], path: Path) -> Card:
    """Write the running average with its card."""
    recipe = run.recipe
    settings = recipe.model_dump(
        mode="json", include={"patches", "flow", "optimiser", "seed", "precision"}
    )
    facts = {
        "data": names(recipe.sources),
        "validation": names(recipe.validation),
        "credits": sorted({s.credits for s in (*recipe.sources, *recipe.validation) if s.credits}),
        "voxel_size_nm": {s.name: list(s.voxel) for s in run.sources},
        "scaling": "0.1 and 99.9 percentile of each volume to -1 and +1",
        "grey_values": {s.name: [s.intensity.low, s.intensity.high] for s in run.sources},
        "path": f"x_t = (1 - t) eps + t x, velocity x - eps, {recipe.flow.coupling} coupling",
        "steps": state.step,
        "training": settings,
        "validation_denoise_psnr_db": validation.mean(found),
        "validation_denoise_psnr_db_by_source": found,
        "note": recipe.note,
    }
    return save(state.average, path, recipe.name, run.architecture, facts)


@contextmanager
def _writing(folder: Path, step: int) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise EmgenError(
            f"what belongs to step {step} cannot be written to {folder} ({error}); the checkpoint before is still there: "
            "make room and start again"
        ) from None


def _agreed(accelerator: Accelerator, due: bool) -> bool:
    if accelerator.num_processes == 1:
        return due
    from accelerate.utils import broadcast

    return bool(broadcast(torch.tensor(float(due), device=accelerator.device)))
