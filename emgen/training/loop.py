"""Training a prior: one loop, exact resume, weights chosen by how well they denoise.

The learning rate warms up, stays, and falls to zero over the last `decay` steps. A run can be stopped at
any time and goes on from its last checkpoint, bit for bit on a CPU; to finish one early, or to go on
from a finished one, start it again with another number of steps.

Under `accelerate launch` the processes share every batch: the patches, noises and times of a step are the
same however many there are.
"""

from __future__ import annotations

import json
import os
import sys
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
from accelerate.utils import broadcast
from safetensors import SafetensorError
from torch import Tensor, nn

from emgen.errors import EmgenError
from emgen.training import flow
from emgen.training.tasks import axial as interpolation
from emgen.training import patches
from emgen.training import progress
from emgen.training.tasks import sections
from emgen.training import validation
from emgen.networks.card import Card, is_tied, resolve
from emgen.networks.checkpoint import load_network, save
from emgen.training.recipe import Recipe, names
from emgen.training.state import State

TOLD = 100  # steps between two lines of progress
VALIDATED = 48  # patches, of one and a half times the size, all held-out sources together

Batch = tuple[Tensor, ...]


@dataclass(frozen=True)
class Run:
    """A recipe with everything that it needs opened.

    Attributes:
        recipe: what to do.
        folder: of checkpoints, log, pictures and weights.
        sources: to learn from.
        held_out: to validate on.
        fixed: patches (n, 1, h, w) of these, by source.
        accelerator: this process among those that share the work.
        architecture: arguments of `Prior`.
    """

    recipe: Recipe
    folder: Path
    sources: list[patches.Source]
    held_out: list[patches.Source]
    fixed: dict[str, Tensor]
    accelerator: Accelerator
    architecture: dict[str, Any]

    @classmethod
    def open(cls, recipe: Recipe, folder: Path, initial: Card | None = None) -> Run:
        """Look at everything that may be wrong before the first step.

        Raises:
            EmgenError: sources that cannot be used, a batch that the processes cannot share, or a folder that
                cannot be written.
        """
        # whatever `accelerate config` says: the precision is the recipe's, and nothing scales the loss
        accelerator = Accelerator(mixed_precision="no")
        processes = accelerator.num_processes
        if recipe.optimiser.batch % processes:
            raise EmgenError(
                f"optimiser.batch {recipe.optimiser.batch} cannot be shared by {processes} processes; choose a whole multiple"
            )
        architecture = _architecture(recipe, initial)
        size = recipe.patches.size
        large = size if is_tied(architecture) else 3 * size // 2
        needed = [
            *((source, recipe.largest) for source in recipe.sources),
            *((source, large) for source in recipe.validation),
        ]
        opened = patches.open_all(needed, Path(recipe.data), patches.WHOLE // processes)
        sources, held_out = opened[: len(recipe.sources)], opened[len(recipe.sources) :]
        if recipe.estimation:
            estimation(recipe).refuse_unfit(opened, recipe.depth)
        count = -(-VALIDATED // len(held_out))
        fixed = {
            source.name: patches.fixed(source, count, large, recipe.depth) for source in held_out
        }
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / ".writable").touch()
            (folder / ".writable").unlink(missing_ok=True)
        except OSError as error:
            raise EmgenError(f"{folder} cannot be written: {error.strerror}") from None
        tensors = {k: torch.from_numpy(v).to(accelerator.device) for k, v in fixed.items()}
        return cls(recipe, folder, sources, held_out, tensors, accelerator, architecture)

    @property
    def main(self) -> bool:
        """Whether this process writes."""
        return bool(self.accelerator.is_main_process)

    @property
    def weights(self) -> Path:
        """The best weights so far."""
        return self.folder / f"{self.recipe.name}.safetensors"

    @property
    def bf16(self) -> bool:
        wanted = self.recipe.precision
        return wanted == "bfloat16" or (wanted == "auto" and self.accelerator.device.type == "cuda")

    def judged(self, network: Any, source: patches.Source) -> validation.Psnr:
        """How well a network does what it is trained for on a held-out source."""
        x = self.fixed[source.name]
        if self.recipe.estimation:
            return dict(estimation(self.recipe).psnr(network, x))
        return validation.denoise_psnr(network, x, source.noise)

    def say(self, text: str) -> None:
        if self.main:
            print(text, flush=True)

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """This process's part of every batch, made ahead by threads."""
        threads = 1 if self.accelerator.device.type == "cpu" else min(8, os.cpu_count() or 1)
        waiting: deque[Future[Batch]] = deque()
        # of their own: teams of threads for small sums would take the cores from the network
        alone: dict[str, Any] = {"initializer": torch.set_num_threads, "initargs": (1,)}
        with ThreadPoolExecutor(threads, **alone) as executor:
            for step in range(first, last):
                while len(waiting) <= threads and step + len(waiting) < last:
                    waiting.append(executor.submit(self.batch, step + len(waiting)))
                yield waiting.popleft().result()

    def batch(self, step: int) -> Batch:
        """Patches x and noises eps (n, 1, h, w), times t and noise of the patches (n,): from the seed and the step alone.

        What an estimator learns from is in `interpolation.batch` and `sections.batch`.
        """
        recipe, whole = self.recipe, self.recipe.optimiser.batch
        share = whole // self.accelerator.num_processes
        first = share * self.accelerator.process_index
        mine = slice(first, first + share)
        # noises are paired with patches of the whole batch, whoever shares it
        coupled = recipe.flow.coupling == "optimal-transport"
        numbers = range(whole) if coupled else range(whole)[mine]
        weights = [
            each.weight or float(np.prod(source.shape))
            for each, source in zip(recipe.sources, self.sources, strict=True)
        ]
        if recipe.estimation:
            task = estimation(recipe)
            wanted = (recipe.seed, step, numbers)
            return tuple(
                task.batch(self.sources, weights, recipe.patches, recipe.estimation, *wanted)
            )
        x, own, eps = (
            torch.from_numpy(part)
            for part in (
                *patches.batch(self.sources, weights, recipe.patches, recipe.seed, step, numbers),
                patches.noise(recipe.seed, step, numbers, recipe.patches.size),
            )
        )
        if coupled:
            x, own, eps = x[mine], own[mine], flow.coupled(x, eps)[mine]
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        return x, eps, flow.times(whole, recipe.flow.late, generator)[mine], own


def train(recipe: Recipe, folder: Path, initial: str | None = None) -> Card:
    """Train, or go on training, until the recipe's number of steps; the best weights by validation are in `folder`.

    Args:
        recipe: what to do.
        folder: of checkpoints, log, pictures and weights; shared by all processes.
        initial: weights to begin with, instead of those that the recipe names.

    Raises:
        EmgenError: a source cannot be used, the disk is full, training diverged, or what is in the folder belongs to
            another run.
    """
    initial = initial or recipe.initial
    base = load_network(initial) if initial else None
    run = Run.open(recipe, folder, base[1] if base else None)
    accelerator = run.accelerator
    state = State.new(recipe, run.architecture, accelerator.device, base[0] if base else None)
    identity = {
        **recipe.identity,
        "initial": base[1].sha256 if base else None,
        "voxels": {each.name: each.fingerprint for each in (*run.sources, *run.held_out)},
    }
    _resume(run, state, identity)
    if base and state.step == 0 and not State.exists(folder) and not recipe.estimation:
        checkpoint(run, state, identity, None, 0.0)
    network = accelerator.prepare(state.prior)
    losses: deque[Tensor] = deque(maxlen=500)
    last, spent = recipe.optimiser.steps, progress.seconds(folder)
    begun = saved = told = time.monotonic()
    since = state.step
    for batch in run.batches(state.step, last):
        losses.append(step(run, state, network, batch))
        now = time.monotonic()
        if state.step % TOLD == 0:
            pace = (state.step - since) / (now - told)
            recent = torch.stack(list(losses)[-TOLD:]).mean()
            run.say(
                f"step {state.step} of {last}  loss {recent:.4f}  {pace:.2f} steps/s  "
                f"{(last - state.step) / pace / 60:.0f} min left"
            )
            told, since = now, state.step
        # the clock of the main process decides for all, so that they validate together
        due = now - saved > 60 * recipe.checkpoint_minutes or state.step == last
        if _from_main(accelerator, due):
            loss = float(accelerator.reduce(torch.stack(list(losses)).mean(), "mean"))
            checkpoint(run, state, identity, loss, spent + now - begun)
            saved = told = time.monotonic()
            since = state.step
    if not run.weights.exists():
        checkpoint(run, state, identity, None, spent)
    accelerator.wait_for_everyone()
    if run.main:
        with _writing(folder, state.step):
            progress.draw_curves(folder)
            pictures = estimation(recipe).pictures if recipe.estimation else None
            progress.draw_samples(folder, state.average, run.fixed, pictures)
    return resolve(str(run.weights))


def estimation(recipe: Recipe) -> Any:
    """The module that says what an estimator is given, and how it is judged."""
    return interpolation if recipe.interpolation else sections


def _architecture(recipe: Recipe, initial: Card | None) -> dict[str, Any]:
    """Of weights of the same kind to begin with, else of the recipe; `EmgenError` where both say, and differ."""
    wanted: dict[str, Any] = json.loads(json.dumps(recipe.architecture))
    if initial is None or initial.task != (recipe.design or "prior"):
        return wanted
    given = initial.architecture
    differ = [f"{k} {v} here, {given[k]} there" for k, v in wanted.items() if given.get(k, v) != v]
    if differ:
        raise EmgenError(
            f"the recipe's network is not that of {initial.name}, which it begins with: {'; '.join(differ)}; make them alike, or "
            "leave one out"
        )
    return given


def _resume(run: Run, state: State, identity: dict[str, Any]) -> None:
    """Go on from the last checkpoint, if there is one; on all processes from the same."""
    folder, accelerator = run.folder, run.accelerator
    if State.exists(folder):
        state.load(folder, identity)
        run.say(f"going on from step {state.step} of {run.recipe.optimiser.steps}")
    elif run.weights.exists() or progress.read(folder):
        raise EmgenError(
            f"{folder} holds weights or a log, but no checkpoint to go on from; nothing was overwritten: choose another folder, "
            "or remove it"
        )
    if _from_main(accelerator, state.step) != state.step:
        raise EmgenError(
            f"process {accelerator.process_index} finds step {state.step} in {folder}, the main process another; "
            "the folder must be one that all nodes share"
        )
    try:
        facts = resolve(str(run.weights)).facts
        state.best = validation.score(facts[f"validation_{run.recipe.judged}_psnr_db_by_source"])
    except (EmgenError, KeyError):
        state.best = -np.inf  # removed, or written by halves: the next checkpoint exports them anew
    if run.main:
        with _writing(folder, state.step):
            progress.forget_after(folder, state.step)
    accelerator.wait_for_everyone()


def step(run: Run, state: State, network: nn.Module, batch: Batch) -> Tensor:
    """One step of the optimiser on this process's part of a batch; returns the loss."""
    settings, device = run.recipe.optimiser, run.accelerator.device
    batch = tuple(part.to(device) for part in batch)
    if state.drops:  # what is dropped follows from the step too, and differs between processes
        place = run.accelerator.num_processes * state.step + run.accelerator.process_index
        torch.manual_seed(run.recipe.seed * 1_000_003 + place)
    state.set_rate(settings.rate_at(state.step))
    state.prior.train()
    with torch.autocast(run.accelerator.device.type, torch.bfloat16, enabled=run.bf16):
        measure = estimation(run.recipe).loss if run.recipe.estimation else flow.loss
        loss = measure(network, *batch)
    state.prior.zero_grad(set_to_none=True)
    run.accelerator.backward(loss)
    nn.utils.clip_grad_norm_(state.prior.parameters(), settings.clip)
    state.update(settings.average)
    return loss.detach()


def checkpoint(
    run: Run, state: State, identity: dict[str, Any], loss: float | None, seconds: float
) -> None:
    """Validate the running average, note it, export it if it is the best so far, and save the state.

    Raises:
        EmgenError: training diverged, or the disk refuses; the checkpoint before stays.
    """
    if not run.main:
        return
    found = {source.name: run.judged(state.average, source) for source in run.held_out}
    score = validation.score(found)
    if not np.isfinite([score, loss or 0.0]).all():
        raise EmgenError(
            f"training diverged before step {state.step} (loss {loss}, validation {score:.3g} dB); nothing was written: go on "
            f"from the checkpoint in {run.folder} with a lower optimiser.rate"
        )
    run.say(f"step {state.step}  validation PSNR {validation.mean(found)}")
    with _writing(run.folder, state.step):
        progress.note(run.folder, state.step, seconds, loss, found)
        if run.recipe.keep:
            averages = run.folder / "averages"
            averages.mkdir(exist_ok=True)
            export(run, state, found, averages / f"step-{state.step:07d}.safetensors")
        if score > state.best:
            export(run, state, found, run.weights)
            state.best = score
        state.save(run.folder, identity)
        progress.draw_curves(run.folder)


def export(run: Run, state: State, found: dict[str, validation.Psnr], path: Path) -> Card:
    """Write the running average with its card."""
    recipe = run.recipe
    settings = recipe.model_dump(
        mode="json", include={"patches", recipe.learnt, "optimiser", "seed", "precision"}
    )
    given = any(s.grey_values for s in recipe.sources)
    noisy = {s.name: s.noise for s in (*recipe.sources, *recipe.validation) if s.noise}
    straight = f"x_t = (1 - t) eps + t x, velocity x - eps, {recipe.flow.coupling} coupling"
    facts = {
        "data": names(recipe.sources),
        "validation": names(recipe.validation),
        "credits": sorted({s.credits for s in (*recipe.sources, *recipe.validation) if s.credits}),
        "voxel_size_nm": {s.name: list(s.voxel) for s in run.sources},
        "scaling": f"0.1 and 99.9 percentile of each volume{', as without its noise,' if noisy else ''} to -1 and +1"
        f"{'; where the recipe gives grey_values, these' if given else ''}",
        **({"noise_grey_values": noisy} if noisy else {}),
        "grey_values": {s.name: [s.intensity.low, s.intensity.high] for s in run.sources},
        **({} if recipe.estimation else {"path": straight}),
        "steps": state.step,
        "training": settings,
        f"validation_{recipe.judged}_psnr_db": validation.mean(found),
        f"validation_{recipe.judged}_psnr_db_by_source": found,
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


def launcher(processes: int) -> list[str]:
    """The command that starts another on several GPUs, or CPU processes where there is none.

    A file left by `accelerate config` changes nothing. Raises `EmgenError` if there are fewer GPUs.
    """
    found = torch.cuda.device_count()
    if 0 < found < processes:
        raise EmgenError(f"expected {processes} GPUs (--config processes), found {found}")
    words = "--num_machines 1 --mixed_precision no --dynamo_backend no --num_processes"
    start = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--multi_gpu" if found else "--cpu",
    ]
    return [*start, *words.split(), str(processes)]


def _from_main(accelerator: Accelerator, value: float) -> float:
    """What the main process says."""
    if accelerator.num_processes == 1:
        return value
    return float(broadcast(torch.tensor(float(value), device=accelerator.device)))
