"""A measured volume as networks are shown it, for whoever looks for faults of the tissue and not for its absence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from emgen.config.input import Input
from emgen.geometry import Box
from emgen.physics.no_data import no_data_of
from emgen.physics.tissue import MEASURED, Tissue
from emgen.volumes.measured import Measured, Overlay
from emgen.volumes.samples import read_samples, says_absent


@dataclass(frozen=True)
class Shown(Overlay):
    """A volume whose sections are continued where nothing was measured. Sections that show no tissue stay as they are.

    Attributes:
        volume: below.
        rule: by which its voxels are told apart.
        grey: value of what is far from tissue.
    """

    rule: Tissue
    grey: float

    def read(self, box: Box) -> npt.NDArray[Any]:
        """The grey values of a box, made up where nothing was measured in a section with tissue."""
        around = self.rule.surroundings(box)
        voxels, absent = self.volume.read(around), self.volume.absent(around)
        seen = self.rule.seen(voxels, around, box, absent, self.grey)
        stored = voxels[box.relative_to(around).slices]
        if seen.states is None:
            return stored
        shows_tissue = (seen.states == MEASURED).any(axis=(1, 2), keepdims=True)
        return np.where(shows_tissue, seen.voxels, stored).astype(voxels.dtype)


def shown(measured: Measured, settings: Input) -> Measured:
    """A volume as networks are shown it; itself where all of it was measured.

    Args:
        volume: below.
        settings: of its input.
    """
    samples = read_samples(measured)
    no_data, rim = no_data_of(samples, measured.shape, settings.no_data, ())
    finite = all(bool(np.isfinite(sample).all()) for sample in samples)
    if not no_data and finite and not says_absent(measured):
        return measured
    rule = Tissue(
        measured.shape, no_data, (), rim, settings.holes, measured.voxel.anisotropy, always=True
    )
    tissue = rule.of_samples(measured, samples)[0]
    grey = float(np.nanmedian(np.concatenate([part.ravel() for part in tissue]))) if tissue else 0.0
    return Shown(measured, rule, grey)
