"""A prior fine-tuned on the in-plane sections of the volume that it will restore, and on nothing else."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

import torch

from emgen.config.restore import NoiseSetting
from emgen.errors import EmgenError
from emgen.networks.card import Card, resolve
from emgen.networks.checkpoint import annotate
from emgen.physics import missing
from emgen.physics.grey_scale import fit_grey_scale
from emgen.training import progress
from emgen.training.loop import train
from emgen.training.recipe import Optimiser, Patches, Recipe, SourceRecipe
from emgen.volumes.intensity import Intensity
from emgen.volumes.samples import fingerprint, read_samples
from emgen.volumes.volume import Volume

SMALLEST, SMALLEST_PLANE = 4, 24  # some to learn from, others to be judged by
RATE, PATCH = 2e-4, 64


def recipe(
    name: str,
    base: Card,
    measured: Volume,
    steps: int,
    seed: int,
    gone: Collection[int] = (),
    noise: float = 0.0,
    intensity: Intensity | None = None,
) -> Recipe:
    """What is learnt, and what is held out: an eighth of the sections, in the middle; never those that are `gone`.

    White noise of a standard deviation of `noise` grey values is not learnt; the intensity is that of the plan.

    Raises:
        EmgenError: the volume has too few sections, or the prior is a diffusion model.
    """
    if base.architecture.get("predicts") == "noise":
        raise EmgenError(
            f"the prior {base.name} predicts noise, as diffusion models do, and restore.adapt trains flows; use a flow prior, "
            "or remove restore.adapt"
        )
    there = [k for k in range(measured.shape[0]) if k not in gone]
    sections, (height, width) = len(there), measured.shape[1:]
    if sections < SMALLEST or min(height, width) < SMALLEST_PLANE:
        raise EmgenError(
            f"restore.adapt needs at least {SMALLEST} sections of {SMALLEST_PLANE} x {SMALLEST_PLANE} pixels, {measured.path} has "
            f"shape {measured.shape}{f', of which {len(gone)} sections are lost' if gone else ''}; remove restore.adapt"
        )
    count = max(1, sections // 8)
    first = (sections - count) // 2

    def parts(numbers: list[int]) -> tuple[SourceRecipe, ...]:
        # in the plane only, whatever the metadata say of z
        return tuple(
            SourceRecipe(
                path=measured.path,
                sections=ends,
                stack=False,
                lost=tuple(gone),
                noise=noise,
                grey_values=(intensity.low, intensity.high) if intensity else None,
            )
            for ends in runs(numbers)
        )

    # validation planes are half as large again as patches, and must fit too
    size = min(base.tile or PATCH, *(n * 2 // 3 for n in (height, width)))
    return Recipe(
        name=name,
        sources=parts([*there[:first], *there[first + count :]]),
        validation=parts(there[first : first + count]),
        patches=Patches(size=size, zoom=(1.0, 1.0)),
        optimiser=Optimiser(
            rate=RATE, steps=steps, warm_up=max(1, steps // 20), decay=steps // 2, average=0.995
        ),
        seed=seed,
    )


def runs(numbers: Sequence[int]) -> list[tuple[int, int]]:
    """Rising numbers as ranges without gaps, each from its first to behind its last."""
    first = [k for k in numbers if k - 1 not in numbers]
    last = [k for k in numbers if k + 1 not in numbers]
    return [(a, b + 1) for a, b in zip(first, last, strict=True)]


def adapt(
    prior: str,
    volume: str,
    steps: int,
    seed: int,
    folder: Path,
    name: str,
    device: str = "cpu",
    gone: Literal["auto"] | Sequence[int] = "auto",
    noise: NoiseSetting = 0.0,
) -> Card:
    """Adapt a prior to a volume; the card says what that did to held-out sections.

    The weights are those that denoise the held-out sections best, which may be the prior's own.

    Args:
        prior: to begin with: a shipped name or a .safetensors file.
        volume: OME-Zarr that will be restored; nothing else is read.
        steps: of training.
        seed: of patches and noise.
        folder: for checkpoints, log and weights; training goes on from what is there.
        name: of the adapted prior.
        device: "cpu" or a CUDA device.
        gone: sections that hold no image, or "auto" to find them.
        noise: of the volume, see `restore.noise`; its root mean square is taken for white noise.

    Raises:
        EmgenError: too few or too small sections, voxels that are constant or not finite, or the disk is full.
    """
    measured, base = Volume.open(volume), resolve(prior)
    lost, samples = missing.resolve_missing(measured, gone), read_samples(measured)
    seen = missing.drop_missing(samples, measured.shape, lost)
    intensity, detector = fit_grey_scale(seen, noise, measured.path)
    sigma = detector.rms(seen)
    settings = recipe(name, base, measured, steps, seed, lost, sigma, intensity)
    if device != "cpu":
        torch.cuda.set_device(device)
    card = train(settings, folder, initial=prior)
    facts = {
        "base": base.name,
        "base_card": {k: base.facts[k] for k in ("data", "credits", "note") if k in base.facts},
        "base_sha256": base.sha256,
        "input": fingerprint(measured, samples),
        "steps": card.facts["steps"],
        "held_out": [each.sections for each in settings.validation],
        "noise": sigma,
        "before_db": progress.read(folder)[0]["psnr_db"],
        "after_db": card.facts["validation_denoise_psnr_db"],
    }
    return annotate(card, adaptation=facts)
