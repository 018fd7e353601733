"""`config/config.yaml` and `config/schema.json`, written from the settings: `python -m emgen.config.manual`."""

from __future__ import annotations

import json
import textwrap
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from emgen.config.run import Config


def schema() -> str:
    """JSON schema of the configuration, for editors and other programs."""
    return json.dumps(Config.model_json_schema(), indent=2) + "\n"


def document() -> str:
    """`config/config.yaml`: every key with its sentence and its default."""
    lines = [
        "# yaml-language-server: $schema=schema.json",
        "# Every setting with its default, written from emgen/config/. Copy what you change into a file of your",
        "# own and run `snakemake --configfile my.yaml --cores all`; `run` and `input.volume` have no default.",
        "",
        *_document(Config, 0),
    ]
    return "\n".join(lines) + "\n"


def _document(model: type[BaseModel], depth: int) -> list[str]:
    indent = "  " * depth
    lines: list[str] = []
    for name, field in model.model_fields.items():
        sentence = textwrap.wrap(field.description or "", 100 - len(indent))
        lines += [f"{indent}# {line}" for line in sentence]
        nested = field.annotation
        if isinstance(nested, type) and issubclass(nested, BaseModel):
            lines += [f"{indent}{name}:", *_document(nested, depth + 1)]
        elif field.is_required():
            lines.append(f"{indent}# {name}:")
        else:
            lines.append(f"{indent}{name}: {_yaml(field.default)}")
        if depth == 0:
            lines.append("")
    return lines


def _yaml(value: Any) -> str:
    return json.dumps(list(value) if isinstance(value, tuple) else value)


if __name__ == "__main__":
    Path("config/schema.json").write_text(schema())
    Path("config/config.yaml").write_text(document())
