"""The exact versions in the requirement files, and the ranges in pyproject.toml."""

import tomllib

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from runs import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
FOR_USERS, FOR_DEVELOPERS = "requirements.txt", "requirements-dev.txt"


def pins(*files: str) -> dict[str, Requirement]:
    """The pins of these files by canonical name."""
    lines = [line for file in files for line in (ROOT / file).read_text().splitlines()]
    pinned = [Requirement(line) for line in lines if line and not line.startswith(("#", "-r "))]
    assert len({canonicalize_name(pin.name) for pin in pinned}) == len(pinned)
    return {canonicalize_name(pin.name): pin for pin in pinned}


def version(pin: Requirement) -> str:
    """The one version of a pin."""
    (exact,) = pin.specifier
    assert exact.operator == "==" and not pin.url
    return exact.version


def for_users() -> list[Requirement]:
    """What pyproject.toml says emgen needs to run."""
    return [Requirement(line) for line in PROJECT["dependencies"]]


def for_developers() -> list[Requirement]:
    """What it says they need on top."""
    return [Requirement(line) for line in PROJECT["optional-dependencies"]["dev"]]


def extras() -> list[Requirement]:
    """What emgen uses where the user has it."""
    groups = PROJECT["optional-dependencies"]
    return [Requirement(line) for name, lines in groups.items() if name != "dev" for line in lines]
