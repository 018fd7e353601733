"""What is wrong with a YAML file, in the words of whoever wrote it: the key, what was expected, what was found.

pydantic names a fault by the types that it tried, one message for each. Here the path of a fault is walked through
the types of the settings instead, and where a value may be one of several types, only the one that it looks like
is asked what is wrong with it.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, TypeAdapter, ValidationError

from emgen.config import plain
from emgen.errors import EmgenError

MAX_FAULTS = 10  # said at once: more fill a screen, and later ones often follow from the first
MAX_VALUE = 80  # characters of a value that are repeated
MAX_LINE = 360  # characters of a fault: ten of them fill a screen

T = TypeVar("T")

NUMERALS = ("no", "one", "two", "three", "four", "five", "six")
NOUNS = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a text", "texts"),
    bool: ("true or false", "times true or false"),
}
NAMES = {NoneType: "nothing", list: "a list", int: "a number", float: "a number"}
BOUNDS = {
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge:g}",
    "less_than": "less than {lt:g}",
    "less_than_equal": "at most {le:g}",
    "finite_number": "a finite number",
}
PLAIN = {
    "too_short": "at least {min_length} of them",
    "too_long": "at most {max_length} of them",
    "string_too_short": "a text that is not empty",
    "string_too_long": "at most {max_length} characters",
    "string_pattern_mismatch": "a name of letters, digits, `.`, `_` and `-` that begins with a letter or digit",
}
# faults of a value that is not of the type at all
WRONG_TYPE = ("_type", "_parsing", "_from_float", "literal_error")


@dataclass(frozen=True)
class Fault:
    """One fault: the key as in `restore.noise.gain`, what is wrong with it, and a key that may have been meant."""

    key: str
    text: str
    meant: str = ""

    def __str__(self) -> str:
        key = self.key if len(self.key) <= MAX_VALUE else f"{self.key[:MAX_VALUE]}..."
        line = f"{key}: {self.text}"
        return line if len(line) <= MAX_LINE else f"{line[:MAX_LINE]}..."


def read_mapping(path: str | Path, name: str, example: str) -> dict[str, Any]:
    """The keys and values in a YAML file.

    Args:
        path: of the file.
        name: what it is called in messages.
        example: a line of such a file.

    Raises:
        EmgenError: as `emgen.config.plain.read`, or no keys and values.
    """
    facts = plain.read(path, name)
    if not isinstance(facts, dict):
        raise EmgenError(
            f"{name}: expected keys and values, such as `{example}`; found {NAMES.get(type(facts), 'a text')}"
        )
    return facts


def checked(kind: type[T], given: Any, name: str, hint: str = "") -> T:
    """Keys and values as a typed object.

    Args:
        kind: a pydantic model, or a dict of such.
        given: keys and values as YAML has them.
        name: what they are called in messages, such as "the configuration".
        hint: a sentence that ends the message.

    Raises:
        EmgenError: they do not fit; up to ten faults, one a line.
    """
    try:
        return TypeAdapter(kind).validate_python(given)
    except ValidationError as error:
        faults = list(dict.fromkeys(map(str, explained(error, kind, given))))
    more = len(faults) - MAX_FAULTS
    lines = [*faults[:MAX_FAULTS], *([f"and {more} more"] if more > 0 else [])]
    text = "".join(f"\n  {line}" for line in lines)
    raise EmgenError(f"{name} is not right:{text}" + (f"\n{hint}" if hint else ""))


def explained(error: ValidationError, kind: Any, given: Any, key: str = "") -> list[Fault]:
    """All faults of an error, each once.

    Args:
        error: of validating `given`.
        kind: the type that it was validated against.
        given: keys and values.
        key: where they stand in a larger whole.
    """
    unions: set[str] = set()
    faults = [
        fault
        for details in error.errors(include_url=False)
        if not _is_echo(details)
        for fault in _followed(details["loc"], details, kind, given, key, unions)
    ]
    # `gian: 2` is one fault, not also a missing `gain`
    meant = {fault.meant for fault in faults}
    return [fault for fault in faults if fault.text != MISSING or fault.key not in meant]


def _is_echo(details: Any) -> bool:
    """Whether a list is called too short only because items of it are wrong, which are faults of their own."""
    value = details["input"]
    long = isinstance(value, list | tuple) and len(value) >= details.get("ctx", {}).get(
        "min_length", 0
    )
    return bool(details["type"] == "too_short" and long)


MISSING = "is missing and has no default"


def _followed(
    path: Sequence[str | int], details: Any, kind: Any, value: Any, key: str, unions: set[str]
) -> Iterator[Fault]:
    """The faults at the end of a path through `kind`; at a union on the way, those of the type that is meant.

    `unions` are the keys of those that were explained: every member of each is a fault of pydantic's own.
    """
    members = kinds(kind)
    if len(members) > 1:
        if key not in unions:
            unions.add(key)
            yield from _of_union(members, value, key)
        return
    (kind,) = members
    length = _length(kind)
    if length is not None and isinstance(value, list | tuple) and len(value) != length:
        yield Fault(key, f"expected {noun(kind)}; found {_numeral(len(value))}: {said(value)}")
    elif not path:
        yield Fault(key or _whole(kind), _wrong(details, kind))
    elif _is_model(kind) and isinstance(value, dict):
        yield from _followed_in_model(path, details, kind, value, key, unions)
    elif get_origin(kind) is dict and isinstance(value, dict) and path[0] in value:
        place = f"{key}.{path[0]}" if key else str(path[0])
        yield from _followed(path[1:], details, get_args(kind)[1], value[path[0]], place, unions)
    elif get_origin(kind) in (tuple, list) and isinstance(value, list | tuple):
        items = get_args(kind)
        item = items[0] if length is None else items[int(path[0])]
        place = f"{key}[{path[0]}]"
        yield from _followed(path[1:], details, item, value[int(path[0])], place, unions)
    else:
        # what a validator made of the value has no path in what was given
        yield Fault(key or _whole(kind), _wrong(details, kind))


def _whole(kind: Any) -> str:
    """What the whole of a file is called: `recipe`, or `configuration`."""
    name = getattr(kind, "__name__", "").lower()
    return "configuration" if name in ("", "config") else name


def _followed_in_model(
    path: Sequence[str | int],
    details: Any,
    model: type[BaseModel],
    value: Any,
    key: str,
    unions: set[str],
) -> Iterator[Fault]:
    name = str(path[0])
    inner = f"{key}.{name}" if key else name
    if name not in model.model_fields:
        near = _near(name, model)
        known = f"known are {', '.join(model.model_fields)}"
        meant = f"{key}.{near}" if key else near
        yield Fault(
            inner,
            f"there is no such key; {f'did you mean `{near}`?' if near else known}",
            meant if near else "",
        )
    elif name not in value:
        yield Fault(inner, MISSING)
    else:
        field = model.model_fields[name]
        yield from _followed(path[1:], details, field.annotation, value[name], inner, unions)


def _of_union(members: Sequence[Any], value: Any, key: str) -> Iterator[Fault]:
    """What is wrong with a value that may be of several types: said by that which it looks like, or of all."""
    alike = [kind for kind in members if _looks_like(kind, value)]
    if len(alike) > 1 and isinstance(value, dict):
        words = {kind: _tag(kind) for kind in alike}
        alike = [kind for kind, (tag, word) in words.items() if value.get(tag) == word]
        if not alike:
            tag = next(iter(words.values()))[0]
            known = [word for _, word in words.values()]
            advice = _meant([Literal[tuple(known)]], value.get(tag))
            yield Fault(
                f"{key}.{tag}", f"expected {_either(known)}; found {said(value.get(tag))}{advice}"
            )
            return
    for kind in alike:
        try:
            TypeAdapter(kind).validate_python(value)
        except ValidationError as error:
            yield from explained(error, kind, value, key)
            return
    yield Fault(
        key,
        f"expected {_either(map(noun, members))}; found {said(value)}{_meant(members, value)}",
    )


def _tag(model: type[BaseModel]) -> tuple[str, str]:
    """The key that tells a model from others, and its only word: `kind: Literal["axial"]`."""
    return next(
        (name, str(get_args(field.annotation)[0]))
        for name, field in model.model_fields.items()
        if get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1
    )


def _looks_like(kind: Any, value: Any) -> bool:
    (kind,) = kinds(kind)
    if isinstance(value, dict):
        return _is_model(kind)
    if isinstance(value, list | tuple):
        return get_origin(kind) in (tuple, list)
    if isinstance(value, int | float):
        return kind in (int, float)
    return kind is str and isinstance(value, str)


def _wrong(details: Any, kind: Any) -> str:
    """What is wrong with one value, for which its own type is asked."""
    problem, value, context = details["type"], details["input"], details.get("ctx", {})
    if problem == "value_error":
        return str(context["error"])
    if problem in PLAIN:
        return f"expected {PLAIN[problem].format(**context)}; found {said(value)}"
    if problem in BOUNDS:
        return f"expected {BOUNDS[problem].format(**context)}; found {said(value)}"
    if problem.endswith(WRONG_TYPE):
        return f"expected {noun(kind)}; found {said(value)}{_meant([kind], value)}"
    return f"{details['msg'][0].lower()}{details['msg'][1:]}; found {said(value)}"


def kinds(kind: Any) -> list[Any]:
    """The types that a value of a type may have, null apart: those of a union, or only one."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) not in (Union, UnionType):
        return [kind]
    members = [member for member in get_args(kind) if member is not NoneType]
    # the members of a union keep their bounds; a type or null is that type
    return members if len(members) > 1 else kinds(members[0])


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _length(kind: Any) -> int | None:
    """How many items a tuple type has, None where that is not fixed."""
    items = get_args(kind)
    return len(items) if get_origin(kind) is tuple and items[-1] is not Ellipsis else None


def noun(kind: Any) -> str:
    """A type in words: `a number`, `three whole numbers`, `a mapping of gain, sigma and black`."""
    members = kinds(kind)
    if len(members) > 1:
        return _either(map(noun, members))
    (kind,) = members
    if get_origin(kind) is Literal:
        return _either(map(str, get_args(kind)))
    if get_origin(kind) in (tuple, list):
        length, item = _length(kind), kinds(get_args(kind)[0])[0]
        many = NOUNS[item][1] if item in NOUNS else "items"
        return f"a list of {many}" if length is None else f"{_numeral(length)} {many}"
    if _is_model(kind):
        return f"a mapping {_keys(kind)}"
    return NOUNS[kind][0] if kind in NOUNS else getattr(kind, "__name__", str(kind))


def _needed(model: type[BaseModel]) -> list[str]:
    """The keys that a model cannot do without."""
    return [name for name, field in model.model_fields.items() if field.is_required()]


def _keys(model: type[BaseModel]) -> str:
    """What keys a model has, in words: those that it needs, or an example."""
    if needed := _needed(model):
        return f"with {_listed([f'`{name}:`' for name in needed], 'and')}"
    return f"of keys such as `{next(iter(model.model_fields))}:`"


def _near(name: str, model: type[BaseModel]) -> str:
    """The key that may have been meant, also one of a part of the model, or ""."""
    parts = {
        f"{part}.{key}"
        for part, field in model.model_fields.items()
        if _is_model(field.annotation)
        for key in field.annotation.model_fields  # type: ignore[union-attr]
    }
    inside = [key for key in sorted(parts) if key.endswith(f".{name}")]
    close = difflib.get_close_matches(name[:MAX_VALUE], model.model_fields, n=1)
    return (close or inside or [""])[0]


def _meant(members: Sequence[Any], value: Any) -> str:
    """Advice where a word is nearly one of those that are known, or is the one thing that a mapping needs."""
    types = [kind for member in members for kind in kinds(member)]
    words = [str(word) for kind in types if get_origin(kind) is Literal for word in get_args(kind)]
    word = str(value)[:MAX_VALUE] if isinstance(value, str | int | float) else ""
    if close := difflib.get_close_matches(word, words, n=1):
        return f"; did you mean {close[0]}?"
    if len(types) == 1 and _is_model(types[0]) and isinstance(value, str):
        needed = _needed(types[0])
        return f"; write it as {{{needed[0]}: {value[:MAX_VALUE]}}}" if len(needed) == 1 else ""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _wrapped(types, value)
    return ""


def _wrapped(types: Sequence[Any], value: float) -> str:
    """Advice where a number stands alone that belongs into a list or a mapping: `lost: 5`, `adapt: 300`."""
    for kind in types:
        if get_origin(kind) is tuple and _length(kind) is None:
            return f"; write it as [{value}]"
        if len(types) == 1 and _is_model(kind) and len(kind.model_fields) == 1:
            return f"; write it as {{{next(iter(kind.model_fields))}: {value}}}"
    return ""


def _either(nouns: Any) -> str:
    return _listed(list(nouns), "or")


def _listed(nouns: Sequence[str], last: str) -> str:
    *first, end = nouns
    return f"{', '.join(first)} {last} {end}" if first else end


def _numeral(count: int) -> str:
    return NUMERALS[count] if count < len(NUMERALS) else str(count)


def said(value: Any) -> str:
    """A value as it may stand in the file, shortened; of a large one no more is written than is repeated."""
    text = ""
    try:
        for piece in json.JSONEncoder(ensure_ascii=False, default=str).iterencode(value):
            text += piece
            if len(text) > MAX_VALUE:
                break
    except (TypeError, ValueError, RecursionError):
        text = str(type(value).__name__) if isinstance(value, dict | list) else str(value)
    return text if len(text) <= MAX_VALUE else f"{text[:MAX_VALUE]}..."
