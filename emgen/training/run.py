"""A recipe with everything that it needs opened: volumes, task, the processes that share the work."""

from __future__ import annotations

import json
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import broadcast
from torch import Tensor

from emgen.errors import EmgenError
from emgen.networks.card import Card, is_tied
from emgen.training import patches
from emgen.training.recipe import Recipe
from emgen.training.tasks.task import Batch, Task, open_task
from emgen.training.training_volume import MEMORY, TrainingVolume, open_all
from emgen.training.validation import Psnr

# Patches to validate on, all held-out volumes together: as many as two cores denoise in a few seconds.
VALIDATION_PATCHES = 48


@dataclass(frozen=True)
class Run:
    """A recipe with everything that it needs opened.

    Attributes:
        recipe: what to do.
        folder: of checkpoints, log, pictures and weights.
        task: what the network is trained for.
        sources: to learn from.
        held_out: to validate on.
        fixed: patches (n, depth, h, w) of these in the prior's half range, by their names.
        accelerator: this process among those that share the work.
        architecture: what `emgen.networks.build.build` makes the network of.
    """

    recipe: Recipe
    folder: Path
    task: Task
    sources: list[TrainingVolume]
    held_out: list[TrainingVolume]
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
        sources, held_out = _volumes(recipe, large, MEMORY // processes)
        draw = patches.Draw(tuple(sources), _weights(recipe, sources), recipe.patches, recipe.seed)
        task = open_task(recipe.task, draw, held_out)
        count = -(-VALIDATION_PATCHES // len(held_out))
        fixed = {
            volume.name: torch.from_numpy(
                patches.fixed(volume, count, large, recipe.task.depth)
            ).to(accelerator.device)
            for volume in held_out
        }
        _refuse_unwritable(folder)
        return cls(recipe, folder, task, sources, held_out, fixed, accelerator, architecture)

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
        """Whether the network computes in bfloat16."""
        precision, on_gpu = self.recipe.precision, self.accelerator.device.type == "cuda"
        return precision == "bfloat16" or (precision == "auto" and on_gpu)

    def judge(self, network: Any) -> dict[str, Psnr]:
        """How well a network does its task on every held-out volume: PSNR in dB, by time or kind of problem."""
        return {
            volume.name: self.task.psnr(network, self.fixed[volume.name], volume.noise)
            for volume in self.held_out
        }

    def log(self, text: str) -> None:
        """Print a line, once for all processes."""
        if self.main:
            print(text, flush=True)

    def from_main(self, value: float) -> float:
        """A number as the main process has it."""
        if self.accelerator.num_processes == 1:
            return value
        return float(broadcast(torch.tensor(float(value), device=self.accelerator.device)))

    def batch(self, step: int) -> Batch:
        """This process's part of the batch of a step."""
        size = self.recipe.optimiser.batch
        share = size // self.accelerator.num_processes
        first = share * self.accelerator.process_index
        return self.task.batch(step, size, slice(first, first + share))

    def batches(self, first: int, last: int) -> Iterator[Batch]:
        """This process's part of every batch, made ahead by threads."""
        threads = 1 if self.accelerator.device.type == "cpu" else min(8, os.cpu_count() or 1)
        waiting: deque[Future[Batch]] = deque()
        # one thread each: teams of threads for small sums would take the cores from the network
        single: dict[str, Any] = {"initializer": torch.set_num_threads, "initargs": (1,)}
        with ThreadPoolExecutor(threads, **single) as executor:
            for step in range(first, last):
                while len(waiting) <= threads and step + len(waiting) < last:
                    waiting.append(executor.submit(self.batch, step + len(waiting)))
                yield waiting.popleft().result()


def _volumes(
    recipe: Recipe, validated: int, memory: int
) -> tuple[list[TrainingVolume], list[TrainingVolume]]:
    """The volumes to learn from, and those to validate on in patches of `validated` pixels."""
    needed = [
        *((source, recipe.largest) for source in recipe.sources),
        *((source, validated) for source in recipe.validation),
    ]
    volumes = open_all(needed, Path(recipe.data), memory)
    return volumes[: len(recipe.sources)], volumes[len(recipe.sources) :]


def _weights(recipe: Recipe, sources: Sequence[TrainingVolume]) -> tuple[float, ...]:
    """How often each source is drawn: as the recipe says, or by its number of voxels."""
    return tuple(
        source.weight or float(np.prod(volume.shape))
        for source, volume in zip(recipe.sources, sources, strict=True)
    )


def _architecture(recipe: Recipe, initial: Card | None) -> dict[str, Any]:
    """Of weights of the same task to begin with, else of the recipe; `EmgenError` where both say, and differ."""
    asked: dict[str, Any] = json.loads(json.dumps(recipe.architecture))
    if initial is None or initial.task != recipe.task.kind:
        return asked
    given = initial.architecture
    differ = [f"{k} {v} here, {given[k]} there" for k, v in asked.items() if given.get(k, v) != v]
    if differ:
        raise EmgenError(
            f"the recipe's network is not that of {initial.name}, which it begins with: {'; '.join(differ)}; make them alike, or "
            "leave one out"
        )
    return given


def _refuse_unwritable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / ".writable").touch()
        (folder / ".writable").unlink(missing_ok=True)
    except OSError as error:
        raise EmgenError(f"{folder} cannot be written: {error.strerror}") from None
