"""Weights to and from files: safetensors and a JSON card, never pickles."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from emgen import __version__
from emgen.errors import EmgenError
from emgen.networks.build import Network, build_for
from emgen.networks.card import Card, resolve
from emgen.networks.estimator import Estimator
from emgen.networks.prior import Prior

LARGEST_WEIGHT = 1e6
"""No network that learnt anything has a larger weight: in those that ship the largest is 200, a frequency of the time."""


def load(name: str) -> tuple[Prior, Card]:
    """A shipped prior by its name, or one from a .safetensors file.

    Raises:
        EmgenError: as `load_network`, or an estimator.
    """
    network, card = load_network(name)
    if not isinstance(network, Prior):
        raise EmgenError(f"expected a prior, found an estimator: {card.path}")
    return network, card


def load_estimator(name: str) -> tuple[Estimator, Card]:
    """A shipped estimator by its name, or one from a .safetensors file.

    Raises:
        EmgenError: as `load_network`, or a prior.
    """
    network, card = load_network(name)
    if not isinstance(network, Estimator):
        raise EmgenError(f"expected an estimator, found a prior: {card.path}")
    return network, card


def load_network(name: str) -> tuple[Network, Card]:
    """Shipped weights by their name, or those of a .safetensors file.

    Raises:
        EmgenError: missing, damaged, without its card, or weights of another network.
    """
    card = resolve(name)
    try:
        weights = {key: value.float() for key, value in load_file(card.path).items()}
        network = build_for(card.architecture, {key: value.shape for key, value in weights.items()})
        network.load_state_dict(weights)
    except (SafetensorError, OSError) as error:
        raise EmgenError(
            f"the weights {card.path} cannot be read ({error}); it is not a safetensors file, or damaged"
        ) from None
    except (RuntimeError, TypeError, ValueError) as error:
        first = str(error).strip().splitlines()
        raise EmgenError(
            f"the weights in {card.path} do not fit the network that its card describes: {' '.join(first[:2])}"
        ) from None
    _refuse_damaged(weights, card.path)
    return network.eval(), card


def _refuse_damaged(weights: dict[str, Tensor], path: Path) -> None:
    """`EmgenError` where a weight is NaN, infinite or so large that no training made it."""
    for name, values in weights.items():
        # written so that NaN, which compares with nothing, is found too
        sound = values.abs() <= LARGEST_WEIGHT
        if not sound.all():
            raise EmgenError(
                f"the weights in {path} are damaged: {int((~sound).sum())} of {values.numel()} values of {name} are "
                f"NaN, infinite or beyond {LARGEST_WEIGHT:g}, the first is {float(values[~sound][0]):g}; restore the file"
            )


def save(
    prior: Network, path: Path, name: str, architecture: dict[str, Any], facts: dict[str, Any]
) -> Card:
    """Write weights and card; the weights file appears whole or not at all.

    Args:
        prior: the network.
        path: ends in .safetensors.
        name: for people.
        architecture: what `build` makes this network of.
        facts: data, steps, seed, validation and what else users should know.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        save_file({k: v.detach().contiguous() for k, v in prior.state_dict().items()}, partial)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    card = {
        "name": name,
        "sha256": hashlib.sha256(partial.read_bytes()).hexdigest(),
        "emgen": __version__,
        "parameters": sum(p.numel() for p in prior.parameters()),
        "architecture": architecture,
        **facts,
    }
    partial.chmod(0o644)
    _write_card(path, card)
    partial.replace(path)
    return resolve(str(path))


def annotate(card: Card, **facts: Any) -> Card:
    """Add facts to the card beside the weights."""
    stored = json.loads(card.path.with_suffix(".json").read_text())
    _write_card(card.path, {**stored, **facts})
    return resolve(str(card.path))


def _write_card(weights: Path, facts: dict[str, Any]) -> None:
    path = weights.with_suffix(".json")
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(facts, indent=2) + "\n")
    partial.replace(path)
