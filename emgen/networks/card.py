"""What a trained network is: its weights file, and the JSON card beside it. Needs no torch.

`NAME.safetensors` holds the weights; `NAME.json`, the card, says what network they are for, what it was trained on and
how well it does on tissue that it never saw. A card belongs to one file: it holds the file's sha256.
"""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast, get_args

from emgen.config.plain import read_json
from emgen.errors import EmgenError
from emgen.networks.architecture import check as check_architecture

SHIPPED = Path(__file__).parent / "weights"
TILE = 128  # pixels: the patches of EM Generalist's published networks, whose converted cards name no patch size
PICKLES = (".pt", ".pth", ".ckpt", ".bin", ".pkl")

LONGEST_NAME, LARGEST_TILE = 200, 4096
FOUND = frozenset({"name", "sha256", "file", "weights", "stride", "context", "faintest_noise"})
"""What a plan says of a network that emgen found out itself: no free key of a card has one of these names."""

Task = Literal["prior", "axial", "sections"]
"""What a network was trained for: the flow-matching prior, the estimate between sections, or that within sections."""
# where cards of version 0.1.0 said what a network was trained for
FORMER_TASK_KEYS: dict[Task, str] = {
    "prior": "flow",
    "axial": "interpolation",
    "sections": "sections",
}


@dataclass(frozen=True)
class Card:
    """A weights file and what its card says.

    Attributes:
        path: of the weights.
        name: for people.
        sha256: of the weights file, checked against the file when the card is read.
        architecture: arguments of `emgen.networks.checkpoint.build`.
        facts: everything else: data, steps, seed, validation.
    """

    path: Path
    name: str
    sha256: str
    architecture: dict[str, Any]
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def task(self) -> Task:
        """What the network was trained for."""
        return _task(self.architecture)

    @property
    def tile(self) -> int | None:
        """Pixels on a side of the tiles that the network must be given, or None where it takes planes of any size."""
        if not is_tied(self.architecture):
            return None
        return int(self.facts.get("training", {}).get("patches", {}).get("size", TILE))

    @property
    def stride(self) -> int:
        """Pixels on a side of one pixel of the coarsest level: shifting a plane by this shifts the result, bit for bit."""
        levels = len(self.architecture.get("channels", (0, 0, 0)))
        unshuffle = int(self.architecture.get("unshuffle", 2))
        return unshuffle << (levels - 1)

    @property
    def context(self) -> int:
        """Planes that the network is given on either side of the one that it returns; 0 for a prior."""
        return int(self.architecture.get("context", 0))

    @property
    def faintest_noise(self) -> float:
        """Lowest standard deviation of noise that a network for sections learnt to remove, in the prior's half range.

        Raises:
            EmgenError: the card does not say.
        """
        task = self.facts.get("training", {}).get("task", {})
        try:
            return float(task["noise"][0])
        except (KeyError, IndexError, TypeError, ValueError):
            raise EmgenError(
                f"{self.path.with_suffix('.json')} does not say what noise its network learnt to remove: expected "
                "training.task.noise: [lowest, highest], standard deviations in units of half the grey-value range, found "
                f"{task.get('noise', 'none') if isinstance(task, dict) else task!r}; add it, or train the network with emgen train"
            ) from None

    def digest(self) -> dict[str, Any]:
        """What a plan and a report say about the network.

        Raises:
            EmgenError: as `faintest_noise`, of a network for sections.
        """
        facts: dict[str, Any] = {
            "name": self.name,
            "sha256": self.sha256,
            "file": self.path.name,
            "stride": self.stride,
        }
        if self.task != "prior":
            facts["context"] = self.context
        if self.task == "sections":
            facts["faintest_noise"] = self.faintest_noise
        # what others wrote into the card never stands for what emgen found out itself
        free = {key: value for key, value in self.facts.items() if key not in FOUND}
        return {**free, **facts}


def is_tied(architecture: dict[str, Any]) -> bool:
    """Whether attention or group norm tie all pixels of a plane together: such a network knows one size of planes."""
    return bool(architecture.get("attention")) or architecture.get("norm", "pixel") == "group"


def resolve(name: str) -> Card:
    """The card of shipped weights or of a weights file, checked against the weights.

    Raises:
        EmgenError: no such weights, no card or that of another file, or damaged weights.
    """
    path = _weights_path(name)
    card_path = path.with_suffix(".json")
    if not card_path.exists():
        raise EmgenError(
            f"the prior {path} has no card: expected {card_path} beside it, as `emgen train` and `emgen convert` write it"
        )
    stored = read_json(card_path, str(card_path))
    try:
        facts = translated(stored)
        card = Card(path, facts.pop("name"), facts.pop("sha256"), facts.pop("architecture"), facts)
        _check(card)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EmgenError(
            f"{card_path} is not the card of a prior ({type(error).__name__}: {error}); restore the file"
        ) from None
    with path.open("rb") as weights:
        actual = hashlib.file_digest(weights, "sha256").hexdigest()
    if actual != card.sha256:
        raise EmgenError(
            f"the prior {path} is not the file its card describes: expected sha256 {card.sha256[:12]}…, found {actual[:12]}…; "
            "it is damaged, or the card belongs to another file"
        )
    return card


def _check(card: Card) -> None:
    """`ValueError` if a card says what no network can be."""
    check_architecture(card.architecture)
    if not isinstance(card.name, str) or len(card.name) > LONGEST_NAME:
        raise ValueError(f"name: expected a text of up to {LONGEST_NAME} characters")
    if not isinstance(card.sha256, str):
        raise ValueError("sha256: expected a text of 64 digits")
    if card.tile is not None and not 1 <= card.tile <= LARGEST_TILE:
        raise ValueError(
            f"training.patches.size: expected 1 to {LARGEST_TILE} pixels; found {card.tile}"
        )


def translated(facts: dict[str, Any]) -> dict[str, Any]:
    """What a card says, in the words of this version: cards of version 0.1.0 go on being read.

    Then `context` was `beside`, and `training.task` was `training.flow`, `.interpolation` or `.sections`.
    """
    described = with_context(facts["architecture"])
    task = _task(described)
    training = dict(facts.get("training", {}))
    if (settings := training.pop(FORMER_TASK_KEYS[task], None)) is not None:
        training["task"] = {"kind": task, **with_context(settings)}
    validation = {
        key.replace("validation_interpolation_", "validation_axial_"): value
        for key, value in facts.items()
    }
    trained = {"training": training} if training else {}
    return {**validation, "architecture": described, **trained}


def with_context(settings: dict[str, Any]) -> dict[str, Any]:
    """The same settings with `context` for `beside`, its name in version 0.1.0."""
    return {("context" if key == "beside" else key): value for key, value in settings.items()}


def _task(architecture: dict[str, Any]) -> Task:
    design = architecture.get("design")
    return cast(Task, design) if design in get_args(Task) else "prior"


def _weights_path(name: str) -> Path:
    if name.endswith(PICKLES):
        command = shlex.join(
            ["emgen", "convert", name, str(Path(name).with_suffix(".safetensors"))]
        )
        raise EmgenError(
            f"the prior {name} is a pickle, which can run any program when it is read; convert its tensors and give what "
            f"that makes: {command}"
        )
    if name.endswith(".safetensors"):
        path = Path(name)
    elif "/" not in name:
        path = SHIPPED / f"{name}.safetensors"
    else:
        raise EmgenError(f"the prior {name} is neither a shipped name nor a .safetensors file")
    if not path.is_file():
        shipped = ", ".join(sorted(file.stem for file in SHIPPED.glob("*.safetensors"))) or "none"
        raise EmgenError(
            f"there is no prior {name}; shipped are: {shipped}; or give the path of a .safetensors file"
        )
    return path
