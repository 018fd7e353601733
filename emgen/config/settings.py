"""What all parts of the configuration have in common."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

from emgen.config.faults import kinds, noun

Count = Annotated[int, Field(gt=0)]
Zyx = tuple[Count, Count, Count]


class Settings(BaseModel):
    """A part of the configuration: it never changes, and every key of a file must be one of its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _yes_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        # Python takes true, and YAML's yes, for 1
        kind = cls.model_fields[str(info.field_name)].annotation
        if isinstance(value, bool) and bool not in kinds(kind):
            raise ValueError(f"expected {noun(kind)}; found {str(value).lower()}")
        return value
