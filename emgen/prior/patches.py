"""Patches to learn from: planes of volumes, each batch a function of the seed and the step alone."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from emgen.errors import EmgenError
from emgen.geometry import Box, VoxelSize
from emgen.intensity import Intensity

ISOTROPIC = 1.3  # up to this anisotropy xz and yz planes are patches too
GAMMA, CONTRAST, ZOOM = 0.15, 0.1, (0.8, 1.25)

Planes = npt.NDArray[np.float32]

SOURCE = re.compile(r"(?P<path>.+?)(?:\[(?P<first>\d*):(?P<last>\d*)\])?(?:@(?P<voxel>[\d.,]+))?$")


@dataclass(frozen=True)
class Source:
    """One volume to learn from.

    Attributes:
        name: as given.
        voxels: scaled to about [-1, 1] (z, y, x).
        voxel: voxel size in nm.
        planes: orientations with in-plane resolution.
    """

    name: str
    voxels: Planes = field(repr=False)
    voxel: VoxelSize
    intensity: Intensity

    @property
    def planes(self) -> tuple[str, ...]:
        return ("xy", "xz", "yz") if self.voxel.anisotropy <= ISOTROPIC else ("xy",)

    @classmethod
    def open(cls, text: str, smallest: int) -> Source:
        """From "PATH[z0:z1]@VOXEL": a TIFF or OME-Zarr, sections z0 to z1 of it, its voxel size in nm.

        Args:
            text: sections and, for OME-Zarr, the voxel size may be left out.
            smallest: pixels that a patch needs along each side.

        Raises:
            EmgenError: missing, no voxel size, constant, not finite, or too small.
        """
        match = SOURCE.match(text)
        if match is None:
            raise EmgenError(
                f"expected a training source such as volume.tif[0:90]@8, found {text!r}"
            )
        voxels, voxel = _read(Path(match["path"]), match["voxel"])
        voxels = voxels[slice(*(int(n) if n else None for n in (match["first"], match["last"])))]
        try:
            intensity = Intensity.of([voxels]) if voxels.size else None
        except ValueError as error:
            raise EmgenError(f"training source {text}: {error}") from None
        if intensity is None or min(voxels.shape[1:]) < smallest:
            raise EmgenError(
                f"training source {text} has shape {voxels.shape}; patches need {smallest} pixels along y and x"
            )
        return cls(text, intensity.encode(voxels), voxel, intensity)

    def patch(self, rng: np.random.Generator, size: int) -> Planes:
        """A patch (size, size) from anywhere in it, in any of its orientations and the eight symmetries."""
        plane = self.planes[rng.integers(len(self.planes))]
        volume = np.moveaxis(self.voxels, {"xy": 0, "xz": 1, "yz": 2}[plane], 0)
        if min(volume.shape[1:]) < size:
            volume = self.voxels
        section = volume[rng.integers(len(volume))]
        side = min(round(size * rng.uniform(*ZOOM)), *section.shape) if rng.random() < 0.3 else size
        row, column = (rng.integers(n - side + 1) for n in section.shape)
        patch = _resized(section[row : row + side, column : column + side], size)
        patch = np.rot90(patch, int(rng.integers(4)))
        return np.ascontiguousarray(patch.T if rng.random() < 0.5 else patch)


def _read(path: Path, size: str | None) -> tuple[npt.NDArray[Any], VoxelSize]:
    if not path.exists():
        raise EmgenError(f"there is no training source at {path}")
    if path.suffix in (".tif", ".tiff"):
        import tifffile

        if size is None:
            raise EmgenError(
                f"training source {path}: a TIFF needs its voxel size in nm, such as {path.name}@8 or {path.name}@40,4,4"
            )
        voxels = tifffile.imread(path)
        return voxels.reshape(-1, *voxels.shape[-2:]), VoxelSize.parse(size)
    from emgen.volume import Volume

    volume = Volume.open(path)
    return volume.read(Box.whole(volume.shape)), VoxelSize.parse(size) if size else volume.voxel


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


def jittered(patch: Planes, rng: np.random.Generator) -> Planes:
    """Mild changes of gamma, contrast and brightness; other microscopes, other detectors."""
    unit = np.clip((patch + 1) / 2, 0, None) ** np.float32(np.exp(rng.normal() * GAMMA))
    contrast, brightness = np.exp(rng.normal() * CONTRAST), rng.normal() * CONTRAST / 2
    return ((unit * 2 - 1) * np.float32(contrast) + np.float32(brightness)).astype(np.float32)


def batch(
    sources: Sequence[Source], weights: Sequence[float], seed: int, step: int, count: int, size: int
) -> Planes:
    """The patches of a training step, (count, 1, size, size): the same for the same seed and step."""
    rng = np.random.default_rng([seed, step])
    share = np.asarray(weights) / np.sum(weights)
    patches = [
        jittered(sources[rng.choice(len(sources), p=share)].patch(rng, size), rng)
        for _ in range(count)
    ]
    return np.stack(patches)[:, None]


def fixed(sources: Sequence[Source], count: int, size: int) -> Planes:
    """Patches to validate on, (count, 1, size, size), the same for ever, sources taking turns."""
    rng = np.random.default_rng(20_26)
    return np.stack([sources[i % len(sources)].patch(rng, size) for i in range(count)])[:, None]
