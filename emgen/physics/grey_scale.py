"""The grey scale and the noise of a volume, decided together: noise widens the grey values that scaling looks at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from emgen.config.restore import Level
from emgen.errors import EmgenError
from emgen.physics.noise_model import NoiseModel
from emgen.volumes.intensity import Intensity
from emgen.volumes.measured import Measured


def scaled(
    measured: Measured, seen: Sequence[npt.NDArray[Any]], noise: Level
) -> tuple[Intensity, NoiseModel]:
    """Scaling to the prior's range as it would be without noise, and the noise.

    Args:
        measured: the input.
        seen: samples of it (z, y, x), without lost sections.
        noise: see `restore.noise`.

    Raises:
        EmgenError: no samples are left, or they are constant or not finite.
    """
    if not seen:
        raise EmgenError(
            f"input.lost: none of the sampled sections of {measured.path} is left; check the numbers"
        )
    try:
        noisy = Intensity.of(seen)
    except ValueError as error:
        raise EmgenError(f"{measured.path} cannot be restored: {error}") from None
    detector = NoiseModel.from_setting(noise, seen, noisy.middle)
    intensity = noisy.narrowed(seen, detector.own * detector.typical(seen))
    return intensity, NoiseModel.from_setting(noise, seen, intensity.middle)
