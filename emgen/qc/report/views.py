"""Pictures of the volumes: sections, enlarged crops, differences, objects, spread."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from markupsafe import Markup

from emgen.geometry import Box, zyx
from emgen.qc.axes import PLANES, Plane
from emgen.qc.report import pictures
from emgen.qc.report.sections import Panels, Pixels, View, main_plane, title, volumes
from emgen.qc.sample import Sample
from emgen.run.plan import Plan

ZOOM_SIDE = 64
"""Voxels a side of an enlarged crop: some cells, at several screen pixels a voxel."""
WHITE_PERCENTILE = 99.5
"""Percentile of a map that is drawn darkest: a few outliers must not make the rest pale."""
Titled = list[tuple[str, Markup]]


def pixel(plan: Plan, plane: Plane) -> tuple[float, float]:
    """Height and width of a pixel of a section in nm."""
    row_axis, column_axis = (k for k in range(3) if k != PLANES.index(plane))
    sizes = tuple(plan.voxel)
    return sizes[row_axis], sizes[column_axis]


def overview(plan: Plan, shown: Panels, view: View) -> list[tuple[str, list[Markup]]]:
    """Rows of the first figure: every volume with its three sections."""
    letters = view.box.shape[2] * plan.voxel.x / 20
    return [
        (
            title(plan, name),
            [
                pictures.panel(
                    pictures.grey(by_name[name], plan.intensity.low, plan.intensity.high),
                    pixel(plan, plane),
                    f"{title(plan, name)}, {plane}",
                    bar=number == 0 and plane == "xy",
                    mark=_extrapolated_from(plan, view) if plane != "xy" else None,
                    text=letters,
                )
                for plane, by_name in shown.items()
            ],
        )
        for number, name in enumerate(shown["xy"])
    ]


def _extrapolated_from(plan: Plan, view: View) -> float | None:
    """Where extrapolated sections begin, in nm below the top of the view."""
    if plan.extrapolated is None:
        return None
    return (plan.extrapolated.start[0] - view.box.start[0]) * plan.voxel.z


def zoom(plan: Plan, by_name: dict[str, Pixels]) -> Titled:
    """Crops of one section where the interpolated input has most contrast: the result has no say."""
    y, x = _most_contrast(by_name["interpolated"])
    plane = main_plane(plan)
    return [
        (
            title(plan, name),
            pictures.panel(
                pictures.grey(
                    pixels[y : y + ZOOM_SIDE, x : x + ZOOM_SIDE],
                    plan.intensity.low,
                    plan.intensity.high,
                ),
                pixel(plan, plane),
                f"{title(plan, name)}, enlarged",
                bar=number == 0,
            ),
        )
        for number, (name, pixels) in enumerate(by_name.items())
    ]


def _most_contrast(pixels: Pixels) -> tuple[int, int]:
    height, width = pixels.shape
    corners = [
        (y, x)
        for y in range(0, max(1, height - ZOOM_SIDE + 1), ZOOM_SIDE // 4)
        for x in range(0, max(1, width - ZOOM_SIDE + 1), ZOOM_SIDE // 4)
    ]

    def contrast(corner: tuple[int, int]) -> float:
        y, x = corner
        return float(np.std(pixels[y : y + ZOOM_SIDE, x : x + ZOOM_SIDE]))

    return max(corners, key=contrast)


def differences(plan: Plan, by_name: dict[str, Pixels]) -> tuple[Titled, Markup]:
    """Absolute differences from the reference in one section, and their common scale."""
    apart = {
        name: np.abs(by_name[name] - by_name["reference"]) for name in ("interpolated", "restored")
    }
    high = float(np.percentile(apart["interpolated"], WHITE_PERCENTILE))
    plane = main_plane(plan)
    maps = [
        (
            f"{title(plan, name)} (RMSE of this section: {np.sqrt(np.mean(np.square(values))):.3g} grey values)",
            pictures.panel(
                pictures.heat(values, high),
                pixel(plan, plane),
                f"{title(plan, name)} less reference",
            ),
        )
        for name, values in apart.items()
    ]
    return maps, pictures.colour_bar(high)


def objects(sample: Sample, segments: Mapping[str, Pixels]) -> tuple[Plane, Titled]:
    """Objects of the segmenter over the grey values that it was given, coloured alike.

    Args:
        sample: the run's volumes.
        segments: labels by volume, and "start" and "stop" of the section's box, as the segmentation
            metric keeps them.

    Returns:
        The orientation of the section, and a picture of every volume that was segmented.
    """
    plan = sample.plan
    box = Box(zyx(segments["start"].tolist()), zyx(segments["stop"].tolist()))
    plane = PLANES[box.shape.index(1)]
    grey = volumes(sample, box, plane)
    owner = segments["labels" if "labels" in segments else "reference"]
    nm, shown = pixel(plan, plane), Titled()
    for name in ("labels", "reference", "interpolated", "restored"):
        if name not in segments:
            continue
        below = grey.get(name, grey["reference"])
        section = pictures.grey(below, plan.intensity.low, plan.intensity.high)
        coloured = pictures.objects(section, segments[name], owner)
        alt, letters = f"objects in {title(plan, name).lower()}", coloured.shape[1] * nm[1] / 30
        picture = pictures.panel(coloured, nm, alt, bar=not shown, text=letters)
        shown.append((title(plan, name), picture))
    return plane, shown


def spread(sample: Sample, view: View) -> tuple[Titled, Markup]:
    """Maps of the standard deviation over posterior samples, and their common scale."""
    if sample.uncertainty is None:
        raise ValueError("the spread over samples is shown, and the run has one sample")
    plan, maps = sample.plan, {}
    for plane in dict.fromkeys(["xy", main_plane(plan)]):
        maps[plane] = sample.uncertainty.read(view.section(plane)).squeeze(PLANES.index(plane))
    high = max(float(np.percentile(values, WHITE_PERCENTILE)) for values in maps.values())
    letters, shown = view.box.shape[2] * plan.voxel.x / 30, Titled()
    for plane, values in maps.items():
        nm, alt = pixel(plan, plane), f"spread over samples, {plane}"
        picture = pictures.panel(pictures.heat(values, high), nm, alt, bar=not shown, text=letters)
        shown.append((plane, picture))
    return shown, pictures.colour_bar(high)
