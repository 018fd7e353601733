"""The network that a card or a recipe describes: from its `architecture`, facts in JSON, to a module of torch."""

from __future__ import annotations

from typing import Any

from emgen.networks.estimator import Estimator
from emgen.networks.prior import GatedPrior, Prior

Network = Prior | Estimator

# what only UNet2DModel has, as it stands where a recipe or a card says nothing of it
UNET2D_DEFAULTS: dict[str, Any] = {
    "norm": "pixel",
    "attention": [],
    "dropout": 0,
    "options": {},
    "time_scale": 1000,
}


def build(architecture: dict[str, Any]) -> Network:
    """The network of an architecture, with random weights.

    Args:
        architecture: `design` ("unet2d" where it is missing, "gated", "axial" or "sections"), and arguments of its class.

    Raises:
        TypeError, ValueError: there is no such network.
    """
    arguments = dict(architecture)
    match arguments.pop("design", "unet2d"):
        case "axial" | "sections":
            return Estimator(**arguments)
        case "gated":
            return GatedPrior(**_without_unet2d(arguments))
        case "unet2d":
            from emgen.networks.unet2d import UNet2DPrior

            return UNet2DPrior(**arguments)
        case design:
            raise ValueError(
                f'design must be "unet2d", "gated", "axial" or "sections", not {design!r}'
            )


def _without_unet2d(arguments: dict[str, Any]) -> dict[str, Any]:
    """Without what only UNet2DModel has, if it is as if it were not given."""
    for name, default in UNET2D_DEFAULTS.items():
        if (arguments.pop(name, None) or default) != default:
            raise ValueError('design "gated" has no group norm, attention, dropout or options')
    return arguments
