"""A measured volume with what its microscope did wrong set right: sections evened in brightness, hot pixels taken out.

What is done is decided once, in the plan; here it is applied to whatever box is read, so that division changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from emgen.geometry import Box
from emgen.volumes.intensity import store
from emgen.volumes.measured import Measured, Overlay


@dataclass(frozen=True)
class Corrections:
    """What is set right on reading.

    Attributes:
        gain: by which the grey values of every section are multiplied; empty where sections are not evened.
        offset: that is added then, in grey values.
        hot: grey values that a pixel must lie beyond all its neighbours to be taken out; None where none is.
        kept: grey values that stand for no data, and stay.
    """

    gain: tuple[float, ...] = ()
    offset: tuple[float, ...] = ()
    hot: float | None = None
    kept: tuple[float, ...] = ()

    @classmethod
    def of(cls, facts: dict[str, Any] | None) -> Self | None:
        """From JSON."""
        if facts is None:
            return None
        rows = {name: tuple(facts[name]) for name in ("gain", "offset", "kept")}
        return cls(**rows, hot=facts["hot"])

    @property
    def story(self) -> str:
        """What was set right, in a sentence for the report."""
        done = []
        if self.gain:
            most = max(abs(g - 1) for g in self.gain)
            done.append(
                f"Its sections were evened in brightness and contrast (by {100 * most:.0f} % of the contrast at most)"
            )
        if self.hot is not None:
            done.append(
                f"Pixels more than {self.hot:.3g} grey values beyond all their neighbours were replaced by the middle of these"
            )
        return " ".join(f"{sentence}." for sentence in done)


@dataclass(frozen=True)
class Corrected(Overlay):
    """A measured volume, corrected.

    Attributes:
        volume: as it is stored.
        corrections: what is set right.
    """

    corrections: Corrections

    def read(self, box: Box) -> npt.NDArray[Any]:
        """The grey values of a box, in the stored type."""
        wide = box.grow((0, 1, 1)).clip(self.shape) if self.corrections.hot is not None else box
        stored = self.volume.read(wide)
        voxels = (
            stored if self.corrections.hot is None else without_hot(stored, self.corrections.hot)
        )
        inner = box.relative_to(wide).slices
        evened = self._evened(voxels[inner], box.start[0])
        kept = np.isin(stored[inner], self.corrections.kept)
        return np.where(kept, stored[inner], evened) if kept.any() else evened

    def _evened(self, voxels: npt.NDArray[Any], first: int) -> npt.NDArray[Any]:
        if not self.corrections.gain:
            return voxels
        numbers = slice(first, first + len(voxels))
        gain, offset = (
            np.array(row[numbers])[:, None, None]
            for row in (self.corrections.gain, self.corrections.offset)
        )
        return store(voxels * gain + offset, voxels.dtype)


def corrected(measured: Measured, corrections: Corrections | None) -> Measured:
    """A volume as it is restored from: corrected where there is something to correct."""
    return measured if corrections is None else Corrected(measured, corrections)


def isolated(sections: npt.NDArray[Any], least: float) -> npt.NDArray[np.bool_]:
    """Which pixels (z, y, x) lie more than `least` above, or below, their neighbours beside, above and below.

    At the edge of what is given, the neighbours that there are count.
    """
    most, fewest = _around(sections)
    grey = sections.astype(np.float64)
    result: npt.NDArray[np.bool_] = (grey - most > least) | (fewest - grey > least)
    return result


def without_hot(sections: npt.NDArray[Any], least: float) -> npt.NDArray[Any]:
    """Sections (z, y, x) with `isolated` pixels replaced by the middle of their neighbours' grey values."""
    hot = isolated(sections, least)
    if not hot.any():
        return sections
    most, fewest = _around(sections)
    return np.where(hot, store((most + fewest) / 2, sections.dtype), sections)


def _around(sections: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The greatest and the least grey value of the pixels beside, above and below every one."""
    grey = np.pad(sections.astype(np.float64), ((0, 0), (1, 1), (1, 1)), constant_values=np.nan)
    sides = (grey[:, :-2, 1:-1], grey[:, 2:, 1:-1], grey[:, 1:-1, :-2], grey[:, 1:-1, 2:])
    most, fewest = sides[0], sides[0]
    for side in sides[1:]:
        most, fewest = np.fmax(most, side), np.fmin(fewest, side)
    return most, fewest
