"""JSON files that travel between the steps of a run, as typed objects."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from emgen.errors import EmgenError


class Figures(BaseModel):
    """Numbers that were measured; null where one cannot be given."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    def write(self, path: str | Path) -> None:
        """Write the numbers as JSON."""
        Path(path).write_text(self.model_dump_json(indent=2) + "\n")

    @classmethod
    def read(cls: type[FiguresT], path: str | Path) -> FiguresT:
        """Read what `write` wrote.

        Raises:
            EmgenError: it is something else.
        """
        try:
            return cls.model_validate_json(Path(path).read_text())
        except (OSError, ValidationError) as error:
            raise EmgenError(
                f"{path} is not a {cls.__name__} of this version of emgen; "
                f"remove it and run again ({error})"
            ) from None


FiguresT = TypeVar("FiguresT", bound=Figures)
