"""Whether measured voxels are only noise: empty resin, which no network need see.

Noise is known by its reach. A detector smears it over `REACH` pixels at most, and what lies farther apart has nothing in
common; tissue goes on for longer. So the noise is taken from the voxels themselves, as what is shared over `REACH` pixels
and no farther, and four things must hold of every section together, after a slow change of brightness is taken away:

- squares of pixels vary as much as that noise lets them, and hardly more: no texture all over;
- their grey values lie as those of noise do, and neighbouring sections have nothing in common: no texture that is finer;
- no square, tile or row of squares is beyond what chance gives so many of them: no membrane, no vesicle in a corner;
- there are enough pixels to tell.

Offset and scale of the grey values do not matter. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

REACH = 3
"""Pixels over which a detector, or a picture that was resampled, smears noise."""
MOST_POWER = {1: 1.02, 4: 1.1, 8: 1.25}
"""Variance of squares of so many pixels on a side, against that of the noise. Noise alone gives 1; the faint texture of
a nucleus gave 1.04, 1.11 and 1.31 at least, in 45 pieces of 128 x 128 pixels."""
MOST_SKEW, MOST_TAILS, MOST_IN_COMMON = 0.6, 0.5, 0.15
"""Of squares of 2 pixels the third moment and the excess of the fourth, both 0 for noise that adds up: in resin up to 0.16
and 0.35, and 0.5 where white is saturated. Fine tissue has two kinds of grey values, and an excess of -0.5 to -1.2. Of
squares of 4 pixels the correlation with those of the next section: 0 for noise, from 0.27 in tissue."""
LEAST_SQUARES = 256
"""Squares of 8 pixels: the variance of fewer is not known to 9 %, sqrt(2 / 256), and texture not told from noise."""
CHANCE = 1e-3
"""Of pure noise being taken for structure by any one of the searches: noise may be kept, tissue must not be lost."""
SQUARE = 4
ROWS = ((4, 2, 4), (2, 1, 8))
"""Squares of so many pixels, so many apart, so many in a row: searched for lines of 16 pixels, and of three times that."""
ANGLES = 8

Grey = npt.NDArray[Any]
Known = npt.NDArray[np.bool_]
Values = npt.NDArray[np.float32]


def is_only_noise(voxels: Grey, known: Known | None = None) -> bool:
    """Whether nothing but noise is seen in a box of voxels (z, y, x).

    Args:
        voxels: grey values.
        known: which of them were measured, None where all were; the others do not count.
    """
    return all(sign <= 1 for _, sign in signs(voxels, known))


def signs(voxels: Grey, known: Known | None = None) -> Iterator[tuple[str, float]]:
    """Every sign of structure, as a multiple of what noise may show; those that tell most for least work first.

    Args:
        voxels: see `is_only_noise`.
        known: see there.
    """
    if known is None:
        known = np.ones(voxels.shape, bool)
    shown = known.any((1, 2))
    weight = known[shown].astype(np.float32)
    if (_squares(weight, 8, 8) == 1).sum() < LEAST_SQUARES:
        yield "too few pixels", np.inf
        return
    rest = _without_slow_change(np.where(known, voxels, 0)[shown], weight)
    shared, farther = _shared(rest, weight)

    def squares(size: int, step: int) -> tuple[Values, Known]:
        """Means of squares in deviations of the noise's, and which of them are wholly known."""
        noise = np.sqrt(_noise_of_squares(shared, farther, size))
        means = _squares(rest, size, step) / noise[:, None, None]
        return np.asarray(means, np.float32), np.asarray(_squares(weight, size, step) == 1)

    if not all((_noise_of_squares(shared, farther, size) > 0).all() for size in (1, 2, 4, 8)):
        yield "no noise", np.inf
        return
    for size, most in MOST_POWER.items():
        values, whole = squares(size, size)
        # six terms of each section went with the slow change
        free = max(int(whole.sum()) - 6 * len(rest), 1)
        yield (
            f"power of {size}",
            float(np.square(values[whole], dtype=np.float64).sum()) / free / most,
        )
    fine = _standard(*squares(2, 2))
    yield "skew", abs(float((fine**3).mean())) / MOST_SKEW
    yield "tails", abs(float((fine**4).mean()) - 3) / MOST_TAILS
    yield "in common", _in_common(*squares(SQUARE, SQUARE))
    yield "tile", _loudest_tile(*squares(SQUARE, SQUARE))
    yield "wide square", _highest(*squares(2 * SQUARE, SQUARE))
    for size, step, length in ROWS:
        values, whole = squares(size, step)
        yield f"square of {size}", _highest(values, whole)
        for turn in range(ANGLES):
            angle = np.pi * turn / ANGLES
            rows, complete = values, whole.astype(np.float32)
            for count, pixels in ((length, size), (3, length * size)):
                move = (pixels / step * np.sin(angle), pixels / step * np.cos(angle))
                rows, complete = (_added(part, count, move) for part in (rows, complete))
                number = length if pixels == size else 3 * length
                yield (
                    f"row of {number} at {180 * turn // ANGLES}",
                    _highest(rows, complete == number),
                )


def _squares(values: Values, size: int, step: int) -> Values:
    """Means of squares, `step` pixels apart."""
    if size == 1:
        return values
    for axis in (1, 2):
        n = values.shape[axis]
        count = max((n - size) // step + 1, 0)
        starts = [
            np.take(values, range(k, k + step * count, step)[:count], axis=axis)
            for k in range(size)
        ]
        values = np.sum(starts, axis=0) / np.float32(size)
    return values


def _without_slow_change(voxels: Grey, weight: Values) -> Values:
    """What a quadratic surface leaves of every section: charging and shading are not tissue. 0 where nothing is known."""
    depth, height, width = voxels.shape
    y, x = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    terms = np.stack([np.ones_like(y), y, x, y * y, x * y, x * x]).reshape(6, -1)
    rest = np.empty(voxels.shape, np.float32)
    for k in range(depth):
        here = weight[k].ravel() > 0
        grey = voxels[k].ravel()[here].astype(np.float64)
        grey = grey - grey.mean()
        used = terms[:, here]
        surface = np.linalg.lstsq(used @ used.T, used @ grey, rcond=None)[0] @ used
        flat = np.zeros(height * width, np.float32)
        flat[here] = grey - surface
        rest[k] = flat.reshape(height, width)
    return rest


def _shared(rest: Values, weight: Values) -> tuple[dict[tuple[int, int], Values], Values]:
    """Covariance in every section at every distance (y, x) within reach, and just beyond it."""

    def covariance(down: int, right: int) -> Values:
        height, width = rest.shape[1:]
        near = (slice(None), slice(0, height - down), slice(max(-right, 0), width - max(right, 0)))
        far = (slice(None), slice(down, height), slice(max(right, 0), width + min(right, 0)))
        pairs = np.einsum("zyx,zyx->z", weight[near], weight[far])
        total = np.einsum("zyx,zyx->z", rest[near], rest[far])
        return np.asarray(total / np.maximum(pairs, 1))

    within = [
        (down, right)
        for down in range(REACH + 1)
        for right in range(-REACH, REACH + 1)
        if down > 0 or right >= 0
    ]
    out = REACH + 1
    beyond = [covariance(*at) for at in ((out, 0), (0, out), (out, out), (out, -out))]
    return {at: covariance(*at) for at in within}, np.mean(beyond, axis=0)


def _noise_of_squares(
    shared: dict[tuple[int, int], Values], farther: Values, size: int
) -> npt.NDArray[np.float64]:
    """Variance of the mean of a square in every section, if there is noise only."""
    total = np.zeros(len(farther))
    for (down, right), covariance in shared.items():
        pairs = max(size - down, 0) * max(size - abs(right), 0)
        total += (1 if down == right == 0 else 2) * pairs * (covariance - farther)
    return total / size**4


def _standard(values: Values, whole: Known) -> Values:
    """The values that are whole, each divided by the deviation of its section."""
    count = np.maximum(whole.sum((1, 2)), 1)
    spread = np.sqrt(np.where(whole, np.square(values), 0).sum((1, 2)) / count)
    return np.asarray(
        (values / np.maximum(spread, np.finfo(np.float32).tiny)[:, None, None])[whole]
    )


def _in_common(values: Values, whole: Known) -> float:
    """Correlation of sections with the next, against its limit."""
    both = whole[1:] & whole[:-1]
    a, b = (part[both].astype(np.float64) for part in (values[1:], values[:-1]))
    norm = np.sqrt((a @ a) * (b @ b))
    return float(abs(a @ b) / norm / MOST_IN_COMMON) if norm else 0.0


def _highest(values: Values, whole: Known) -> float:
    """The highest of many values, against what chance gives the highest of so many; 0 without any."""
    chosen = values[whole]
    if not chosen.size:
        return 0.0
    spread = float(np.square(chosen, dtype=np.float64).mean() ** 0.5)
    limit = -special.ndtri(CHANCE / 2 / chosen.size)
    return float(np.abs(chosen).max() / spread / limit) if spread else 0.0


def _loudest_tile(values: Values, whole: Known) -> float:
    """As `_highest`, of the variance in tiles of 4 x 4 squares."""
    power = _squares(np.where(whole, np.square(values), 0), 4, 4)
    power = power[_squares(whole.astype(np.float32), 4, 4) == 1]
    if not power.size:
        return 0.0
    limit = special.chdtri(16, CHANCE / power.size) / 16
    return float(power.max() / power.mean() / limit)


def _added(values: Values, count: int, move: tuple[float, float]) -> Values:
    """Sums of so many values, each moved on by so much (y, x) from the one before."""
    places = [tuple(round(k * along) for along in move) for k in range(count)]
    low = [min(at[axis] for at in places) for axis in (0, 1)]
    high = [max(at[axis] for at in places) for axis in (0, 1)]
    height, width = (max(n - b + a, 0) for n, a, b in zip(values.shape[1:], low, high, strict=True))
    total = np.zeros((len(values), height, width), np.float32)
    if total.size:
        for down, right in places:
            y, x = down - low[0], right - low[1]
            total += values[:, y : y + height, x : x + width]
    return total
