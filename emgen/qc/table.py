"""Rows of the report's tables: a figure of the restored volume beside that of interpolation."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from emgen.qc.summary import Resolved, Summary

DIRECTIONS = {"spherical": "all directions", "axial": "axial", "lateral": "lateral"}
Better = Literal["restored", "interpolated"] | None


@dataclass(frozen=True)
class Row:
    """One line: texts, their unit, and which of the two is set in bold."""

    label: str
    restored: str
    interpolated: str
    unit: str
    better: Better


def row(
    label: str,
    restored: float | None,
    interpolated: float | None,
    unit: str,
    form: str,
    *,
    higher: bool = False,
    key: Callable[[float], float] = float,
    compare: bool = True,
    missing: str = "none",
) -> Row:
    """A line of two numbers.

    Args:
        label: what they are.
        restored, interpolated: the numbers; None is shown as `missing`.
        unit: behind them.
        form: their format, such as ".2f".
        higher: whether the greater is the better.
        key: what of them is compared, for instance `abs`.
        compare: whether either is better at all. Numbers that look equal never are.
        missing: what None means.
    """
    texts = [
        missing if value is None else _number(value, form) for value in (restored, interpolated)
    ]
    better: Better = None
    if compare and restored is not None and interpolated is not None and texts[0] != texts[1]:
        gain = key(restored) - key(interpolated)
        if gain:
            better = "restored" if (gain > 0) == higher else "interpolated"
    return Row(label, texts[0], texts[1], unit, better)


def _number(value: float, form: str) -> str:
    text = format(value, form)
    # what is rounded to nothing has no sign
    return text.lstrip("+-") if float(text) == 0 else text.replace("-", "−")


def image_rows(summary: Summary) -> list[Row]:
    """Grey values against the reference."""
    if summary.image is None:
        return []
    a, b = summary.image.figures.restored, summary.image.figures.interpolated
    ssim = [
        row(f"SSIM, {plane} slices", a.ssim[plane], b.ssim[plane], "", ".3f", higher=True)
        for plane in a.ssim
    ]
    return [
        row("PSNR", a.psnr_db, b.psnr_db, "dB", ".2f", higher=True, missing="∞"),
        row("RMSE", a.rmse_grey, b.rmse_grey, "grey values", ".2f"),
        row("mean error", a.bias_grey, b.bias_grey, "grey values", "+.1f", key=abs),
        *ssim,
    ]


def fsc_rows(summary: Summary) -> list[Row]:
    """Resolutions, power of fine detail and shift."""
    if summary.fsc is None:
        return []
    a, b = summary.fsc.figures.restored, summary.fsc.figures.interpolated
    rows = [
        _resolution_row(
            f"FSC {threshold:g}, {DIRECTIONS[sector]}",
            *(getattr(each.curves[sector], name) for each in (a, b)),
        )
        for sector in a.curves
        for threshold, name in ((0.5, "at_half"), (0.143, "at_seventh"))
    ]
    power = [
        row(
            f"power of fine detail over the reference's, {DIRECTIONS[sector]}",
            a.fine_power[sector],
            b.fine_power[sector],
            "",
            ".2f",
            key=_from_one,
        )
        for sector in a.fine_power
    ]
    shifts = [", ".join(_number(voxels, ".2f") for voxels in each.shift.voxels) for each in (a, b)]
    return [
        *rows,
        *power,
        Row("shift against the reference (z, y, x)", shifts[0], shifts[1], "voxels", None),
    ]


def _from_one(ratio: float) -> float:
    """How far from 1, twice as much being as far as half as much."""
    return max(ratio, 1 / ratio) if ratio > 0 else math.inf


def _resolution_row(label: str, a: Resolved, b: Resolved) -> Row:
    texts = [
        f"≤ {each.nm:.3g}" if each.at_nyquist else "none" if each.nm is None else f"{each.nm:.3g}"
        for each in (a, b)
    ]
    values = [math.inf if each.nm is None else each.nm for each in (a, b)]
    better: Better = (
        None if texts[0] == texts[1] else "restored" if values[0] < values[1] else "interpolated"
    )
    return Row(label, texts[0], texts[1], "nm", better)


def consistency_rows(summary: Summary) -> list[Row]:
    """The degraded result against the input; none is better, the input is not the truth."""
    a, b = summary.consistency.figures.restored, summary.consistency.figures.interpolated
    rows = [
        row("RMSE", a.rmse_grey, b.rmse_grey, "grey values", ".3g", compare=False),
        row("mean error", a.bias_grey, b.bias_grey, "grey values", "+.2g", compare=False),
    ]
    if a.relative_to_noise is not None:
        rows.append(
            row(
                "RMSE over the input's noise",
                a.relative_to_noise,
                b.relative_to_noise,
                "",
                ".2f",
                compare=False,
            )
        )
    return rows


def segmentation_rows(summary: Summary) -> list[tuple[str, list[Any]]]:
    """Tables of object errors: title, and columns (name, errors)."""
    found = summary.segmentation
    if found is None:
        return []
    pair = found.against_reference
    tables = [
        (
            "against the reference, segmented alike",
            [("restored", pair.restored), ("interpolated", pair.interpolated)],
        )
    ]
    if found.against_labels is not None:
        labels = found.against_labels
        columns = [
            ("restored", labels.restored),
            ("interpolated", labels.interpolated),
            ("reference", labels.reference),
        ]
        tables.insert(0, ("against the reference labels", columns))
    return tables
