"""Faults that microscopes, programs and people make, planted in a volume that has none of them."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import scipy.ndimage
import scipy.spatial

from emgen.physics.noise_model import white_noise

Rng = np.random.Generator


@dataclass
class Case:
    """A volume with its settings."""

    voxels: np.ndarray
    voxel: tuple[float, float, float]
    settings: dict = field(default_factory=dict)


Fault = Callable[[Case, Rng], Case | None]
FAULTS: dict[str, tuple[Fault, tuple[str, ...]]] = {}
"""Faults by name, with the findings of which one must be made."""


def fault(name: str, *codes: str) -> Callable[[Fault], Fault]:
    def add(plant: Fault) -> Fault:
        FAULTS[name] = plant, codes
        return plant

    return add


def grey(voxels: np.ndarray) -> np.ndarray:
    """As 8 bits."""
    return np.clip(np.rint(voxels), 0, 255).astype(np.uint8)


def inner(case: Case, rng: Rng, count: int = 1) -> int:
    """The first of `count` sections that are not at an end."""
    return int(rng.integers(2, len(case.voxels) - 2 - count))


@fault("shifted 2-5 px", "jitter")
def _(case: Case, rng: Rng) -> Case | None:
    out = case.voxels.copy()
    for k in range(len(out)):
        out[k] = np.roll(out[k], rng.integers(2, 6, 2) * rng.choice([-1, 1], 2), (0, 1))
    case.voxels = out[:, 6:-6, 6:-6]
    return case


@fault("one jump of 8-14 px", "position-jumps", "jitter")
def _(case: Case, rng: Rng) -> Case | None:
    k, out = inner(case, rng), case.voxels.copy()
    out[k:] = np.roll(out[k:], rng.integers(6, 10, 2) * rng.choice([-1, 1], 2), (1, 2))
    case.voxels = out[:, 10:-10, 10:-10]
    return case


@fault("brightness +-30", "brightness-jumps")
def _(case: Case, rng: Rng) -> Case | None:
    case.voxels = grey(case.voxels + rng.uniform(-30, 30, (len(case.voxels), 1, 1)))
    return case


@fault("one section 25-50 brighter or darker", "brightness-jumps")
def _(case: Case, rng: Rng) -> Case | None:
    k, out = inner(case, rng), case.voxels.astype(float)
    out[k] += rng.uniform(25, 50) * rng.choice([-1, 1])
    case.voxels = grey(out)
    return case


@fault("one section with half the contrast", "contrast-jumps")
def _(case: Case, rng: Rng) -> Case | None:
    k, out = inner(case, rng), case.voxels.astype(float)
    out[k] = out[k].mean() + rng.uniform(0.35, 0.55) * (out[k] - out[k].mean())
    case.voxels = grey(out)
    return case


@fault("shuffled", "shuffled-sections")
def _(case: Case, rng: Rng) -> Case | None:
    case.voxels = case.voxels[rng.permutation(len(case.voxels))]
    return case if len(case.voxels) >= 10 else None


@fault("every third missing", "uneven-sections", "missing-sections", "shuffled-sections")
def _(case: Case, rng: Rng) -> Case | None:
    case.voxels = case.voxels[np.arange(len(case.voxels)) % 3 != rng.integers(3)]
    return case if len(case.voxels) >= 9 else None


@fault("two to four neighbours missing", "missing-sections")
def _(case: Case, rng: Rng) -> Case | None:
    k = inner(case, rng, 2)
    case.voxels = np.delete(
        case.voxels, range(k, min(k + rng.integers(2, 5), len(case.voxels) - 3)), axis=0
    )
    return case if len(case.voxels) >= 12 else None


@fault("two black with faint noise", "faint-sections")
def _(case: Case, rng: Rng) -> Case | None:
    k, out = inner(case, rng, 2), case.voxels.copy()
    out[k : k + 2] = grey(np.abs(rng.normal(0, rng.uniform(0.5, 3), out[k : k + 2].shape)))
    case.voxels = out
    return case


@fault("two neighbours swapped", "swapped-sections")
def _(case: Case, rng: Rng) -> Case | None:
    k, out = inner(case, rng, 2), case.voxels.copy()
    out[[k, k + 1]] = out[[k + 1, k]]
    case.voxels = out
    return case


@fault("one section from elsewhere", "foreign-sections")
def _(case: Case, rng: Rng) -> Case | None:
    k, out = inner(case, rng), case.voxels.copy()
    out[k] = out[(k + len(out) // 2) % len(out)][::-1, ::-1]
    case.voxels = out
    return case


@fault("one duplicated", "copied-sections")
def _(case: Case, rng: Rng) -> Case | None:
    k, out = inner(case, rng), case.voxels.copy()
    out[k] = out[k - 1]
    case.voxels = out
    return case


@fault("one duplicated, brighter", "copied-sections")
def _(case: Case, rng: Rng) -> Case | None:
    k, out = inner(case, rng), case.voxels.copy()
    out[k] = grey(rng.uniform(0.9, 1.1) * out[k - 1].astype(float) + rng.uniform(-10, 10))
    case.voxels = out
    return case


@fault("one out of focus", "blurred-sections")
def _(case: Case, rng: Rng) -> Case | None:
    k, out = inner(case, rng), case.voxels.astype(float)
    out[k] = scipy.ndimage.gaussian_filter(out[k], rng.uniform(1.2, 3))
    case.voxels = grey(out)
    return case


@fault("one with three times the noise", "noisy-sections")
def _(case: Case, rng: Rng) -> Case | None:
    k, out = inner(case, rng), case.voxels.astype(float)
    out[k] += rng.normal(0, 2.8 * white_noise([case.voxels]), out[k].shape)
    case.voxels = grey(out)
    return case


@fault("contrast inverted", "inverted-contrast")
def _(case: Case, rng: Rng) -> Case | None:
    case.voxels = 255 - case.voxels
    return case


@fault("white noise", "no-tissue")
def _(case: Case, rng: Rng) -> Case | None:
    case.voxels = grey(rng.normal(rng.uniform(90, 160), rng.uniform(10, 60), case.voxels.shape))
    return case


@fault("text", "no-tissue")
def _(case: Case, rng: Rng) -> Case | None:
    letters = (
        rng.random((case.voxels.shape[0], *(n // 8 + 1 for n in case.voxels.shape[1:]), 5, 3)) < 0.5
    )
    page = np.full(
        (case.voxels.shape[0], letters.shape[1] * 8, letters.shape[2] * 8), 255, np.uint8
    )
    for y in range(5):
        for x in range(3):
            page[:, 1 + y :: 8, 2 + x :: 8] = np.where(letters[..., y, x], 20, 255)
    case.voxels = page[:, : case.voxels.shape[1], : case.voxels.shape[2]]
    return case


@fault("a segmentation", "no-tissue")
def _(case: Case, rng: Rng) -> Case | None:
    z, y, x = shape = case.voxels.shape
    seeds = rng.random((max(8, z * y * x // 20_000), 3)) * shape
    places = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    nearest = scipy.spatial.KDTree(seeds).query(places)[1]
    case.voxels = nearest.astype(np.uint16)
    return case


def resized(case: Case, share: float) -> Case:
    z, y, x = case.voxel
    case.voxel = (z * share, y, x)
    return case


@fault("taken for twice the factor", "section-distance-unlike-texture")
def _(case: Case, rng: Rng) -> Case | None:
    return resized(case, 2)


@fault("taken for half the factor", "section-distance-unlike-texture", "nothing-to-restore")
def _(case: Case, rng: Rng) -> Case | None:
    return resized(case, 0.5) if case.voxel[0] / case.voxel[1] > 1.9 else None


@fault("axes swapped in the voxel size", "swapped-axes", "nothing-to-restore")
def _(case: Case, rng: Rng) -> Case | None:
    z, y, x = case.voxel
    case.voxel = ((y, z, x), (x, y, z))[rng.integers(2)]
    case.settings = {"mode": "isotropic"}
    return case if z / y > 1.9 else None


@fault("axes of the data swapped", "swapped-axes", "pixels-unlike-texture")
def _(case: Case, rng: Rng) -> Case | None:
    axis = int(rng.integers(1, 3))
    case.voxels = np.swapaxes(case.voxels, 0, axis)
    return case if case.voxel[0] / case.voxel[1] > 1.9 and case.voxels.shape[axis] >= 24 else None


@fault("pixels said to be twice as long along y or x", "pixels-unlike-texture", "swapped-axes")
def _(case: Case, rng: Rng) -> Case | None:
    z, y, x = case.voxel
    case.voxel = ((z, 2 * y, x), (z, y, 2 * x))[rng.integers(2)]
    return case


def noisy(case: Case, rng: Rng, said: float) -> Case:
    case.voxels = grey(case.voxels + rng.normal(0, 20, case.voxels.shape))
    case.settings = {"noise": said}
    return case


@fault("noise of 20 said to be 0", "noise-understated")
def _(case: Case, rng: Rng) -> Case | None:
    return noisy(case, rng, 0)


@fault("noise of 20 said to be 6", "noise-understated")
def _(case: Case, rng: Rng) -> Case | None:
    return noisy(case, rng, 6)


@fault("noise of 20 said to be 60", "noise-overstated")
def _(case: Case, rng: Rng) -> Case | None:
    return noisy(case, rng, 60)


@fault("noise shared along x", "correlated-noise")
def _(case: Case, rng: Rng) -> Case | None:
    noise = scipy.ndimage.gaussian_filter1d(
        rng.normal(0, 1, case.voxels.shape), rng.uniform(0.7, 1.2), axis=2
    )
    case.voxels = grey(case.voxels + 20 * noise / noise.std())
    return case


@fault("interpolated along z", "noise-along-z", "repeated-sections")
def _(case: Case, rng: Rng) -> Case | None:
    case.voxels = grey(
        scipy.ndimage.zoom(case.voxels[:40].astype(np.float32), (rng.integers(2, 4), 1, 1), order=1)
    )
    case.voxel = (case.voxel[0] / 2.5, *case.voxel[1:])
    return case if case.voxel[0] / case.voxel[1] > 1.9 else None


@fault("saturated", "saturated")
def _(case: Case, rng: Rng) -> Case | None:
    top = np.quantile(case.voxels, 1 - rng.uniform(0.04, 0.15))
    case.voxels = grey(np.minimum(case.voxels * (255 / top), 255))
    return case


@fault("wrapped around", "wrapped-values")
def _(case: Case, rng: Rng) -> Case | None:
    top = np.quantile(case.voxels, 1 - rng.uniform(0.03, 0.2))
    case.voxels = np.floor(case.voxels * (255 / top)).astype(np.int64).astype(np.uint8)
    return case


@fault("signed taken for unsigned", "wrapped-values")
def _(case: Case, rng: Rng) -> Case | None:
    case.voxels = (
        (case.voxels.astype(np.int16) - int(np.median(case.voxels))).astype(np.int8).view(np.uint8)
    )
    return case


@fault("palette", "few-grey-values")
def _(case: Case, rng: Rng) -> Case | None:
    levels = int(rng.integers(12, 65))
    table = np.unique(np.quantile(case.voxels, np.linspace(0, 1, levels)).astype(int))
    case.voxels = table[np.abs(np.searchsorted(table, case.voxels)).clip(0, len(table) - 1)].astype(
        np.uint8
    )
    return case if len(table) < 0.55 * (int(case.voxels.max()) - int(case.voxels.min())) else None


@fault("dead range", "narrow-range")
def _(case: Case, rng: Rng) -> Case | None:
    low, high = np.quantile(case.voxels, (0.001, 0.999))
    case.voxels = grey(20 + (case.voxels - low) / (high - low) * rng.uniform(6, 18))
    return case


@fault("one hot pixel in 16 bits", "hot-pixels")
def _(case: Case, rng: Rng) -> Case | None:
    case.voxels = case.voxels[:24, :96, :96].astype(np.uint16) * 16
    case.voxels[tuple(rng.integers(1, n - 1) for n in case.voxels.shape)] = 65535
    return case


@fault("a dead column of pixels through all sections", "hot-pixels")
def _(case: Case, rng: Rng) -> Case | None:
    out = case.voxels.copy()
    y, x = (rng.integers(1, n - 1, 8) for n in out.shape[1:])
    out[:, y, x] = rng.choice([0, 255], 8)
    case.voxels = out
    return case
