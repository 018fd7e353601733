"""YAML and JSON files that somebody else may have written: plain values of a bounded size, and never a program.

A few hundred bytes of YAML can stand for a billion values (anchors), or for code (`__use_yte__`, with which Snakemake
takes a file of settings for a template). So a file is walked through as a stream of events before any value is made.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from emgen.errors import EmgenError

MAX_BYTES = 500_000
MAX_VALUES = 50_000  # in all, each alias counted as what it stands for
MAX_DEPTH = 20  # of lists and mappings within each other; settings have four
MAX_TEXT = 10_000  # characters of one value
TEMPLATE = "__use_yte__"


def read(path: str | Path, name: str) -> Any:
    """What is in a YAML file: dictionaries, lists, texts, numbers and dates.

    Args:
        path: of the file.
        name: what it is called in messages.

    Raises:
        EmgenError: no such file, not YAML, a template, a key given twice, or more than a file of settings can need.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise EmgenError(f"{name} cannot be read: {error.strerror}") from None
    if len(content) > MAX_BYTES:
        raise EmgenError(
            f"{name} is larger than {MAX_BYTES // 1000} kB; expected a file of settings, which has a few"
        )
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise EmgenError(f"{name} is not text in UTF-8, and so not YAML") from None
    return parsed(text, name)


def parsed(text: str, name: str) -> Any:
    """What a YAML text says; see `read`."""
    if TEMPLATE in text:
        raise EmgenError(_program(name, TEMPLATE))
    try:
        _refuse_bombs(text, name)
        return yaml.load(text, Loader=_loader(name))
    except yaml.YAMLError as error:
        raise EmgenError(f"{name} is not YAML: {error}") from None
    except (ValueError, OverflowError, TypeError, AttributeError, LookupError) as error:
        # what looks like a date or a number, and is none: 2024-13-45
        raise EmgenError(
            f"{name} has a value that cannot be read ({error}); put it between quotes if it is a text"
        ) from None


def _refuse_bombs(text: str, name: str) -> None:
    """`EmgenError` if the text stands for more than a file of settings can need; no value is made."""
    sizes: dict[str, int] = {}  # values that each anchor stands for
    opened: list[tuple[str | None, int]] = []
    total = 0
    for event in yaml.parse(text, Loader=yaml.SafeLoader):
        before = total
        total += _values(event, sizes, name)
        if isinstance(event, yaml.CollectionStartEvent):
            opened.append((event.anchor, before))
        elif isinstance(event, yaml.CollectionEndEvent):
            anchor, before = opened.pop()
            if anchor:
                sizes[anchor] = total - before
        elif isinstance(event, yaml.ScalarEvent) and event.anchor:
            sizes[event.anchor] = 1
        if len(opened) > MAX_DEPTH:
            raise EmgenError(
                f"{_line(name, event)}: lists and mappings stand more than {MAX_DEPTH} deep within each other; "
                "settings have four levels"
            )
        if total > MAX_VALUES:
            raise EmgenError(
                f"{_line(name, event)}: stands for more than {MAX_VALUES} values; write out what is meant, without "
                "anchors (&) and aliases (*)"
            )


def _values(event: Any, sizes: dict[str, int], name: str) -> int:
    """How many values an event adds."""
    if isinstance(event, yaml.AliasEvent):
        if event.anchor not in sizes:
            raise EmgenError(
                f"{_line(name, event)}: *{event.anchor} stands within what it names, or for nothing"
            )
        return sizes[event.anchor]
    if isinstance(event, yaml.ScalarEvent) and len(event.value) > MAX_TEXT:
        raise EmgenError(
            f"{_line(name, event)}: a value of {len(event.value)} characters; expected at most {MAX_TEXT}"
        )
    return int(isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent))


def _loader(name: str) -> type[yaml.SafeLoader]:
    """A loader of plain values that takes every key once, and none that is an instruction."""

    class Loader(yaml.SafeLoader):  # type: ignore[misc]  # yaml has no types
        def construct_mapping(self, node: Any, deep: bool = False) -> Any:
            known = set()
            for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
                if not isinstance(key, yaml.ScalarNode):
                    continue
                if key.value.startswith("__"):
                    raise EmgenError(_program(_line(name, key), key.value))
                if key.value in known:
                    raise EmgenError(
                        f"{_line(name, key)}: `{key.value}` is given twice in one place; keep one"
                    )
                known.add(key.value)
            return super().construct_mapping(node, deep)

    return Loader


def _line(name: str, place: Any) -> str:
    return f"{name}, line {place.start_mark.line + 1}"


def _program(name: str, key: str) -> str:
    return (
        f"{name} has the key `{key}`, with which a file of settings may run code; emgen runs none. Remove the key and "
        "write the values out"
    )


def read_json(path: str | Path, name: str, most: int = MAX_BYTES) -> dict[str, Any]:
    """The keys and values in a JSON file.

    Args:
        path: of the file.
        name: what it is called in messages.
        most: bytes that it may have.

    Raises:
        EmgenError: no such file, larger, not JSON, or no keys and values.
    """
    try:
        with Path(path).open("rb") as file:
            content = file.read(most + 1)
        if len(content) > most:
            raise ValueError(f"it has more than {most / 1e6:g} MB")
        facts = json.loads(content)
    except OSError as error:
        raise EmgenError(f"{name} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise EmgenError(f"{name} is damaged or no JSON ({error}); restore the file") from None
    if not isinstance(facts, dict):
        raise EmgenError(f"{name}: expected keys and values; found {type(facts).__name__}")
    return facts
