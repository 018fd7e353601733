"""Axes and voxel sizes that do not fit the texture.

Law: tissue is on average alike in all directions. So the mean squared difference of voxels, which grows with their distance,
reaches that of neighbours along the coarsest axis at the same distance in nm along every axis. White noise adds the same
to all and changes nothing.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from emgen.geometry import VoxelSize
from emgen.modes import kind
from emgen.run.inspection.finding import Finding
from emgen.run.inspection.look import BLANK, PADDED, Grey, Look, Numbers, padded

# Times that texture and voxel size may disagree, either way. In the volumes measured 0.74 to 1.4, where it is known what is
# right; noise that pixels share, and sections do not, only makes sections seem farther apart.
FARTHER, NEARER = 1.55, 0.69
NOT_SQUARE = 1.6
LAGS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 14, 16, 20, 24, 32, 40, 48)  # pixels
SECTIONS_EACH = 3  # of every sample in which pixels are compared, and rows of which sections are
LEAST_SECTIONS, LEAST_SIDE = 4, 24
ABSURD = 32.0  # times coarser along z than what is restored at most


def find(look: Look) -> Iterator[Finding]:
    """Nothing to restore, swapped axes, a section distance or pixels unlike the texture."""
    if kind(look.restore).through_z and round(look.factor) <= 1:
        yield Finding(
            what="nothing-to-restore",
            severity="refuse",
            sentence=f"The voxels are {look.voxel}: z is as fine as y and x, so isotropic restoration would return the input.",
            evidence=f"factor {look.factor:g}",
            what_to_do="Give the right voxel size or `restore.factor`; or choose `restore: {mode: denoise}`.",
        )
    texture = measure(look.samples)
    if texture is None:
        return
    swapped = _swapped(look.voxel, texture.lengths)
    if swapped is not None:
        yield swapped
        return
    yield from _pixels(look.voxel, texture.lengths)
    yield from _sections(look, texture)


@dataclass(frozen=True)
class Texture:
    """How far tissue is alike.

    Attributes:
        lengths: voxels (z, y, x) over which it changes as much as between neighbours along the coarsest axis; infinite
            where it changes less within the longest lag.
        apart: pixels in the plane between which it changes as much as between two sections, by the number of steps, 1 and 2.
    """

    lengths: Numbers
    apart: tuple[float, float]


def measure(samples: list[Grey]) -> Texture | None:
    """The texture of a volume; None where too little was sampled."""
    parts = [longest_run(sample.astype(np.float32)) for sample in samples]
    parts = [part for part in parts if np.isfinite(part).all() and part.std() > 0]
    # the border of padding is alike along z and not in the plane
    parts = [part for part in parts if padded(part) < PADDED] or parts
    parts = [
        part for part in parts if len(part) >= LEAST_SECTIONS and min(part.shape[1:]) >= LEAST_SIDE
    ]
    if not parts:
        return None
    shape = [min(part.shape[axis] for part in parts) for axis in range(3)]
    lags = [[lag for lag in LAGS if lag <= max(2, shape[axis] // 3)] for axis in range(3)]
    curves = [_differences(parts, axis, lags[axis]) for axis in range(3)]
    level = max(curve[0] for curve in curves)
    lengths = np.array([_reached(*row, level) for row in zip(lags, curves, strict=True)])
    one, two = (
        [_reached(lags[axis], curves[axis], curves[0][step]) for axis in (1, 2)] for step in (0, 1)
    )
    return Texture(lengths, (float(np.prod(one) ** 0.5), float(np.prod(two) ** 0.5)))


def longest_run(sample: Grey) -> Grey:
    """The most sections (z, y, x) in a row that show an image: a blank one differs from any by all of its contrast."""
    contrast = sample.std(axis=(1, 2))
    if not (contrast > 0).any():  # nor of what holds no number
        return sample
    images = np.flatnonzero(contrast > BLANK * np.median(contrast[contrast > 0]))
    longest = max(np.split(images, np.flatnonzero(np.diff(images) > 1) + 1), key=len)
    return sample[longest[0] : longest[-1] + 1]


def _differences(parts: list[Grey], axis: int, lags: list[int]) -> Numbers:
    """Half the mean squared difference of voxels so far apart along an axis; jumps of brightness do not count."""
    result = []
    for lag in lags:
        total = count = 0.0
        for part in parts:
            near = part[:: max(1, len(part) // SECTIONS_EACH)] if axis else part[:, ::SECTIONS_EACH]
            ahead, behind = (
                near[(slice(None),) * axis + (cut,)]
                for cut in (slice(lag, None), slice(None, -lag))
            )
            step = ahead - behind
            step -= step.mean(axis=(1, 2), keepdims=True)
            total, count = total + float(np.square(step).sum()), count + step.size
        result.append(total / count / 2)
    return np.array(result)


def _reached(lags: list[int], curve: Numbers, level: float) -> float:
    """Where a rising curve, given at some lags from 1 on, reaches a level."""
    rising = np.maximum.accumulate(curve)
    if level > rising[-1]:
        return np.inf
    return float(level / rising[0]) if level <= rising[0] else float(np.interp(level, rising, lags))


def _swapped(voxel: VoxelSize, lengths: Numbers) -> Finding | None:
    if not np.isfinite(lengths).all():
        return None
    sizes = np.array([*voxel])

    def misfit(order: tuple[int, ...]) -> float:
        physical = np.log(sizes[list(order)] * lengths)
        return float(np.ptp(physical))

    orders = list(itertools.permutations(range(3)))
    best = min(orders, key=misfit)
    if misfit(best) > np.log(FARTHER) or misfit((0, 1, 2)) - misfit(best) < np.log(FARTHER):
        return None
    right = VoxelSize(*(float(sizes[i]) for i in best))
    return Finding(
        what="swapped-axes",
        severity="refuse",
        sentence=f"The texture says that axes are swapped: it fits voxels of {right}, not of {voxel}.",
        evidence="voxels over which the tissue changes equally (z, y, x): "
        + ", ".join(f"{n:.1f}" for n in lengths),
        what_to_do="Give the voxel size in the order z, y, x (`--voxel-size`); or bring the axes into that order.",
    )


def _pixels(voxel: VoxelSize, lengths: Numbers) -> Iterator[Finding]:
    if not np.isfinite(lengths[1:]).all():
        return
    texture_ratio, ratio = float(lengths[2] / lengths[1]), voxel.y / voxel.x
    if abs(np.log(texture_ratio / ratio)) > np.log(NOT_SQUARE):
        yield Finding(
            what="pixels-unlike-texture",
            severity="warn",
            sentence="The pixel sizes along y and x do not fit the texture.",
            evidence=f"y is {ratio:.2f} times x by the voxel size, {texture_ratio:.2f} times by the texture",
            what_to_do="Check the voxel size (`--voxel-size`, order z, y, x).",
        )
    elif abs(np.log(ratio)) > 0.05:
        yield Finding(
            what="pixels-not-square",
            severity="note",
            sentence=f"Pixels are not square: {voxel}.",
            evidence=f"y is {ratio:.2f} times x; by the texture {texture_ratio:.2f} times",
            what_to_do="Nothing, where the voxel size is right: z is brought to the finer of the two.",
        )


def _sections(look: Look, texture: Texture) -> Iterator[Finding]:
    """The section distance against the pixels, by the texture."""
    one, two = texture.apart
    size = (look.voxel.y * look.voxel.x) ** 0.5
    said = look.voxel.z / size
    apart = min(one, float(LAGS[-1]))
    if np.isfinite(two) and apart > said:
        # a step more: what noise that pixels share, and sections do not, adds to both goes out
        apart = min(apart, max(two - one, said))
    ratio = apart / said
    if ratio > FARTHER or (ratio < NEARER and np.isfinite(one)):
        yield Finding(
            what="section-distance-unlike-texture",
            severity="warn",
            sentence=f"By the texture sections lie about {apart:.1f} pixels apart, by the voxel size {said:.1f}.",
            evidence=f"the texture gives {ratio:.2f} times the distance of the voxel size",
            what_to_do="Is the voxel size right? Check it, and `restore.factor`.",
        )
