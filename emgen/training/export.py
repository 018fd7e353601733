"""What a training run writes: the running average as weights with their card, and the checkpoint to go on from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError

from emgen.errors import EmgenError
from emgen.networks.card import Card
from emgen.networks.checkpoint import save
from emgen.training import progress, validation
from emgen.training.recipe import PriorSettings, Recipe, names
from emgen.training.run import Run
from emgen.training.state import State


def checkpoint(
    run: Run, state: State, identity: dict[str, Any], loss: float | None, seconds: float
) -> None:
    """Validate the running average, log it, export it if it is the best so far, and save the state.

    Args:
        run: the training run.
        state: after its last step.
        identity: what a run that goes on from here must have too.
        loss: mean of the last steps, None before the first.
        seconds: of training so far.

    Raises:
        EmgenError: training diverged, or the disk refuses; the checkpoint before stays.
    """
    if not run.main:
        return
    psnr = run.judge(state.average)
    score = validation.score(psnr)
    if not np.isfinite([score, loss or 0.0]).all():
        raise EmgenError(
            f"training diverged before step {state.step} (loss {loss}, validation {score:.3g} dB); nothing was written: go on "
            f"from the checkpoint in {run.folder} with a lower optimiser.rate"
        )
    run.log(f"step {state.step}  validation PSNR {validation.mean(psnr)}")
    with writing(run.folder, state.step):
        progress.append(run.folder, state.step, seconds, loss, psnr)
        if run.recipe.keep:
            averages = run.folder / "averages"
            averages.mkdir(exist_ok=True)
            export(run, state, psnr, averages / f"step-{state.step:07d}.safetensors")
        if score > state.best:
            export(run, state, psnr, run.weights)
            state.best = score
        state.save(run.folder, identity)
        progress.draw_curves(run.folder)


def export(run: Run, state: State, psnr: Mapping[str, validation.Psnr], path: Path) -> Card:
    """Write the running average with its card."""
    recipe = run.recipe
    facts = {
        **_tissue(run),
        "steps": state.step,
        "training": recipe.model_dump(
            mode="json", include={"patches", "task", "optimiser", "seed", "precision"}
        ),
        f"validation_{recipe.task.score}_psnr_db": validation.mean(psnr),
        f"validation_{recipe.task.score}_psnr_db_by_source": psnr,
        "note": recipe.note,
    }
    return save(state.average, path, recipe.name, run.architecture, facts)


def _tissue(run: Run) -> dict[str, Any]:
    """What a card says of the tissue that was learnt from, and of its grey values."""
    recipe = run.recipe
    parts = (*recipe.sources, *recipe.validation)
    noisy = {part.name: part.noise for part in parts if part.noise}
    return {
        "data": names(recipe.sources),
        "validation": names(recipe.validation),
        "credits": sorted({part.credits for part in parts if part.credits}),
        "voxel_size_nm": {volume.name: list(volume.voxel) for volume in run.sources},
        "scaling": _scaling(recipe, bool(noisy)),
        **({"noise_grey_values": noisy} if noisy else {}),
        "grey_values": {
            volume.name: [volume.intensity.low, volume.intensity.high] for volume in run.sources
        },
        **_path(recipe),
    }


def _scaling(recipe: Recipe, noisy: bool) -> str:
    given = any(source.grey_values for source in recipe.sources)
    return (
        f"0.1 and 99.9 percentile of each volume{', as without its noise,' if noisy else ''} to -1 and +1"
        f"{'; where the recipe gives grey_values, these' if given else ''}"
    )


def _path(recipe: Recipe) -> dict[str, str]:
    """The path of flow matching, where a prior is trained."""
    if not isinstance(recipe.task, PriorSettings):
        return {}
    coupling = recipe.task.coupling
    return {"path": f"x_t = (1 - t) eps + t x, velocity x - eps, {coupling} coupling"}


@contextmanager
def writing(folder: Path, step: int) -> Iterator[None]:
    """Faults of the disk as `EmgenError`: the checkpoint before is still there."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        raise EmgenError(
            f"what belongs to step {step} cannot be written to {folder} ({error}); the checkpoint before is still there: "
            "make room and start again"
        ) from None
