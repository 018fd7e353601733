"""The grey scale and the noise of a volume, decided together: noise widens the grey values that scaling looks at."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy.typing as npt

from emgen.config.restore import NoiseSetting
from emgen.errors import EmgenError
from emgen.physics.noise_model import NoiseModel
from emgen.volumes.intensity import Intensity


def fit_grey_scale(
    samples: Sequence[npt.NDArray[Any]], noise: NoiseSetting, path: str
) -> tuple[Intensity, NoiseModel]:
    """Scaling of a volume's grey values to the prior's range, as it would be without noise, and the noise.

    Args:
        samples: arrays (z, y, x) from all over the volume, NaN where nothing was measured.
        noise: the setting `restore.noise`.
        path: of the volume, for messages.

    Raises:
        EmgenError: no samples are left, or they are constant or not finite.
    """
    if not samples:
        raise EmgenError(
            f"none of the sampled voxels of {path} shows tissue; check input.lost, input.mask and input.no_data"
        )
    try:
        with_noise = Intensity.of(samples)
    except ValueError as error:
        raise EmgenError(f"{path} cannot be restored: {error}") from None
    model = NoiseModel.from_setting(noise, samples, with_noise.middle)
    intensity = with_noise.without_noise(samples, model.correlation_ratio * model.rms(samples))
    # once more: the middle of the grey values has moved
    return intensity, NoiseModel.from_setting(noise, samples, intensity.middle)
