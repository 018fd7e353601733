"""Patches to learn from: planes of volumes, each patch a function of the seed, the step and its number alone."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from emgen.errors import EmgenError
from emgen.geometry import Box, VoxelSize, Zyx, zyx
from emgen.physics import missing
from emgen.training.recipe import Patches, SourceRecipe
from emgen.volumes.intensity import Intensity, tissue
from emgen.volumes.samples import sample_boxes
from emgen.volumes.sources import ForeignVolume, open_foreign
from emgen.volumes.volume import Volume, bytes_of

ISOTROPIC = 1.3  # up to this anisotropy xz and yz planes are patches too
ZOOMED = 0.3  # share of the patches whose pixel size changes
NOISIEST = 0.9  # share of a source's variance that may be noise: some tissue must be left
LOUDEST = 1.5  # noise in units of the prior's range, above which no time is left to validate at
WHOLE = 4 << 30  # bytes of a volume that is read at once; larger ones are read patch by patch

Grey = npt.NDArray[Any]
Planes = npt.NDArray[np.float32]
Fetch = Callable[[Box], Grey]
Plane = Literal["xy", "xz", "yz"]


@dataclass(frozen=True)
class Source:
    """One volume to learn from.

    Attributes:
        name: for messages and the card.
        shape: voxels (z, y, x).
        voxel: their size.
        intensity: scaling to about [-1, 1].
        fetch: stored voxels of a box.
        fingerprint: tells its voxels from others of the same name.
        held: bytes that it holds in memory.
        stack: whether its sections follow each other in z.
        noise: standard deviation of its white noise, of this scaling.
    """

    name: str
    shape: Zyx
    voxel: VoxelSize
    intensity: Intensity
    fetch: Fetch = field(repr=False)
    fingerprint: str
    held: int = 0
    stack: bool = True
    noise: float = 0.0

    @property
    def planes(self) -> tuple[Plane, ...]:
        """Orientations with in-plane resolution."""
        sizes = tuple(self.voxel)
        isotropic = self.stack and max(sizes) <= ISOTROPIC * min(sizes)
        return ("xy", "xz", "yz") if isotropic else ("xy",)

    @classmethod
    def open(cls, recipe: SourceRecipe, folder: Path, smallest: int, memory: int = WHOLE) -> Source:
        """A source of a recipe.

        Args:
            recipe: which.
            folder: that its path is relative to.
            smallest: pixels that a patch needs along y and x.
            memory: bytes that it may hold; a larger OME-Zarr is read patch by patch.

        Raises:
            EmgenError: missing, no voxel size, constant, not finite, noisier than tissue, too small, or too large.
        """
        where = recipe.path if "://" in recipe.path else str(folder / recipe.path)
        if _is_zarr(where):
            if recipe.inside is not None:
                raise EmgenError(f"{where} is an OME-Zarr image; remove `inside: {recipe.inside}`")
            volume = Volume.open(where)
            return cls._of(recipe, where, volume, volume.read, smallest, memory, lazy=True)
        inside = recipe.inside or (
            recipe.listed.inside if recipe.listed and _holds_many(where) else None
        )
        with open_foreign(where, inside) as source:
            return cls._of(recipe, where, source, source.read, smallest, memory, lazy=False)

    @classmethod
    def _of(
        cls,
        recipe: SourceRecipe,
        where: str,
        volume: Volume | ForeignVolume,
        read: Fetch,
        smallest: int,
        memory: int,
        lazy: bool,
    ) -> Source:
        part = _part(where, volume.shape, recipe)
        if (voxel := recipe.voxel(volume.voxel)) is None:
            raise EmgenError(
                f"{where} does not say its voxel size; give voxel_size_nm: 8 or [40, 4, 4] (z, y, x)"
            )
        if min(part.shape[1:]) < smallest:
            raise EmgenError(
                f"{where} has shape {part.shape}; patches need {smallest} pixels along y and x"
            )
        samples = [read(box) for box in sample_boxes(volume.shape)]
        seen = missing.drop_missing(samples, volume.shape, recipe.lost)
        if not seen:
            raise EmgenError(f"{where}: all its sampled sections are lost; check `lost`")
        try:
            intensity = (
                Intensity(*recipe.grey_values)
                if recipe.grey_values
                else Intensity.of(seen).without_noise(seen, recipe.noise)
            )
        except ValueError as error:
            raise EmgenError(f"{where}: {error}") from None
        spread = float(tissue(seen).std())
        if recipe.noise > min(NOISIEST**0.5 * spread, LOUDEST * intensity.unit):
            raise EmgenError(
                f"{where}: noise of {recipe.noise:g} grey values hides its tissue: its grey values have a standard deviation of "
                f"{spread:.3g} in all, and half the prior's range is {intensity.unit:.3g}; check the noise, or leave it out"
            )
        crc = 0
        for sample in samples:
            crc = zlib.crc32(np.ascontiguousarray(sample).tobytes(), crc)
        size = bytes_of(part.shape, volume.dtype)
        if size <= memory:
            fetch, held = _slices(_finite(where, read(part))), size
        elif lazy:
            fetch, held = (lambda box: read(box.shift(part.start))), 0
        else:
            raise EmgenError(
                f"{where} has {size / 1e9:.3g} GB, more than the {memory / 1e9:.3g} GB that are left for sources; make an "
                f"OME-Zarr of it, which is read patch by patch: emgen import {where} {Path(where).stem}.ome.zarr"
            )
        fingerprint = f"{part.shape} {voxel} {volume.dtype} {crc:08x}"
        return cls(
            recipe.name,
            part.shape,
            voxel,
            intensity,
            fetch,
            fingerprint,
            held,
            recipe.is_stack,
            recipe.noise / intensity.unit,
        )

    def patch(self, rng: np.random.Generator, settings: Patches, size: int | None = None) -> Planes:
        """A patch (size, size) from anywhere in it, in any of its orientations; one with NaN is drawn anew."""
        found: Planes = self.slab(rng, settings, 1, size or settings.size)[0]
        return found

    def slab(
        self,
        rng: np.random.Generator,
        settings: Patches,
        depth: int,
        size: int,
        stride: int = 1,
        tries: int = 50,
    ) -> Planes:
        """As `patch`, `depth` of them one behind the other (depth, size, size), turned and mirrored alike.

        They are `stride` planes apart.
        """
        plane = self.planes[rng.integers(len(self.planes))]
        if plane != "xy" and self.shape[0] < size:
            plane = "xy"
        axis = {"xy": 0, "xz": 1, "yz": 2}[plane]
        across, height, width = (
            self.shape[axis],
            *(n for i, n in enumerate(self.shape) if i != axis),
        )
        span = (depth - 1) * stride + 1
        index, side = int(rng.integers(across - span + 1)), size
        if rng.random() < ZOOMED:
            side = min(round(size * rng.uniform(*settings.zoom)), height, width)
        corner = [int(rng.integers(n - side + 1)) for n in (height, width)]
        start, stop = [*corner], [n + side for n in corner]
        start.insert(axis, index)
        stop.insert(axis, index + span)
        grey = np.moveaxis(self.fetch(Box(zyx(start), zyx(stop))), axis, 0)[::stride]
        if grey.dtype.kind == "f" and not np.isfinite(grey).all():
            if tries == 0:
                raise EmgenError(f"{self.name}: nearly all patches hold NaN or infinite values")
            return self.slab(rng, settings, depth, size, stride, tries - 1)
        slab = np.stack([_resized(each, size) for each in self.intensity.encode(grey)])
        if settings.symmetries:
            slab = np.rot90(slab, int(rng.integers(4)), axes=(1, 2))
            slab = slab.transpose(0, 2, 1) if rng.random() < 0.5 else slab
        return np.ascontiguousarray(slab)


def open_all(
    recipes: Iterable[tuple[SourceRecipe, int]], folder: Path, memory: int = WHOLE
) -> list[Source]:
    """Sources of a recipe, each with the smallest number of pixels that it needs along y and x.

    Together they hold at most `memory` bytes.

    Raises:
        EmgenError: some cannot be used; all of them are named.
    """
    found, faults = [], []
    for recipe, smallest in recipes:
        try:
            found.append(Source.open(recipe, folder, smallest, memory))
            memory -= found[-1].held
        except EmgenError as error:
            faults.append(f"\n  {error}")
    if faults:
        raise EmgenError(f"{len(faults)} of the training sources cannot be used:{''.join(faults)}")
    return found


def _is_zarr(where: str) -> bool:
    if "://" in where:
        return not where.startswith(("n5://", "precomputed://"))
    return any((Path(where) / name).exists() for name in ("zarr.json", ".zgroup"))


def _holds_many(where: str) -> bool:
    return Path(where.rstrip("/")).suffix.lower() in (".n5", ".h5", ".hdf5", ".hdf")


def _part(where: str, shape: Zyx, recipe: SourceRecipe) -> Box:
    first, end = recipe.sections or (0, None)
    last = end or shape[0]
    if max(first + 1, last) > shape[0]:
        raise EmgenError(
            f"{where} has {shape[0]} sections; sections: {[first, last]} asks for more"
        )
    return Box((first, 0, 0), zyx([last, *shape[1:]]))


def _finite(where: str, voxels: Grey) -> Grey:
    if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
        raise EmgenError(
            f"{where}: expected finite grey values, found NaN or infinite ones; replace them"
        )
    return voxels


def _slices(voxels: Grey) -> Fetch:
    return lambda box: voxels[box.slices]


def _resized(patch: Planes, size: int) -> Planes:
    """To (size, size) by linear interpolation."""
    if patch.shape == (size, size):
        return patch
    position = np.linspace(0, len(patch) - 1, size)
    lower = np.minimum(position.astype(int), len(patch) - 2)
    weight = (position - lower).astype(np.float32)
    rows: Planes = patch[lower] * (1 - weight)[:, None] + patch[lower + 1] * weight[:, None]
    columns: Planes = rows[:, lower] * (1 - weight) + rows[:, lower + 1] * weight
    return columns


def jittered(patch: Planes, rng: np.random.Generator, settings: Patches) -> tuple[Planes, float]:
    """Mild changes of gamma, contrast and brightness; other microscopes, other detectors. Also gives that of contrast."""
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
    sources: Sequence[Source],
    weights: Sequence[float],
    settings: Patches,
    seed: int,
    step: int,
    numbers: Iterable[int],
) -> tuple[Planes, npt.NDArray[np.float32]]:
    """Patches of a training step, (count, 1, size, size), and standard deviations of their noise, (count,).

    Each follows from the seed, the step and its number in the batch, so that processes can share a batch.
    """
    share = np.asarray(weights) / np.sum(weights)
    patches, noises = [], []
    for number in numbers:
        rng = np.random.default_rng([seed, step, number])
        source = sources[rng.choice(len(sources), p=share)]
        # a change of gamma would leave noise that is no longer the same everywhere
        kept = settings.model_copy(update={"gamma": 0.0}) if source.noise else settings
        patch, contrast = jittered(source.patch(rng, settings), rng, kept)
        patches.append(patch)
        noises.append(source.noise * contrast)
    return np.stack(patches)[:, None], np.array(noises, np.float32)


def noise(seed: int, step: int, numbers: Iterable[int], size: int) -> Planes:
    """The noises that belong to `batch`, of the same shape, standard normal."""
    streams = [np.random.default_rng([seed, step, number, 1]) for number in numbers]
    return np.stack([rng.standard_normal((1, size, size), np.float32) for rng in streams])


def fixed(source: Source, count: int, size: int, depth: int = 1) -> Planes:
    """Patches to validate on, (count, depth, size, size), the same for ever, at the source's own pixel size."""
    rng = np.random.default_rng(20_26)
    settings = Patches(size=size, zoom=(1, 1))
    return np.stack([source.slab(rng, settings, depth, size) for _ in range(count)])
