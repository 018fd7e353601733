"""Noise that is not what the settings say.

Laws: the response of every section to a mask that edges do not excite is noise, or finer than tissue, so the estimate is
never below the noise; a scan drags its noise along x, while tissue has no direction; and two sections, each recorded by
itself, share no noise.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from emgen.physics.noise_model import correlated_noise, white_noise
from emgen.run.inspection.finding import Finding
from emgen.run.inspection.look import Look, Numbers

# Times what the settings say; the estimate of white noise is right to a few per cent on noisy tissue
MORE, LESS = 1.5, 1.5
VISIBLE = (
    0.06  # of the contrast: below it noise is hardly seen, and the estimate is partly fine detail
)
# Times that neighbours along y differ more than along x: a scan runs along x, and a slow detector drags noise with it
DRAGGED = 1.35
# Correlation of the finest detail of neighbours. In the volumes measured 0.08 at most where z is twice as coarse or more,
# and 0.65 at most where it is not.
ALONG_Z, ALONG_ISOTROPIC_Z, COARSE = 0.3, 0.8, 1.8


def find(look: Look) -> Iterator[Finding]:
    """Noise against what was said, its correlation in the plane and along z."""
    planes = [np.asarray(plane)[None] for plane in look.planes]
    if not planes or look.contrast == 0:
        return
    white = white_noise(planes)
    yield from _level(look, planes, white)
    along_y, along_x = (np.median([_finest(p[0], axis) for p in planes]) for axis in (0, 1))
    if (
        look.restore.noise != "correlated"
        and along_y > DRAGGED * along_x > 0
        and white > VISIBLE / 2 * look.contrast
    ):
        yield Finding(
            what="correlated-noise",
            severity="note",
            sentence="Pixels seem to share their noise along the lines of the scan, as in fast scans.",
            evidence=f"the finest detail is {along_y / along_x:.2f} times as strong along y as along x",
            what_to_do="Try `restore: {noise: correlated}`.",
        )
    twins = look.traces.twins[np.isfinite(look.traces.twins)]
    limit = ALONG_Z if look.voxel.anisotropy > COARSE else ALONG_ISOTROPIC_Z
    if twins.size and np.median(twins) > limit:
        yield Finding(
            what="noise-along-z",
            severity="warn",
            sentence="Neighbouring sections share their noise: the volume was interpolated along z, or averaged.",
            evidence=f"correlation of the finest detail {np.median(twins):.2f}",
            what_to_do="Use the volume as it was measured, and give its section distance as the voxel size.",
        )


def _finest(plane: Numbers, axis: int) -> float:
    """Median of the second difference along an axis."""
    return float(np.median(np.abs(np.diff(plane, 2, axis=axis))))


def _level(look: Look, planes: list[Numbers], white: float) -> Iterator[Finding]:
    said = look.restore.noise
    if not isinstance(said, int | float):
        return
    if white > max(MORE * said, said + VISIBLE * look.contrast):
        yield Finding(
            what="noise-understated",
            severity="warn",
            sentence=f"The input has noise of about {white:.0f} grey values; restore.noise says {said:g}.",
            evidence=f"white noise {white:.1f}, contrast {look.contrast:.0f} grey values",
            what_to_do=f"Set `restore: {{noise: {white:.0f}}}`, or leave it out.",
        )
    elif said > LESS * white and said > LESS * (shared := correlated_noise(planes)[0]):
        yield Finding(
            what="noise-overstated",
            severity="warn",
            sentence=f"The input has noise of about {white:.0f} grey values; restore.noise says {said:g}, which smooths.",
            evidence=f"noise {shared:.1f} at most, contrast {look.contrast:.0f} grey values",
            what_to_do=f"Set `restore: {{noise: {white:.0f}}}`, or leave it out.",
        )
