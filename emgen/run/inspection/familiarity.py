"""Pixels of another size than the networks learnt.

Law: a network knows structures by their size in pixels. It was shown its training tissue at the pixel sizes on its card,
enlarged and made smaller by the zoom of its training.
"""

from __future__ import annotations

from collections.abc import Iterator

from emgen.errors import EmgenError
from emgen.modes import mode
from emgen.networks.card import resolve
from emgen.run.inspection.finding import Finding
from emgen.run.inspection.look import Look


def find(look: Look) -> Iterator[Finding]:
    """Pixels finer or coarser than anything that the estimator, or without one the prior, was shown."""
    try:
        card = resolve(
            mode(look.restore, look.shape, look.voxel).estimator_name or look.restore.prior
        )
    except EmgenError:
        return  # settings that do not fit are refused elsewhere
    sizes = [size for voxel in card.facts.get("voxel_size_nm", {}).values() for size in voxel[1:]]
    if not sizes:
        return
    smaller, larger = card.facts.get("training", {}).get("patches", {}).get("zoom", (1.0, 1.0))
    pixel = (look.voxel.y * look.voxel.x) ** 0.5
    finest, coarsest = min(sizes) * smaller, max(sizes) * larger
    if finest <= pixel <= coarsest:
        return
    times, word = (finest / pixel, "finer") if pixel < finest else (pixel / coarsest, "coarser")
    yield Finding(
        what="pixel-size-unlike-training",
        severity="note",
        sentence=f"The pixels are {times:.1f} times {word} than what {card.name} learnt: its detail may be off in size.",
        evidence=f"pixels of {pixel:.3g} nm; it was shown {finest:.3g} to {coarsest:.3g} nm",
        what_to_do="Compare the held-out sections of the report with interpolation, or adapt the prior: `restore.adapt`.",
    )
