"""What a card or a recipe may say of a network: sizes that a network can have. Needs no torch.

Nothing here says which architectures exist (`emgen.networks.build` does). It keeps a few bytes in a JSON file from
asking for a terabyte of weights or a billion layers.
"""

from __future__ import annotations

import math
from typing import Any

LARGEST = {"channels": 8192, "layers": 64, "context": 16, "unshuffle": 16, "attention": 16}
"""The largest number that each of these may hold; the largest network that is known has 1024 channels."""
LEVELS = 10  # of a U-Net: each halves the plane
ANY = 1_000_000  # of what only some networks have, such as the scale of time
ENTRIES, DEPTH, TEXT = 100, 4, 200


def check(architecture: Any) -> dict[str, Any]:
    """The architecture as it is.

    Raises:
        ValueError: no mapping of names, or sizes that no network has.
    """
    if not isinstance(architecture, dict):
        raise ValueError(
            f"architecture: expected names and values; found {type(architecture).__name__}"
        )
    for name, most in LARGEST.items():
        if name not in architecture:
            continue
        value = architecture[name]
        many = value if isinstance(value, list | tuple) else [value]
        if not all(_whole(number) and 0 <= number <= most for number in many):
            raise ValueError(
                f"architecture.{name}: expected whole numbers up to {most}; found {_said(value)}"
            )
    levels = architecture.get("channels", (1,))
    if not isinstance(levels, list | tuple) or not 1 <= len(levels) <= LEVELS:
        raise ValueError(
            f"architecture.channels: expected 1 to {LEVELS} numbers, one a level; found {_said(levels)}"
        )
    _refuse_absurd(architecture, "architecture", 0)
    return architecture


def _refuse_absurd(value: Any, key: str, depth: int) -> None:
    if isinstance(value, dict | list | tuple):
        if len(value) > ENTRIES or depth > DEPTH:
            raise ValueError(
                f"{key}: more than {ENTRIES} values, or more than {DEPTH} levels of them"
            )
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for name, inner in items:
            _refuse_absurd(inner, f"{key}.{str(name)[:TEXT]}", depth + 1)
    elif isinstance(value, str) and len(value) > TEXT:
        raise ValueError(f"{key}: a text of {len(value)} characters")
    elif isinstance(value, int | float) and not (math.isfinite(value) and abs(value) <= ANY):
        raise ValueError(f"{key}: expected a number up to {ANY}; found {_said(value)}")


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _said(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
