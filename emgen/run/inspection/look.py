"""A look at a volume: all that is read of it, and what the settings say of it; every finding is made from this."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import scipy.ndimage

from emgen.config.restore import Restore
from emgen.geometry import Box, VoxelSize, Zyx
from emgen.run.inspection import columns
from emgen.run.inspection.traces import LAGS, Traces, trace
from emgen.volumes.measured import Measured, Overlay
from emgen.volumes.samples import read_samples, sample_boxes

Grey = npt.NDArray[Any]
Numbers = npt.NDArray[np.float64]

# A section whose grey values spread by less than this part of the usual holds no image. Resin beside tissue has a half
# and more in the volumes measured; what a black section has of noise, a tenth.
BLANK = 0.25
PLANES = 24  # sections of samples that are looked at pixel by pixel where it costs
PADDED = 0.2  # share of blank pixels from which others are preferred


@dataclass(frozen=True)
class Seen(Overlay):
    """A volume with 0 wherever nothing was measured: outside its mask, and where it holds no number."""

    def read(self, box: Box) -> Grey:
        """Grey values of a box, all of them numbers."""
        voxels, absent = self.volume.read(box), self.volume.absent(box)
        lacking = np.zeros(box.shape, bool) if absent is None else absent
        if voxels.dtype.kind == "f":
            lacking = lacking | ~np.isfinite(voxels)
        return np.where(lacking, np.zeros((), voxels.dtype), voxels) if lacking.any() else voxels


@dataclass(frozen=True)
class Look:
    """What was read of a volume.

    Attributes:
        path: where it is, for messages.
        shape: its voxels (z, y, x).
        voxel: their size in nm.
        dtype: of its grey values.
        restore: what the settings say of it.
        lost: numbers of sections that the settings say hold no image.
        traces: of its sections.
        samples: grey values of the boxes that planning reads too.
    """

    path: str
    shape: Zyx
    voxel: VoxelSize
    dtype: np.dtype[Any]
    restore: Restore
    lost: tuple[int, ...]
    traces: Traces
    samples: list[Grey]

    @classmethod
    def at(
        cls, measured: Measured, restore: Restore, lost: tuple[int, ...] = (), every: bool = False
    ) -> Look:
        """Read columns and sample boxes of a volume; with `every` of all its sections, however many there are."""
        where = columns.layout(
            measured.shape, getattr(measured, "chunk", None), measured.dtype.itemsize
        )
        traces = trace(columns.read(measured, where), where.sections, where.side)
        look = cls(
            path=measured.path,
            shape=measured.shape,
            voxel=measured.voxel,
            dtype=measured.dtype,
            restore=restore,
            lost=lost,
            traces=traces,
            samples=read_samples(measured),
        )
        return replace(look, traces=_without(traces, look.imageless | look.said_lost))

    @property
    def numbers(self) -> npt.NDArray[np.int64]:
        """Of the sections looked at."""
        return self.traces.numbers

    @property
    def factor(self) -> float:
        """Output sections per measured one that the settings ask for, or the voxels' anisotropy."""
        return self.restore.factor or self.voxel.anisotropy

    @cached_property
    def constant(self) -> npt.NDArray[np.bool_]:
        """Which sections have one grey value all over."""
        flat: npt.NDArray[np.bool_] = self.traces.deviation.max(axis=1) == 0
        return flat

    @cached_property
    def imageless(self) -> npt.NDArray[np.bool_]:
        """Which sections hold no image: one grey value, or faint noise that no neighbour shares."""
        spread = np.sqrt(np.square(self.traces.deviation).mean(axis=1))
        varied = spread[~self.constant]
        if not varied.size:
            return self.constant
        faint: npt.NDArray[np.bool_] = spread < BLANK * np.median(varied)
        return faint | self.constant

    @property
    def said_lost(self) -> npt.NDArray[np.bool_]:
        """Which sections the settings name as lost."""
        named: npt.NDArray[np.bool_] = np.isin(self.numbers, self.lost)
        return named

    @cached_property
    def with_image(self) -> npt.NDArray[np.bool_]:
        """Which sections hold an image."""
        return ~(self.imageless | self.said_lost)

    @cached_property
    def seen(self) -> npt.NDArray[np.bool_]:
        """Which columns hold an image in which section (n, c): not where a section is padded."""
        deviation = self.traces.deviation
        varied = deviation[self.with_image][deviation[self.with_image] > 0]
        least = BLANK * float(np.median(varied)) if varied.size else np.inf
        image: npt.NDArray[np.bool_] = self.with_image[:, None] & (deviation >= least)
        return image

    @cached_property
    def contrast(self) -> float:
        """Grey values from the 5th to the 95th percentile of a section, usually."""
        quantiles = self.traces.quantiles[self.seen]
        return float(np.median(quantiles[..., -1] - quantiles[..., 0])) if quantiles.size else 0.0

    @cached_property
    def planes(self) -> list[npt.NDArray[np.float64]]:
        """A few sampled sections (y, x) with an image, from all over the volume."""
        lacking = set(self.numbers[~self.with_image].tolist())
        sections = [
            section.astype(np.float64)
            for box, sample in zip(sample_boxes(self.shape), self.samples, strict=True)
            for k, section in enumerate(sample, box.start[0])
            if k not in lacking and np.isfinite(section).all() and section.max() > section.min()
        ]
        whole = [plane for plane in sections if padded(plane) < PADDED]
        chosen = whole or sections
        return chosen[:: max(1, len(chosen) // PLANES)][:PLANES]


def padded(voxels: Grey) -> float:
    """Share of the voxels that have the least or the greatest grey value, whichever more have."""
    return float(max(np.mean(voxels == voxels.min()), np.mean(voxels == voxels.max())))


def nanmedian(values: Numbers) -> Numbers:
    """The median of every row, without what is NaN; NaN of a row that has nothing else."""
    result = np.full(len(values), np.nan)
    known = np.isfinite(values).any(axis=1)
    result[known] = np.nanmedian(values[known], axis=1)
    return result


def around(values: Numbers, width: int = 9) -> Numbers:
    """The median of the `width` values around every one of a row; those that are NaN do not count."""
    half = width // 2
    padded = np.pad(values, half, constant_values=np.nan)
    windows = np.lib.stride_tricks.sliding_window_view(padded, width)
    known = np.isfinite(windows).any(axis=1)
    result = np.full(len(values), np.nan)
    result[known] = np.nanmedian(windows[known], axis=1)
    return result


def spread(values: Numbers) -> float:
    """Standard deviation by the median absolute deviation; 0 of none."""
    known = values[np.isfinite(values)]
    return float(1.4826 * np.median(np.abs(known - np.median(known)))) if known.size else 0.0


def smoothed(plane: Numbers, sigma: float) -> Numbers:
    """A section without what is finer than `sigma` pixels."""
    result: Numbers = scipy.ndimage.gaussian_filter(plane, sigma, mode="nearest")
    return result


def _without(traces: Traces, lacking: npt.NDArray[np.bool_]) -> Traces:
    """Traces in which no pair has a section without an image."""
    if not lacking.any():
        return traces
    pairs: dict[str, dict[int, Numbers]] = {"similarity": {}, "still": {}, "shift": {}}
    for lag in LAGS:
        void = lacking | np.append(lacking[lag:], [True] * min(lag, len(lacking)))
        for name, kept in pairs.items():
            values = getattr(traces, name)[lag]
            kept[lag] = np.where(void[:, None] if values.ndim == 2 else void, np.nan, values)
    void = lacking | np.append(lacking[1:], True)
    return replace(
        traces,
        twins=np.where(void, np.nan, traces.twins),
        similarity=pairs["similarity"],
        still=pairs["still"],
        shift=pairs["shift"],
    )
