"""The configuration of a run: all its settings, as one typed object.

`config/config.yaml` and `config/schema.json` are written from here (`python -m emgen.config.manual`), and a
test keeps them in step. Machine matters (threads, memory, partitions) are not settings: they live in
`profiles/`.
"""

from __future__ import annotations

import re
from datetime import date
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from emgen.addresses import HOW_TO_GIVE, secrets
from emgen.config.faults import MAX_FAULTS, checked, read_mapping, said
from emgen.config.grid import GridSettings
from emgen.config.input import Input
from emgen.config.output import Output
from emgen.config.qc import Qc
from emgen.config.restore import Restore
from emgen.config.settings import Settings
from emgen.errors import EmgenError

RUN_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"  # names a folder on any file system, and no path
LONGEST_NAME = 100  # characters: of a folder, to which others are added


class Config(Settings):
    """A run of the workflow. Everything lands under results/<run>/."""

    run: Annotated[
        str,
        Field(
            pattern=RUN_NAME,
            max_length=LONGEST_NAME,
            description="Name of the run; everything lands under results/<run>/.",
        ),
    ]
    input: Annotated[Input, Field(description="What was measured.")]
    restore: Annotated[Restore, Field(description="How it is restored.")] = Restore()
    grid: Annotated[
        GridSettings,
        Field(description="How the output is cut into blocks, in output voxels (z, y, x)."),
    ] = GridSettings()
    output: Annotated[Output, Field(description="How it is stored.")] = Output()
    qc: Annotated[Qc, Field(description="What the result is measured against.")] = Qc()

    @field_validator("run", mode="before")
    @classmethod
    def _run_is_a_name(cls, value: Any) -> Any:
        # YAML takes 12 for a number and 2024-05-17 for a date
        if isinstance(value, int | date) and not isinstance(value, bool):
            return str(value)
        if isinstance(value, str) and not re.match(RUN_NAME, value):
            raise ValueError(
                f"expected a name of letters, digits, `.`, `_` and `-` that begins with a letter or digit; found {said(value)}"
            )
        return value

    @model_validator(mode="after")
    def _block_fits_shard(self) -> Config:
        unit = self.output.write_unit
        if any(b % u for b, u in zip(self.grid.block, unit, strict=True)):
            raise ValueError(
                f"grid.block {list(self.grid.block)} must be whole multiples of the write unit {list(unit)} "
                f"(output.{'shard' if self.output.ngff == '0.5' else 'chunk'}): two jobs that write one unit lose voxels"
            )
        return self


def parse(settings: dict[str, Any]) -> Config:
    """The typed configuration of a run.

    Args:
        settings: keys and values as YAML has them.

    Raises:
        EmgenError: unknown keys, wrong types or settings that do not fit together, up to ten faults in one message; or a
            password or signature in an address.
    """
    refuse_secrets(settings)
    return checked(
        Config, settings, "the configuration", "Every key is described in config/config.yaml."
    )


def refuse_secrets(settings: Any) -> None:
    """`EmgenError` if an address in the settings holds a password, a key or a signature."""
    if keys := list(islice(secrets(settings), MAX_FAULTS)):
        raise EmgenError(
            f"{', '.join(keys)}: expected a plain address, such as https://host/data.ome.zarr; found one with a user name, a "
            f"password or a signature in it. {HOW_TO_GIVE}"
        )


def load(path: str | Path) -> Config:
    """The configuration in a YAML file.

    Raises:
        EmgenError: no such file, not YAML, or as `parse` does.
    """
    return parse(read_mapping(path, str(path), "run: my-run"))
