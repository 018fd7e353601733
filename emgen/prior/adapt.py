"""A prior fine-tuned on the in-plane sections of the volume that it will restore, and on nothing else."""

from __future__ import annotations

from pathlib import Path

import torch

from emgen.draft import Draft
from emgen.errors import EmgenError
from emgen.plan import fingerprint, read_samples
from emgen.prior import progress
from emgen.prior.card import Card
from emgen.prior.checkpoint import annotate
from emgen.prior.recipe import Flow, Optimiser, Patches, Recipe, SourceRecipe
from emgen.prior.training import train

SMALLEST = 4  # sections: to learn from some and to be judged by others
RATE, LARGEST_PATCH = 2e-4, 64


def recipe(found: Draft) -> Recipe:
    """What is learnt, and what is held out: an eighth of the sections, in the middle.

    Raises:
        EmgenError: the volume has too few sections.
    """
    measured, restore = found.measured, found.config.restore
    sections, height, width = measured.shape
    if sections < SMALLEST:
        raise EmgenError(
            f"restore.adapt needs at least {SMALLEST} sections, {measured.path} has {sections}; remove restore.adapt"
        )
    count = max(1, sections // 8)
    first = (sections - count) // 2

    def part(start: int, stop: int) -> SourceRecipe:
        return SourceRecipe(path=measured.path, sections=(start, stop))

    # validation planes are half as large again as patches, and must fit too
    size = min(LARGEST_PATCH, *(n * 2 // 3 for n in (height, width)))
    steps = restore.adapt.steps
    return Recipe(
        name=found.adaptation or "adapted",
        sources=(part(0, first), part(first + count, sections)),
        validation=(part(first, first + count),),
        patches=Patches(size=size, zoom=(1.0, 1.0)),
        flow=Flow(),
        optimiser=Optimiser(
            rate=RATE,
            steps=steps,
            warm_up=max(1, steps // 20),
            decay=steps // 2,
            average=0.995,
        ),
        seed=restore.seed,
    )


def adapt(found: Draft, folder: Path, device: str = "cpu") -> Card:
    """Adapt the prior of a run to its input; the card says what that did to held-out sections.

    The weights are those that denoise the held-out sections best, which may be the prior's own.

    Args:
        found: of the run; of its volumes only the input is read.
        folder: for checkpoints, log and weights.
        device: "cpu" or a CUDA device.

    Raises:
        EmgenError: too few or too small sections, or the disk is full.
    """
    settings = recipe(found)
    if device != "cpu":
        torch.cuda.set_device(device)
    card = train(settings, folder, initial=found.config.restore.prior)
    lines = progress.read(folder)
    facts = {
        "base": found.prior.name,
        "base_sha256": found.prior.sha256,
        "input": fingerprint(found.measured, read_samples(found.measured)),
        "steps": card.facts["steps"],
        "held_out": settings.validation[0].sections,
        "before_db": lines[0]["denoise_psnr_db"],
        "after_db": card.facts["validation_denoise_psnr_db"],
    }
    return annotate(card, adaptation=facts)
