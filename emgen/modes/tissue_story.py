"""What the report says of voxels that show no tissue, and of those that were inferred."""

from __future__ import annotations

from collections.abc import Sequence

from emgen.modes.observation import Planned


def tissue_sentences(planned: Planned, depth: int) -> list[str]:
    """Of missing sections, of those beyond the others, and of parts of sections.

    Args:
        planned: of the run.
        depth: measured sections of the volume.
    """
    images = [k for k in range(depth) if k not in planned.missing]
    inner = [k for k in planned.missing if images[0] < k < images[-1]]
    outer = [k for k in planned.missing if k not in inner]
    return [*_lost(inner), *_blank_ends(outer), *_parts(planned), *_resin(planned)]


def _resin(planned: Planned) -> list[str]:
    if planned.config.input.resin == "restore":
        return []
    return [
        "Blocks that show only noise passed through no network: they are interpolated, and as noisy as they were."
    ]


def _lost(numbers: Sequence[int]) -> list[str]:
    if not numbers:
        return []
    hold, they = ("holds", "it") if len(numbers) == 1 else ("hold", "they")
    return [
        f"{_sections(numbers)} {hold} no image: what {they} would have shown was restored from the neighbours."
    ]


def _blank_ends(numbers: Sequence[int]) -> list[str]:
    if not numbers:
        return []
    hold, stay = ("holds", "stays") if len(numbers) == 1 else ("hold", "stay")
    return [f"{_sections(numbers)} {hold} no image, with no tissue beyond: blank {stay} blank."]


def _parts(planned: Planned) -> list[str]:
    if not (planned.no_data or planned.absent):
        return []
    values = ", ".join(f"{value:g}" for value in planned.no_data)
    sentences = [
        f"{_percent(planned.blank)} of the sampled voxels show no tissue and stay as they were measured"
        + (f"; the grey value {values} was taken for no data." if values else ".")
    ]
    if planned.inferred:
        sentences.append(
            f"{_percent(planned.inferred)} are holes in the tissue: what would be there was restored from what lies around."
        )
    return [*sentences, "The volume tissue.ome.zarr says which voxels are which."]


def _sections(numbers: Sequence[int]) -> str:
    plural = "s" if len(numbers) > 1 else ""
    return f"Measured section{plural} {_ranges(numbers)} (counted from 0)"


def _ranges(numbers: Sequence[int]) -> str:
    """Rising numbers in words: "3, 5 to 8"."""
    first = [k for k in numbers if k - 1 not in numbers]
    last = [k for k in numbers if k + 1 not in numbers]
    return ", ".join(f"{a}" if a == b else f"{a} to {b}" for a, b in zip(first, last, strict=True))


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"
