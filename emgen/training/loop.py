"""Training a network: one loop, exact resume, weights chosen by how well they do on held-out tissue.

The learning rate warms up, stays, and falls to zero over the last `decay` steps. A run can be stopped at
any time and goes on from its last checkpoint, bit for bit on a CPU; to finish one early, or to go on
from a finished one, start it again with another number of steps.

Under `accelerate launch` the processes share every batch: the patches, noises and times of a step are the
same however many there are.
"""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from emgen.errors import EmgenError
from emgen.networks.card import Card, resolve
from emgen.networks.checkpoint import load_network
from emgen.training import progress, validation
from emgen.training.export import checkpoint, writing
from emgen.training.recipe import Recipe
from emgen.training.run import Run
from emgen.training.seeds import stream
from emgen.training.state import State
from emgen.training.tasks.task import Batch

STEPS_PER_LINE = 100  # between two lines of progress
STEPS_PER_MEAN = 500  # over which the loss of a checkpoint is averaged


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
    network, card = load_network(initial) if initial else (None, None)
    run = Run.open(recipe, folder, card)
    state = State.new(recipe, run.architecture, run.accelerator.device, network)
    identity = {
        **recipe.identity,
        "initial": card.sha256 if card else None,
        "voxels": {volume.name: volume.fingerprint for volume in (*run.sources, *run.held_out)},
    }
    _resume(run, state, identity)
    # weights that do the task already are the first to be judged
    same_task = card is not None and card.task == recipe.task.kind
    if same_task and state.step == 0 and not State.exists(folder):
        checkpoint(run, state, identity, None, 0.0)
    spent = progress.seconds(folder)
    _steps(run, state, identity, spent)
    if not run.weights.exists():
        checkpoint(run, state, identity, None, spent)
    run.accelerator.wait_for_everyone()
    if run.main:
        with writing(folder, state.step):
            progress.draw_curves(folder)
            shown = {name: patches[: progress.COLUMNS] for name, patches in run.fixed.items()}
            progress.draw_samples(folder, run.task.pictures(state.average, shown))
    return resolve(str(run.weights))


def _steps(run: Run, state: State, identity: dict[str, Any], spent: float) -> None:
    """All steps that are left, with a checkpoint whenever it is due; `spent`: seconds of training before."""
    network = run.accelerator.prepare(state.prior)
    losses: deque[Tensor] = deque(maxlen=STEPS_PER_MEAN)
    last = run.recipe.optimiser.steps
    begun = saved = reported = time.monotonic()
    reported_step = state.step
    for batch in run.batches(state.step, last):
        losses.append(step(run, state, network, batch))
        now = time.monotonic()
        if state.step % STEPS_PER_LINE == 0:
            pace = (state.step - reported_step) / (now - reported)
            recent = torch.stack(list(losses)[-STEPS_PER_LINE:]).mean()
            run.log(
                f"step {state.step} of {last}  loss {recent:.4f}  {pace:.2f} steps/s  "
                f"{(last - state.step) / pace / 60:.0f} min left"
            )
            reported, reported_step = now, state.step
        # the clock of the main process decides for all, so that they validate together
        due = now - saved > 60 * run.recipe.checkpoint_minutes or state.step == last
        if run.from_main(due):
            loss = float(run.accelerator.reduce(torch.stack(list(losses)).mean(), "mean"))
            checkpoint(run, state, identity, loss, spent + now - begun)
            saved = reported = time.monotonic()
            reported_step = state.step


def step(run: Run, state: State, network: nn.Module, batch: Batch) -> Tensor:
    """One step of the optimiser on this process's part of a batch; returns the loss."""
    settings, device = run.recipe.optimiser, run.accelerator.device
    batch = tuple(part.to(device) for part in batch)
    if state.drops:  # what is dropped follows from the step too, and differs between processes
        place = run.accelerator.num_processes * state.step + run.accelerator.process_index
        torch.manual_seed(stream(run.recipe.seed, place))
    state.set_rate(settings.rate_at(state.step))
    state.prior.train()
    with torch.autocast(run.accelerator.device.type, torch.bfloat16, enabled=run.bf16):
        loss = run.task.loss(network, *batch)
    state.prior.zero_grad(set_to_none=True)
    run.accelerator.backward(loss)
    nn.utils.clip_grad_norm_(state.prior.parameters(), settings.clip)
    state.update(settings.average)
    return loss.detach()


def _resume(run: Run, state: State, identity: dict[str, Any]) -> None:
    """Go on from the last checkpoint, if there is one; on all processes from the same."""
    folder, accelerator = run.folder, run.accelerator
    if State.exists(folder):
        state.load(folder, identity)
        run.log(f"going on from step {state.step} of {run.recipe.optimiser.steps}")
    elif run.weights.exists() or progress.read(folder):
        raise EmgenError(
            f"{folder} holds weights or a log, but no checkpoint to go on from; nothing was overwritten: choose another folder, "
            "or remove it"
        )
    if run.from_main(state.step) != state.step:
        raise EmgenError(
            f"process {accelerator.process_index} finds step {state.step} in {folder}, the main process another; "
            "the folder must be one that all nodes share"
        )
    try:
        facts = resolve(str(run.weights)).facts
        score = facts[f"validation_{run.recipe.task.score}_psnr_db_by_source"]
        state.best = validation.score(score)
    except (EmgenError, KeyError):
        state.best = -np.inf  # removed, or written by halves: the next checkpoint exports them anew
    if run.main:
        with writing(folder, state.step):
            progress.forget_after(folder, state.step)
    accelerator.wait_for_everyone()
