"""Faults of a configuration are said in the words of whoever wrote it, one line each."""

from datetime import date
from typing import Annotated, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from emgen.config import Config, parse
from emgen.config.faults import MAX_FAULTS, checked, read_mapping
from emgen.config.settings import Settings
from emgen.errors import EmgenError

MINIMAL = {"run": "a", "input": {"volume": "v.ome.zarr"}}


def faults(change) -> list[str]:
    """What is said of a configuration with this change, without the first line and the last."""
    with pytest.raises(EmgenError) as error:
        parse({**MINIMAL, **change})
    first, *lines, last = str(error.value).splitlines()
    assert first == "the configuration is not right:" and "config/config.yaml" in last
    return [line.strip() for line in lines]


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            {"restore": {"noise": "possion"}},
            "restore.noise: expected auto, poisson or correlated, a number or a mapping with `gain:`; "
            'found "possion"; did you mean poisson?',
        ),
        ({"restore": {"noise": {"gain": -1}}}, "restore.noise.gain: expected at least 0; found -1"),
        (
            {"restore": {"noise": {"gian": 2}}},
            "restore.noise.gian: there is no such key; did you mean `gain`?",
        ),
        ({"restore": {"noise": -1}}, "restore.noise: expected at least 0; found -1"),
        (
            {"input": "v.zarr"},
            'input: expected a mapping with `volume:`; found "v.zarr"; write it as {volume: v.zarr}',
        ),
        (
            {"input": {"volume": "v", "lost": [4, -2]}},
            "input.lost[1]: expected at least 0; found -2",
        ),
        (
            {"input": {"volume": "v", "lost": 5}},
            "input.lost: expected auto or a list of whole numbers; found 5; write it as [5]",
        ),
        ({"grid": {"halo": [1, 2]}}, "grid.halo: expected three whole numbers; found two: [1, 2]"),
        ({"grid": {"halo": 16}}, "grid.halo: expected three whole numbers; found 16"),
        ({"grid": {"halo": [1, "x", 2]}}, 'grid.halo[1]: expected a whole number; found "x"'),
        (
            {"restore": {"psf": {"sigma": [1]}}},
            "restore.psf.sigma: expected two numbers; found one: [1]",
        ),
        (
            {"restore": {"psf": {"sigma": "wide"}}},
            'restore.psf.sigma: expected a number or two numbers; found "wide"',
        ),
        (
            {"restore": {"psf": "blnd"}},
            'restore.psf: expected the word "blind", or a mapping of sigma and angle, or of kernel; found "blnd"; did you '
            "mean blind?",
        ),
        (
            {"restore": {"psf": [1, 2]}},
            'restore.psf: expected the word "blind", or a mapping of sigma and angle, or of kernel; found [1, 2]',
        ),
        (
            {"restore": {"adapt": 300}},
            "restore.adapt: expected a mapping of keys such as `steps:`; found 300; write it as {steps: 300}",
        ),
        ({"restore": None}, "restore: expected a mapping of keys such as `mode:`; found null"),
        ({"restore": {"samples": True}}, 'restore.samples: expected a whole number; found "true"'),
        ({"restore": {"start": 1.5}}, "restore.start: expected less than 1; found 1.5"),
    ],
)
def test_one_fault_is_one_line(change, line):
    assert faults(change) == [line]


def test_a_key_of_another_part_is_sent_there():
    assert faults({"halo": [1, 2, 3]}) == ["halo: there is no such key; did you mean `grid.halo`?"]


def test_at_most_ten_faults_are_said():
    lines = faults({"restore": {f"key{k}": 1 for k in range(13)}})
    assert len(lines) == MAX_FAULTS + 1 and lines[-1] == "and 3 more"


@pytest.mark.parametrize(
    "change",
    [
        {"k" * 5000: 1},
        {"run": "x y" * 5000},
        {"restore": {"noise": {"gain": 1, "k" * 5000: [[1] * 500] * 500}}},
        {"restore": {"psf": ["x" * 100] * 5000}},
        {"input": {"volume": "v", "lost": [-1] * 5000}},
        {"restore": {"k" * 500 + str(k): k for k in range(40)}},
    ],
)
def test_no_message_is_longer_than_a_screen(change):
    lines = faults(change)
    assert len(lines) <= MAX_FAULTS + 1 and max(map(len, lines)) <= 400


def test_yaml_takes_some_words_for_something_else_and_is_understood():
    written = {"run": "2024-05-17", "output": {"ngff": "0.5"}}
    read = {"run": date(2024, 5, 17), "output": {"ngff": 0.5}}
    assert parse({**MINIMAL, **read}) == parse({**MINIMAL, **written})


def keys(model: type[BaseModel], before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Paths of all keys, those of parts too."""
    paths = []
    for name, field in model.model_fields.items():
        paths.append((*before, name))
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            paths += keys(field.annotation, (*before, name))
    return paths


def changed(path: tuple[str, ...], value: object) -> dict[str, object]:
    """The least configuration with this value at a key."""
    first, *rest = path
    if not rest:
        return {**MINIMAL, first: value}
    inner: object = value
    for name in reversed(rest[1:]):
        inner = {name: inner}
    part = MINIMAL.get(first, {})
    return {**MINIMAL, first: {**part, rest[0]: inner}}


values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 300) | st.floats() | st.text("aino-", max_size=6),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text("gains"), inner, max_size=2)
    ),
    max_leaves=5,
)
PYTHON_WORDS = ("input should", "instance", "dictionary", "tuple", "literal", "valid", "Settings")


@given(st.sampled_from(keys(Config)), values)
@settings(max_examples=400, deadline=None)
def test_whatever_is_written_at_a_key_is_taken_or_said_in_plain_words(path, value):
    try:
        parse(changed(path, value))
    except EmgenError as error:
        _, *lines, _ = str(error).splitlines()
        name = ".".join(path)
        assert lines and all(
            line.strip().startswith((name, "configuration", path[0])) for line in lines
        )
        assert not [word for word in PYTHON_WORDS for line in lines if word in line], lines


class Part(Settings):
    """A part of a list or of names."""

    size: int


class Round(Settings):
    """One of two."""

    kind: Literal["round"] = "round"
    radius: int


class Square(Settings):
    """The other."""

    kind: Literal["square"] = "square"
    side: int = 1


class Whole(Settings):
    """What other files of the project have: lists and names of parts, and one of several parts."""

    shape: Annotated[Round | Square, Field(discriminator="kind")] = Square()

    parts: tuple[Part, ...] = ()
    named: dict[str, Part] = Field(default_factory=dict)


def test_faults_within_lists_and_names_have_their_place():
    with pytest.raises(EmgenError) as error:
        checked(
            Whole, {"parts": [{"size": 1}, {"size": "x"}], "named": {"a": {}}}, "the recipe a.yaml"
        )
    assert str(error.value).splitlines() == [
        "the recipe a.yaml is not right:",
        '  parts[1].size: expected a whole number; found "x"',
        "  named.a.size: is missing and has no default",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: [", r"my\.yaml is not YAML"),
        ("just text", r"my\.yaml: expected keys and values, such as `run: my-run`; found a text"),
        ("", "found nothing"),
        (None, r"my\.yaml cannot be read: No such file"),
        ("- 1", "found a list"),
    ],
)
def test_a_file_without_keys_and_values_is_refused(tmp_path, text, message):
    path = tmp_path / "my.yaml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(EmgenError, match=message):
        read_mapping(path, str(path), "run: my-run")


@pytest.mark.parametrize(
    ("shape", "line"),
    [
        ({"kind": "round"}, "shape.radius: is missing and has no default"),
        ({"kind": "square", "side": "x"}, 'shape.side: expected a whole number; found "x"'),
        (
            {"kind": "sqare"},
            'shape.kind: expected round or square; found "sqare"; did you mean square?',
        ),
        ({}, "shape.kind: expected round or square; found null"),
        (
            3,
            "shape: expected a mapping with `radius:` or a mapping of keys such as `kind:`; found 3",
        ),
    ],
)
def test_one_of_several_parts_is_told_by_its_kind(shape, line):
    with pytest.raises(EmgenError) as error:
        checked(Whole, {"shape": shape}, "the recipe")
    assert str(error.value).splitlines()[1:] == [f"  {line}"]
