"""A volume to learn from: opened, checked, scaled, and cut into planes of any of its orientations."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterable
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
from emgen.volumes.samples import checksum, sample_boxes
from emgen.volumes.sources import Allowed, ForeignVolume, open_foreign
from emgen.volumes.volume import Volume, bytes_of

# Up to this anisotropy xz and yz planes are patches too: `zoom` changes pixel sizes by about as much.
MAX_ANISOTROPY = 1.3
ZOOMED_SHARE = 0.3  # fraction of the patches whose pixel size changes
MAX_NOISE_SHARE = 0.9  # fraction of a volume's variance that may be noise: some tissue must be left
# Noise in the prior's half range. From 1.65 on, no time is left to validate at: at t = 0.3, the first, tissue then
# brings more than half of the path's noise itself.
MAX_NOISE = 1.5
MEMORY = 4 << 30  # bytes that all volumes of a run hold in memory; larger ones are read patch by patch
MAX_TRIES = 50  # patches with NaN that are drawn in a row, before a volume is refused

Grey = npt.NDArray[Any]
Planes = npt.NDArray[np.float32]
Fetch = Callable[[Box], Grey]
Plane = Literal["xy", "xz", "yz"]
AXES: dict[Plane, int] = {"xy": 0, "xz": 1, "yz": 2}


@dataclass(frozen=True)
class TrainingVolume:
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
        noise: standard deviation of its white noise, in the prior's half range.
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
        isotropic = self.stack and max(sizes) <= MAX_ANISOTROPY * min(sizes)
        return ("xy", "xz", "yz") if isotropic else ("xy",)

    @classmethod
    def open(
        cls, recipe: SourceRecipe, folder: Path, smallest: int, memory: int = MEMORY
    ) -> TrainingVolume:
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
            given = VoxelSize(*recipe.voxel_size_nm) if recipe.voxel_size_nm else None
            return cls._of(recipe, where, Volume.open(where, voxel=given), smallest, memory)
        inside = recipe.inside or (
            recipe.listed.inside if recipe.listed and _holds_many(where) else None
        )
        allowed = Allowed(any_order=not recipe.is_stack)
        with open_foreign(where, inside, allowed) as volume:
            return cls._of(recipe, where, volume, smallest, memory)

    @classmethod
    def _of(
        cls,
        recipe: SourceRecipe,
        where: str,
        volume: Volume | ForeignVolume,
        smallest: int,
        memory: int,
    ) -> TrainingVolume:
        part, voxel = _part(where, volume.shape, recipe, smallest), recipe.voxel(volume.voxel)
        if voxel is None:
            raise EmgenError(
                f"{where} does not say its voxel size; give voxel_size_nm: 8 or [40, 4, 4] (z, y, x)"
            )
        samples = [volume.read(box) for box in sample_boxes(volume.shape)]
        intensity = _intensity(where, volume.shape, recipe, samples)
        fetch, held = _reader(where, volume, part, memory)
        return cls(
            recipe.name,
            part.shape,
            voxel,
            intensity,
            fetch,
            f"{part.shape} {voxel} {volume.dtype} {checksum(samples)}",
            held,
            recipe.is_stack,
            recipe.noise / intensity.unit,
        )

    def patch(self, rng: np.random.Generator, settings: Patches) -> Planes:
        """A patch (size, size) from anywhere in it, in any of its orientations; one with NaN is drawn anew."""
        patch: Planes = self.slab(rng, settings, 1, settings.size)[0]
        return patch

    def slab(
        self,
        rng: np.random.Generator,
        settings: Patches,
        depth: int,
        size: int,
        stride: int = 1,
        tries: int = MAX_TRIES,
    ) -> Planes:
        """As `patch`, `depth` of them one behind the other (depth, size, size), turned and mirrored alike.

        They are `stride` planes apart.
        """
        plane = self.planes[rng.integers(len(self.planes))]
        if plane != "xy" and self.shape[0] < size:
            plane = "xy"
        axis = AXES[plane]
        across, height, width = (
            self.shape[axis],
            *(n for i, n in enumerate(self.shape) if i != axis),
        )
        span = (depth - 1) * stride + 1
        index, side = int(rng.integers(across - span + 1)), size
        if rng.random() < ZOOMED_SHARE:
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
        slab = np.stack([_resized(layer, size) for layer in self.intensity.encode(grey)])
        if settings.symmetries:
            slab = np.rot90(slab, int(rng.integers(4)), axes=(1, 2))
            slab = slab.transpose(0, 2, 1) if rng.random() < 0.5 else slab
        return np.ascontiguousarray(slab)


def open_all(
    recipes: Iterable[tuple[SourceRecipe, int]], folder: Path, memory: int = MEMORY
) -> list[TrainingVolume]:
    """Sources of a recipe, each with the smallest number of pixels that it needs along y and x.

    Together they hold at most `memory` bytes.

    Raises:
        EmgenError: some cannot be used; all of them are named.
    """
    volumes, faults = [], []
    for recipe, smallest in recipes:
        try:
            volumes.append(TrainingVolume.open(recipe, folder, smallest, memory))
            memory -= volumes[-1].held
        except EmgenError as error:
            faults.append(f"\n  {error}")
    if faults:
        raise EmgenError(f"{len(faults)} of the training sources cannot be used:{''.join(faults)}")
    return volumes


def _is_zarr(where: str) -> bool:
    if "://" in where:
        return not where.startswith(("n5://", "precomputed://"))
    return any((Path(where) / name).exists() for name in ("zarr.json", ".zgroup"))


def _holds_many(where: str) -> bool:
    return Path(where.rstrip("/")).suffix.lower() in (".n5", ".h5", ".hdf5", ".hdf")


def _part(where: str, shape: Zyx, recipe: SourceRecipe, smallest: int) -> Box:
    """The sections that a recipe names; `EmgenError` where there are fewer, or where patches do not fit."""
    first, end = recipe.sections or (0, None)
    last = end or shape[0]
    if max(first + 1, last) > shape[0]:
        raise EmgenError(
            f"{where} has {shape[0]} sections; sections: {[first, last]} asks for more"
        )
    part = Box((first, 0, 0), zyx([last, *shape[1:]]))
    if min(part.shape[1:]) < smallest:
        raise EmgenError(
            f"{where} has shape {part.shape}; patches need {smallest} pixels along y and x"
        )
    return part


def _intensity(where: str, shape: Zyx, recipe: SourceRecipe, samples: list[Grey]) -> Intensity:
    """The grey values that become -1 and +1; `EmgenError` where they are constant, missing or hidden by noise."""
    present = missing.drop_missing(samples, shape, recipe.lost)
    if not present:
        raise EmgenError(f"{where}: all its sampled sections are lost; check `lost`")
    try:
        intensity = (
            Intensity(*recipe.grey_values)
            if recipe.grey_values
            else Intensity.of(present).without_noise(present, recipe.noise)
        )
    except ValueError as error:
        raise EmgenError(f"{where}: {error}") from None
    deviation = float(tissue(present).std())
    if recipe.noise > min(MAX_NOISE_SHARE**0.5 * deviation, MAX_NOISE * intensity.unit):
        raise EmgenError(
            f"{where}: noise of {recipe.noise:g} grey values hides its tissue: its grey values have a standard deviation of "
            f"{deviation:.3g} in all, and half the prior's range is {intensity.unit:.3g}; check the noise, or leave it out"
        )
    return intensity


def _reader(
    where: str, volume: Volume | ForeignVolume, part: Box, memory: int
) -> tuple[Fetch, int]:
    """What fetches boxes of a part, and the bytes that it holds: read at once, or patch by patch where it is large."""
    size = bytes_of(part.shape, volume.dtype)
    if size <= memory:
        voxels = volume.read(part)
        if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
            raise EmgenError(
                f"{where}: expected finite grey values, found NaN or infinite ones; replace them"
            )
        return (lambda box: voxels[box.slices]), size
    if isinstance(volume, Volume):
        return (lambda box: volume.read(box.shift(part.start))), 0
    command = shlex.join(["emgen", "import", where, f"{Path(where).stem}.ome.zarr"])
    raise EmgenError(
        f"{where} has {size / 1e9:.3g} GB, more than the {memory / 1e9:.3g} GB that are left for sources; make an "
        f"OME-Zarr of it, which is read patch by patch: {command}"
    )


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
