"""A prior fine-tuned on the in-plane sections of the volume that it will restore, and on nothing else."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Literal

import torch

from emgen.config.restore import NoiseSetting
from emgen.errors import EmgenError
from emgen.geometry import VoxelSize
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

MIN_SECTIONS, MIN_SIDE = 4, 24  # some sections to learn from, others to be judged by; pixels along y and x
HELD_OUT_SHARE = 8  # one section of so many is held out
RATE = 2e-4  # of AdamW: less than half of what priors are trained with, for weights that are good already
PATCH = 64  # pixels: what the shipped prior was trained on
AVERAGE = 0.995  # of the running average: shorter than in training, for runs of hundreds of steps


def recipe(
    name: str,
    base: Card,
    measured: Volume,
    steps: int,
    seed: int,
    lost: Collection[int] = (),
    noise: float = 0.0,
    intensity: Intensity | None = None,
    voxel: tuple[float, float, float] | None = None,
) -> Recipe:
    """The recipe of an adaptation: it holds out an eighth of the sections, in the middle.

    Args:
        name: of the adapted prior.
        base: the prior to begin with.
        measured: the volume to adapt to.
        steps: of training.
        seed: of patches and noise.
        lost: numbers of missing sections, which are not learnt from.
        noise: standard deviation in grey values of white noise, which is not learnt.
        intensity: grey values that become -1 and +1, those of the plan; percentiles by default.
        voxel: size of a voxel in nm (z, y, x), if it is not what the volume's metadata say.

    Raises:
        EmgenError: the volume has too few sections, or the prior is a diffusion model.
    """
    _refuse_unfit(base, measured, lost)
    present = [k for k in range(measured.shape[0]) if k not in lost]
    count = max(1, len(present) // HELD_OUT_SHARE)
    first = (len(present) - count) // 2
    grey_values = (intensity.low, intensity.high) if intensity else None

    def parts(numbers: list[int]) -> tuple[SourceRecipe, ...]:
        # in the plane only, whatever the metadata say of z
        return tuple(
            SourceRecipe(
                path=measured.path,
                sections=ends,
                stack=False,
                lost=tuple(lost),
                noise=noise,
                grey_values=grey_values,
                voxel_size_nm=voxel,
            )
            for ends in runs(numbers)
        )

    # validation planes are half as large again as patches, and must fit too
    size = min(base.tile or PATCH, *(n * 2 // 3 for n in measured.shape[1:]))
    return Recipe(
        name=name,
        sources=parts([*present[:first], *present[first + count :]]),
        validation=parts(present[first : first + count]),
        patches=Patches(size=size, zoom=(1.0, 1.0)),
        optimiser=Optimiser(
            rate=RATE, steps=steps, warm_up=max(1, steps // 20), decay=steps // 2, average=AVERAGE
        ),
        seed=seed,
    )


def _refuse_unfit(base: Card, measured: Volume, lost: Collection[int]) -> None:
    if base.architecture.get("predicts") == "noise":
        raise EmgenError(
            f"the prior {base.name} predicts noise, as diffusion models do, and restore.adapt trains flows; use a flow prior, "
            "or remove restore.adapt"
        )
    sections = sum(k not in lost for k in range(measured.shape[0]))
    if sections < MIN_SECTIONS or min(measured.shape[1:]) < MIN_SIDE:
        raise EmgenError(
            f"restore.adapt needs at least {MIN_SECTIONS} sections of {MIN_SIDE} x {MIN_SIDE} pixels, {measured.path} has "
            f"shape {measured.shape}{f', of which {len(lost)} sections are lost' if lost else ''}; remove restore.adapt"
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
    lost: Literal["auto"] | Sequence[int] = "auto",
    noise: NoiseSetting = 0.0,
    voxel: tuple[float, float, float] | None = None,
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
        lost: numbers of missing sections, or "auto" to detect them.
        noise: of the volume, see `restore.noise`; its root mean square in grey values is taken for white noise.
        voxel: size of a voxel in nm (z, y, x), if it is not what the volume's metadata say.

    Raises:
        EmgenError: too few or too small sections, voxels that are constant or not finite, or the disk is full.
    """
    measured = Volume.open(volume, voxel=VoxelSize(*voxel) if voxel else None)
    base = resolve(prior)
    missing_sections, samples = missing.resolve_missing(measured, lost), read_samples(measured)
    present = missing.drop_missing(samples, measured.shape, missing_sections)
    intensity, noise_model = fit_grey_scale(present, noise, measured.path)
    sigma = noise_model.rms(present)
    settings = recipe(
        name, base, measured, steps, seed, missing_sections, sigma, intensity, voxel
    )
    if device != "cpu":
        torch.cuda.set_device(device)
    card = train(settings, folder, initial=prior)
    facts = {
        "base": base.name,
        "base_card": {k: base.facts[k] for k in ("data", "credits", "note") if k in base.facts},
        "base_sha256": base.sha256,
        "input": fingerprint(measured, samples),
        "steps": card.facts["steps"],
        "held_out": [part.sections for part in settings.validation],
        "noise": sigma,
        "before_db": progress.read(folder)[0]["psnr_db"],
        "after_db": card.facts["validation_denoise_psnr_db"],
    }
    return annotate(card, adaptation=facts)
