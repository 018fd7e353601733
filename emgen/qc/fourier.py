"""Fourier shell correlation: down to which size two volumes tell the same story.

        z (frequency)
        |  axial: within 20 degrees of z         what restoring the sections has to earn
        | /
        |/______ x, y   lateral: beyond 70 degrees of z

Sums are kept per shell and per sector, never ratios, so tiles of one volume add up (Welch). Shells
lie in physical frequency (1/nm): neither cubes nor isotropic voxels are needed.

FSC does not see linear filtering: an over-smoothed volume has a perfect curve. It is reported
together with the power ratio of this module, PSNR and SSIM, which do see it.

Correlation: Harauz and van Heel, Optik 73 (1986). Thresholds: 0.5 against a reference, 0.143
between two independent halves (Rosenthal and Henderson, J. Mol. Biol. 333, 2003).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import scipy.fft
import scipy.ndimage

from emgen.geometry import VoxelSize, Zyx, zyx

Sector = Literal["spherical", "axial", "lateral"]
SECTORS: tuple[Sector, ...] = ("spherical", "axial", "lateral")
# Angles from the z axis. Narrow enough to tell z from the plane, wide enough for hundreds of
# coefficients a shell in a tile of 64 voxels.
AXIAL_DEGREES = 20.0
LATERAL_DEGREES = 70.0

# In voxels. A shift of at most the first is what phase correlation resolves (1/20 voxel) and not worth
# an interpolation; one from the second on is not a matter of sampling but of a wrong pair of volumes,
# and is reported rather than repaired.
MIN_SHIFT = 0.05
MAX_SHIFT = 3.0

# Fewer coefficients correlate by chance, with a standard deviation above 1 / sqrt(8) = 0.35: the first
# axial shells of a single tile.
MIN_COEFFICIENTS = 8


@dataclass(frozen=True)
class Registration:
    """The shift that brings the second volume onto the first.

    Attributes:
        voxels: along (z, y, x).
        nm: the same in nanometres.
        applied: whether `align` shifts by it.
        reason: why, or why not.
    """

    voxels: tuple[float, float, float]
    nm: tuple[float, float, float]
    applied: bool
    reason: str


@dataclass(frozen=True, eq=False)
class ShellSums:
    """Sums over the Fourier coefficients of two windowed volumes, per sector and shell.

    Arrays are (sectors, shells), the sectors in the order of `SECTORS`.

    Attributes:
        voxel: size of both volumes' voxels.
        width: of a shell in 1/nm; shell k holds the frequencies nearest to k * width.
        cross: sum of Re(A B*).
        power_a: sum of |A|^2, the first volume (the reference, if one is).
        power_b: sum of |B|^2.
        count: coefficients, both members of a Friedel pair.
    """

    voxel: VoxelSize
    width: float
    cross: np.ndarray
    power_a: np.ndarray
    power_b: np.ndarray
    count: np.ndarray

    def __add__(self, other: ShellSums) -> ShellSums:
        """Both tiles together; `ValueError` where their shells differ."""
        if self.voxel != other.voxel or not math.isclose(self.width, other.width):
            raise ValueError(
                f"shell sums add up only for one voxel size and one shell width: found "
                f"{self.voxel} with {self.width:g}/nm and {other.voxel} with {other.width:g}/nm; "
                f"pass the same width to shell_sums for every tile"
            )
        return ShellSums(
            self.voxel,
            self.width,
            self.cross + other.cross,
            self.power_a + other.power_a,
            self.power_b + other.power_b,
            self.count + other.count,
        )


@dataclass(frozen=True, eq=False)
class FscCurve:
    """Correlation against frequency in one sector; shells of too few coefficients are left out.

    Attributes:
        sector: directions that count.
        frequency: of the shells in 1/nm, up to `nyquist`.
        correlation: in [-1, 1].
        n: coefficients per shell.
        nyquist: the highest frequency (1/nm) that every direction of the sector resolves.
    """

    sector: Sector
    frequency: np.ndarray
    correlation: np.ndarray
    n: np.ndarray
    nyquist: float


@dataclass(frozen=True)
class Resolution:
    """Where a curve first falls below a threshold.

    Attributes:
        threshold: a correlation.
        value_nm: the period there; None where no value can be given.
        at_nyquist: the curve never falls below, so the value is the two-voxel limit, and the
            resolution that or better.
        reason: why there is no value, or what the value is.
    """

    threshold: float
    value_nm: float | None
    at_nyquist: bool
    reason: str


def register(a: np.ndarray, b: np.ndarray, voxel: VoxelSize) -> Registration:
    """Find the shift that brings `b` onto `a` by phase correlation, to about 0.05 voxel.

    Guizar-Sicairos et al., Optics Letters 33 (2008), as in scikit-image.

    Args:
        a: (z, y, x), the reference.
        b: of the same shape.
        voxel: size of both volumes' voxels.

    Raises:
        ValueError: the shapes differ or are not (z, y, x).
    """
    _check_pair(a, b)
    if _is_flat(a) or _is_flat(b):
        still = (0.0, 0.0, 0.0)
        return Registration(still, still, False, "a volume without contrast cannot be registered")
    coarse = _phase_shift(a, b)
    whole = np.rint(coarse)
    if np.abs(coarse).max() < MAX_SHIFT and whole.any():
        # The window, at the same place in both, draws the peak towards zero: look again from near.
        coarse = whole + _phase_shift(*_shared(a, b, whole))
    z, y, x = (float(shift) + 0.0 for shift in coarse)
    nm = (z * voxel.z, y * voxel.y, x * voxel.x)
    largest = max(abs(z), abs(y), abs(x))
    if largest <= MIN_SHIFT:
        return Registration((z, y, x), nm, False, f"at most {MIN_SHIFT} voxel")
    if largest >= MAX_SHIFT:
        reason = f"{MAX_SHIFT:g} voxels or more: not a shift of sampling"
        return Registration((z, y, x), nm, False, reason)
    return Registration((z, y, x), nm, True, "shifted onto the reference")


def align(
    a: np.ndarray, b: np.ndarray, registration: Registration
) -> tuple[np.ndarray, np.ndarray]:
    """Crop both volumes to the voxels that they share once `b` is shifted onto `a`.

    Whole voxels are cropped, only the rest is interpolated (cubic spline, a linear filter, which FSC
    does not see).

    Returns:
        `a` and `b`, unchanged unless `registration.applied`.
    """
    if not registration.applied:
        return a, b
    whole = np.rint(registration.voxels)
    a, b = _shared(a, b, whole)
    rest = registration.voxels - whole
    return a, scipy.ndimage.shift(b.astype(np.float64), rest, order=3, mode="reflect")


def shell_width(shape: Zyx, voxel: VoxelSize) -> float:
    """The coarsest frequency step of a tile, in 1/nm: every shell then has coefficients."""
    steps = [1 / (n * size) for n, size in zip(shape, voxel, strict=True) if n > 1]
    if not steps:
        raise ValueError(f"expected a tile of more than one voxel, found shape {tuple(shape)}")
    return max(steps)


def shell_sums(
    a: np.ndarray,
    b: np.ndarray,
    voxel: VoxelSize,
    *,
    width: float | None = None,
    registration: Registration | None = None,
) -> ShellSums:
    """Sum the Fourier coefficients of one tile over shells and sectors.

    The mean is removed and a Hann window applied: without it the jump between opposite faces
    fills every shell with correlated power.

    Args:
        a: (z, y, x), the reference, if one is.
        b: of the same shape.
        voxel: size of both volumes' voxels.
        width: of a shell in 1/nm, the same for all tiles that are to be added; by default
            `shell_width` of this tile.
        registration: shifts `b` first.

    Raises:
        ValueError: the shapes differ or are not (z, y, x).
    """
    _check_pair(a, b)
    step = shell_width(zyx(a.shape), voxel) if width is None else width
    if registration is not None:
        a, b = align(a, b, registration)
    window = _window(zyx(a.shape))
    fa = scipy.fft.rfftn(_windowed(a, window))
    fb = scipy.fft.rfftn(_windowed(b, window))
    cross = fa.real * fb.real + fa.imag * fb.imag
    power_a = fa.real**2 + fa.imag**2
    power_b = fb.real**2 + fb.imag**2
    bins, friedel, members = _shells(zyx(a.shape), voxel, step)
    shells = _shell_count(voxel, step)

    def per_shell(values: np.ndarray) -> np.ndarray:
        weighted = values.reshape(-1) * friedel
        return np.stack([np.bincount(bins[m], weighted[m], minlength=shells) for m in members])

    return ShellSums(
        voxel,
        step,
        per_shell(cross),
        per_shell(power_a),
        per_shell(power_b),
        per_shell(np.ones(bins.shape)).astype(np.int64),
    )


def curve(sums: ShellSums, sector: Sector = "spherical") -> FscCurve:
    """The Fourier shell correlation of one sector, from the first shell to its Nyquist frequency.

    Per shell sum Re(A B*) / sqrt(sum |A|^2 sum |B|^2).
    """
    row = SECTORS.index(sector)
    nyquist = _nyquist(sums.voxel)[sector]
    frequency = np.arange(sums.count.shape[1]) * sums.width
    power = np.sqrt(sums.power_a[row] * sums.power_b[row])
    kept = (sums.count[row] >= MIN_COEFFICIENTS) & (power > 0) & (frequency <= nyquist * (1 + 1e-9))
    kept[:1] = False  # the mean: removed, and no detail
    correlation = np.clip(sums.cross[row][kept] / power[kept], -1.0, 1.0)
    return FscCurve(sector, frequency[kept], correlation, sums.count[row][kept], nyquist)


def resolution(fsc: FscCurve, threshold: float = 0.5) -> Resolution:
    """The period at the first downward crossing, linearly interpolated between shells."""
    f, c = fsc.frequency, fsc.correlation
    if not f.size:
        return Resolution(threshold, None, False, "no shell with contrast in both volumes")
    if c[0] < threshold:
        reason = f"below {threshold:g} from the first shell on ({1 / f[0]:.4g} nm)"
        return Resolution(threshold, None, False, reason)
    below = np.flatnonzero(c < threshold)
    if not below.size:
        reason = f"never below {threshold:g}: Nyquist (two voxels) or better"
        return Resolution(threshold, 1 / fsc.nyquist, True, reason)
    k = int(below[0])
    crossing = f[k - 1] + (f[k] - f[k - 1]) * (c[k - 1] - threshold) / (c[k - 1] - c[k])
    return Resolution(threshold, float(1 / crossing), False, f"crosses {threshold:g}")


def power_ratio(
    sums: ShellSums, sector: Sector, band: tuple[float, float] = (0.5, 1.0)
) -> float | None:
    """Power of the second volume over that of the first (the reference) at high frequencies.

    Below 1 the volume is smoother than the reference, above 1 it has more detail or more noise: FSC
    sees neither.

    Args:
        sums: of all tiles.
        sector: directions that count.
        band: lowest and highest frequency, in units of the sector's Nyquist frequency.

    Returns:
        The ratio; None where the reference has no power.
    """
    row, nyquist = SECTORS.index(sector), _nyquist(sums.voxel)[sector]
    frequency = np.arange(sums.count.shape[1]) * sums.width
    inside = (frequency >= band[0] * nyquist) & (frequency <= band[1] * nyquist * (1 + 1e-9))
    reference = float(sums.power_a[row][inside].sum())
    return float(sums.power_b[row][inside].sum()) / reference if reference > 0 else None


def _check_pair(a: np.ndarray, b: np.ndarray) -> None:
    if a.ndim != 3 or a.shape != b.shape or not a.size:
        raise ValueError(
            f"expected two volumes (z, y, x) of one shape, found {a.shape} and {b.shape}"
        )


def _phase_shift(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    from skimage.registration import phase_cross_correlation  # half a second to import

    window = _window(zyx(a.shape))
    shift, _, _ = phase_cross_correlation(
        _windowed(a, window), _windowed(b, window), upsample_factor=20
    )
    return np.asarray(shift)


def _shared(a: np.ndarray, b: np.ndarray, whole: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The voxels that `a` shares with `b` shifted by whole voxels."""
    steps = [(int(w), n) for w, n in zip(whole, a.shape, strict=True)]
    of_a = tuple(slice(max(0, w), n + min(0, w)) for w, n in steps)
    of_b = tuple(slice(max(0, -w), n - max(0, w)) for w, n in steps)
    return a[of_a], b[of_b]


def _is_flat(volume: np.ndarray) -> bool:
    return bool(volume.min() == volume.max())


def _window(shape: Zyx) -> np.ndarray:
    wz, wy, wx = (_hann(n) if n > 1 else np.ones(1) for n in shape)
    return np.asarray(wz[:, None, None] * wy[:, None] * wx)


def _hann(n: int) -> np.ndarray:
    """The periodic Hann window of n samples, (1 + cos u) / 2 for u from -pi on."""
    return 0.5 + 0.5 * np.cos(np.linspace(-np.pi, np.pi, n + 1)[:-1])


def _windowed(volume: np.ndarray, window: np.ndarray) -> np.ndarray:
    """The volume less its mean under the window, times the window, in float64.

    In single precision the rounding of strong low frequencies would drown weak high ones.
    """
    if _is_flat(volume):
        return np.zeros(volume.shape)
    volume = volume.astype(np.float64)
    mean = float((volume * window).sum() / window.sum())
    return np.asarray((volume - mean) * window)


def _nyquist(voxel: VoxelSize) -> dict[Sector, float]:
    """The highest frequency (1/nm) that every direction of a sector resolves."""
    return {
        "spherical": 1 / (2 * max(voxel)),
        "axial": 1 / (2 * voxel.z),
        "lateral": 1 / (2 * max(voxel.y, voxel.x)),
    }


def _shell_count(voxel: VoxelSize, width: float) -> int:
    return int(1 / (2 * min(voxel)) / width + 0.5) + 1


@lru_cache(maxsize=4)
def _shells(
    shape: Zyx, voxel: VoxelSize, width: float
) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, ...]]:
    """Per coefficient of a flattened rfftn: its shell, its weight; and the members of each sector.

    The half spectrum of `rfftn` holds each Friedel pair once, except in its first and, for an even
    length, last plane.
    """
    fz, fy = (np.fft.fftfreq(n, d) for n, d in zip(shape[:2], (voxel.z, voxel.y), strict=True))
    fx = np.fft.rfftfreq(shape[2], voxel.x)
    radius = np.sqrt(fz[:, None, None] ** 2 + fy[:, None] ** 2 + fx**2)
    with np.errstate(invalid="ignore"):
        cosine = np.abs(fz)[:, None, None] / radius
    friedel = np.full(fx.size, 2.0)
    friedel[0] = 1.0
    if shape[2] % 2 == 0:
        friedel[-1] = 1.0
    bins = np.floor(radius / width + 0.5).astype(np.int32).reshape(-1)
    inside = bins < _shell_count(voxel, width)
    axial = (cosine >= math.cos(math.radians(AXIAL_DEGREES))).reshape(-1)
    lateral = (cosine < math.cos(math.radians(LATERAL_DEGREES))).reshape(-1)
    members = tuple(np.flatnonzero(inside & m) for m in (np.ones_like(axial), axial, lateral))
    return bins, np.broadcast_to(friedel, radius.shape).reshape(-1), members
