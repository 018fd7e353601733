"""What all parts of the configuration have in common."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from emgen.config.faults import kinds


def _from_home(path: str) -> str:
    """A path whose leading ~ or ~name is the home folder, as in a shell; anything else as it is."""
    try:
        return str(Path(path).expanduser()) if path.startswith("~") else path
    except RuntimeError:
        return path  # nobody of that name is known: no volume will be found there


Place = Annotated[str, AfterValidator(_from_home)]
"""A path from the folder where the command stands, a whole path, one from ~, or a URL."""
Count = Annotated[int, Field(gt=0)]
Zyx = tuple[Count, Count, Count]


class Settings(BaseModel):
    """A part of the configuration: it never changes, and every key of a file must be one of its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _yes_is_no_number(cls, given: Any) -> Any:
        """Python takes true, which is YAML's yes, for the number 1; as a word it is refused."""
        if not isinstance(given, dict):
            return given
        fields = cls.model_fields
        return {
            name: str(value).lower()
            if isinstance(value, bool) and name in fields and _numeric(fields[name].annotation)
            else value
            for name, value in given.items()
        }


def _numeric(kind: Any) -> bool:
    """Whether a value of a type may be a number, and not true or false."""
    members = [member for union in kinds(kind) for member in kinds(union)]
    return bool({int, float} & set(members)) and bool not in members
