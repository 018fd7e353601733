"""The network that a card or a recipe describes: from its `architecture`, facts in JSON, to a module of torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch

from emgen.networks.architecture import check
from emgen.networks.estimator import Estimator
from emgen.networks.prior import GatedPrior, Prior

Network = Prior | Estimator
LONGEST_NAME = 200  # characters of a fault that are repeated: names in a file may be of any length

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


def build_for(architecture: dict[str, Any], shapes: Mapping[str, Sequence[int]]) -> Network:
    """The network of an architecture, where weights of these shapes are its own.

    It is first built without memory: a few numbers in a card must not ask for more than the weights beside it hold.

    Args:
        architecture: as `build` takes it.
        shapes: of the weights, by their names in the network's state.

    Raises:
        TypeError, ValueError: there is no such network, or its weights have other names or shapes.
    """
    check(architecture)
    with torch.device("meta"):
        expected = {
            name: tuple(value.shape) for name, value in build(architecture).state_dict().items()
        }
    wrong = [
        *(f"{name} is missing" for name in expected.keys() - shapes.keys()),
        *(f"{name} is not expected" for name in shapes.keys() - expected.keys()),
        *(
            f"{name} has shape {tuple(shapes[name])}, expected {shape}"
            for name, shape in expected.items()
            if name in shapes and tuple(shapes[name]) != shape
        ),
    ]
    if wrong:
        said = "; ".join(each[:LONGEST_NAME] for each in sorted(wrong)[:4])
        raise ValueError(f"{len(wrong)} of its weights are wrong: {said}")
    return build(architecture)


def _without_unet2d(arguments: dict[str, Any]) -> dict[str, Any]:
    """Without what only UNet2DModel has, if it is as if it were not given."""
    for name, default in UNET2D_DEFAULTS.items():
        if (arguments.pop(name, None) or default) != default:
            raise ValueError('design "gated" has no group norm, attention, dropout or options')
    return arguments
