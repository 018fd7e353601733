"""Patches to learn from: planes of volumes, each patch a function of the seed, the step and its number alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from emgen.training.recipe import Patches
from emgen.training.training_volume import Planes, TrainingVolume

# Of the patches to validate on. Any number would do, but never another: figures of all runs are compared.
VALIDATION_SEED = 2026


@dataclass(frozen=True)
class Draw:
    """What the patches of a training run are drawn from.

    Attributes:
        volumes: to learn from.
        weights: how often each is drawn, against the others.
        patches: what is cut from them.
        seed: of the run.
    """

    volumes: tuple[TrainingVolume, ...]
    weights: tuple[float, ...]
    patches: Patches
    seed: int

    def volume(self, step: int, number: int) -> tuple[TrainingVolume, np.random.Generator]:
        """The volume of a patch of a training step, and the random numbers that the rest of it follows from.

        They depend on the seed, the step and the patch's number in the batch alone, so that processes can share a batch.
        """
        rng = np.random.default_rng([self.seed, step, number])
        share = np.asarray(self.weights) / np.sum(self.weights)
        return self.volumes[rng.choice(len(self.volumes), p=share)], rng


def jittered(patch: Planes, rng: np.random.Generator, settings: Patches) -> tuple[Planes, float]:
    """Mild changes of gamma, contrast and brightness, as of other microscopes; also gives the factor of contrast."""
    gamma, contrast = (
        np.exp(rng.normal() * settings.gamma),
        np.exp(rng.normal() * settings.contrast),
    )
    brightness = rng.normal() * settings.contrast / 2
    unit = (
        np.clip((patch + 1) / 2, 0, None) ** np.float32(gamma)
        if settings.gamma
        else (patch + 1) / 2
    )
    changed = (unit * 2 - 1) * np.float32(contrast) + np.float32(brightness)
    return changed.astype(np.float32), float(contrast)


def batch(
    draw: Draw, step: int, numbers: Iterable[int]
) -> tuple[Planes, npt.NDArray[np.float32]]:
    """Patches of a training step, (count, 1, size, size), and standard deviations of their noise, (count,).

    Both are in the prior's half range.
    """
    patches, noises = [], []
    for number in numbers:
        volume, rng = draw.volume(step, number)
        settings = draw.patches
        # a change of gamma would leave noise that is no longer the same everywhere
        kept = settings.model_copy(update={"gamma": 0.0}) if volume.noise else settings
        patch, contrast = jittered(volume.patch(rng, settings), rng, kept)
        patches.append(patch)
        noises.append(volume.noise * contrast)
    return np.stack(patches)[:, None], np.array(noises, np.float32)


def noise(seed: int, step: int, numbers: Iterable[int], size: int) -> Planes:
    """The noises that belong to `batch`, of the same shape, standard normal."""
    streams = [np.random.default_rng([seed, step, number, 1]) for number in numbers]
    return np.stack([rng.standard_normal((1, size, size), np.float32) for rng in streams])


def fixed(volume: TrainingVolume, count: int, size: int, depth: int = 1) -> Planes:
    """Patches to validate on, (count, depth, size, size), the same for ever, at the volume's own pixel size."""
    rng = np.random.default_rng(VALIDATION_SEED)
    settings = Patches(size=size, zoom=(1, 1))
    return np.stack([volume.slab(rng, settings, depth, size) for _ in range(count)])
