"""What a prior is: its weights file, and the JSON card beside it. Needs no torch.

`NAME.safetensors` holds the weights; `NAME.json` says what they are, what they learnt from and how
well they denoise. A card belongs to one file: it holds the file's sha256.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from emgen.errors import EmgenError

SHIPPED = Path(__file__).parent / "weights"
TILE = 128
# what `design` says of networks that estimate what was measured, across sections or in them, and are no priors
AXIAL, SECTIONS = "axial", "sections"
ESTIMATORS = (AXIAL, SECTIONS)
PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".pkl")


@dataclass(frozen=True)
class Card:
    """A prior's weights file and what its card says.

    Attributes:
        path: of the weights.
        name: for people.
        sha256: of the weights file, checked against the file when the card is read.
        architecture: arguments of `emgen.networks.prior.Prior`.
        facts: everything else: data, steps, seed, validation.
    """

    path: Path
    name: str
    sha256: str
    architecture: dict[str, Any]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def estimates(self) -> str | None:
        """AXIAL or SECTIONS for what is no prior, but estimates what was between sections or in them."""
        design = self.architecture.get("design")
        return design if design in ESTIMATORS else None

    @property
    def tile(self) -> int | None:
        """Pixels of the tiles it must be given, those of its training; None for a network that takes planes whole."""
        if not is_tied(self.architecture):
            return None
        return int(self.facts.get("training", {}).get("patches", {}).get("size", TILE))

    @property
    def cell(self) -> int:
        """Pixels of the coarsest level: planes that begin on whole cells are seen alike everywhere."""
        levels = len(self.architecture.get("channels", (0, 0, 0)))
        unshuffle = int(self.architecture.get("unshuffle", 2))
        return unshuffle << (levels - 1)

    def digest(self) -> dict[str, Any]:
        """What a plan and a report say about the prior."""
        facts = {
            "name": self.name,
            "sha256": self.sha256,
            "file": self.path.name,
            "cell": self.cell,
            **({"beside": self.architecture["beside"]} if self.estimates else {}),
        }
        return {**facts, **self.facts}


def is_tied(architecture: dict[str, Any]) -> bool:
    """Whether attention or group norm tie all pixels of a plane together: such a network knows one size of planes."""
    return bool(architecture.get("attention")) or architecture.get("norm", "pixel") == "group"


def resolve(name: str) -> Card:
    """The card of a shipped prior or of a weights file, checked against the weights.

    Raises:
        EmgenError: no such prior, no or another card, or damaged weights.
    """
    path = _weights_path(name)
    card = path.with_suffix(".json")
    if not card.exists():
        raise EmgenError(
            f"the prior {path} has no card: expected {card} beside it, as `emgen train` and `emgen convert` write it"
        )
    try:
        facts = json.loads(card.read_text())
        found = Card(path, facts.pop("name"), facts.pop("sha256"), facts.pop("architecture"), facts)
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise EmgenError(
            f"{card} is not the card of a prior ({type(error).__name__}: {error}); restore the file"
        ) from None
    actual = hashlib.sha256(path.read_bytes()).hexdigest()
    if actual != found.sha256:
        raise EmgenError(
            f"the prior {path} is not the file its card describes: expected sha256 {found.sha256[:12]}…, found {actual[:12]}…; "
            "it is damaged, or the card belongs to another file"
        )
    return found


def _weights_path(name: str) -> Path:
    if name.endswith(PICKLES):
        raise EmgenError(
            f"the prior {name} is a pickle, which can run any program when it is read; convert its tensors and give what "
            f"that makes: emgen convert {name} {Path(name).with_suffix('.safetensors')}"
        )
    if name.endswith(".safetensors"):
        path = Path(name)
    elif "/" not in name:
        path = SHIPPED / f"{name}.safetensors"
    else:
        raise EmgenError(f"the prior {name} is neither a shipped name nor a .safetensors file")
    if not path.is_file():
        shipped = ", ".join(sorted(each.stem for each in SHIPPED.glob("*.safetensors"))) or "none"
        raise EmgenError(
            f"there is no prior {name}; shipped are: {shipped}; or give the path of a .safetensors file"
        )
    return path
