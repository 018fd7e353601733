"""Which axes of an array are z, y and x: by their names, or by its shape where nobody has named them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from emgen.errors import EmgenError
from emgen.geometry import Box, Zyx, zyx
from emgen.volumes.sources.foreign import Array, Read, plausible

COLOURS = (3, 4)


@dataclass(frozen=True)
class Axes:
    """Where z, y and x lie among the axes of an array, which may have others of length 1.

    Attributes:
        z: position of z; None where there is one section only.
        y: position of y.
        x: position of x.
        count: axes of the array.
    """

    z: int | None
    y: int
    x: int
    count: int

    @property
    def kept(self) -> tuple[int, ...]:
        """Positions of z (where there is one), y and x."""
        return tuple(axis for axis in (self.z, self.y, self.x) if axis is not None)

    def shape(self, shape: Sequence[int]) -> Zyx:
        """Lengths along z, y, x."""
        return zyx([1 if self.z is None else shape[self.z], shape[self.y], shape[self.x]])

    def pick(self, values: Sequence[Any], absent: Any = None) -> list[Any]:
        """Of one value for each axis of the array those of z, y, x."""
        return [absent if axis is None else values[axis] for axis in (self.z, self.y, self.x)]

    def turned(self, block: Array) -> Array:
        """A block with all axes of the array, as (z, y, x)."""
        others = [axis for axis in range(self.count) if axis not in self.kept]
        whole = block.transpose(*others, *self.kept)
        return whole.reshape(self.shape(block.shape))

    def read(self, data: Any) -> Read:
        """How boxes (z, y, x) of an array are read."""

        def read(box: Box) -> Array:
            index = [slice(0, 1)] * self.count
            for axis, part in zip((self.z, self.y, self.x), box.slices, strict=True):
                if axis is not None:
                    index[axis] = part
            return self.turned(np.asarray(data[tuple(index)]))

        return read


def axes_of(shape: Sequence[int], names: Sequence[str] | None, where: str | Path) -> Axes:
    """The axes of an array.

    Args:
        shape: of the array.
        names: of its axes, one letter each or longer; None where nobody has said.
        where: the array, for messages.

    Raises:
        EmgenError: not one 3-D volume of grey values.
    """
    plausible(shape, where)
    if names is None:
        return _by_shape(shape, where)
    called = [name.strip().lower() for name in names]
    if len(called) != len(shape) or any(called.count(axis) > 1 for axis in "zyx"):
        raise EmgenError(
            f"{where} names its axes {', '.join(called)[:60]}, and has {len(shape)} of them; "
            "expected one name for each"
        )
    if "y" not in called or "x" not in called:
        raise EmgenError(
            f"{where} names its axes {', '.join(called)[:60]}; expected z, y and x among them"
        )
    for name, length in zip(called, shape, strict=True):
        if name not in ("z", "y", "x") and length != 1:
            raise EmgenError(
                f"{where} has {length} entries along its axis {name[:20]} (axes {', '.join(called)[:60]}, shape "
                f"{tuple(shape)}); expected one 3-D volume: export the channel or time point that you mean"
            )
    z = called.index("z") if "z" in called else None
    return Axes(z, called.index("y"), called.index("x"), len(shape))


def _by_shape(shape: Sequence[int], where: str | Path) -> Axes:
    """z, y, x in this order; axes of length 1 are looked through, the outermost first."""
    kept = list(range(len(shape)))
    for places in (kept[:], kept[::-1]):
        for axis in places:
            if len(kept) <= 3 or shape[axis] != 1:
                break
            kept.remove(axis)
    for axis in kept[:]:
        if len(kept) > 3 and shape[axis] == 1:
            kept.remove(axis)
    if len(kept) not in (2, 3):
        raise EmgenError(
            f"{where} has shape {tuple(shape)}; expected one 3-D volume (z, y, x): "
            "export the part that you mean"
        )
    lengths = [shape[axis] for axis in kept]
    if len(kept) == 3 and lengths[2] in COLOURS and lengths[2] < min(lengths[:2]):
        raise EmgenError(
            f"{where} has shape {tuple(shape)}, a colour image by the look of it; "
            "expected grey values (z, y, x)"
        )
    z = kept[0] if len(kept) == 3 else None
    return Axes(z, kept[-2], kept[-1], len(shape))
