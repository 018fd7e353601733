"""Files of settings from somebody else: plain values of a bounded size, and never a program."""

import json
import re

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from emgen.config import plain
from emgen.errors import LONGEST, EmgenError, sayable


def bomb(levels: int, each: str) -> str:
    """Anchors that stand for 10 ** levels values."""
    tens = (f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 10)}]" for k in range(1, levels))
    return "\n".join([f"a0: &a0 {each}", *tens])


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("__use_yte__: true\nrun: a", "may run code"),
        ("input: {__use_yte__: true}", "may run code"),
        ('"\\x5f_use_yte__": true', "may run code"),
        ("base: &b {__definitions__: [import os]}\n<<: *b", "may run code"),
        ("# \u0145__use_yte__: true\nrun: a", "may run code"),
        ("!!python/object/apply:os.system [id]", "is not YAML"),
        ("!!python/name:os.system", "is not YAML"),
        (bomb(9, "[x, x]"), "line 6: stands for more than 50000 values"),
        (bomb(9, "{k: x}"), "stands for more than 50000 values"),
        ("a: &a {b: *a}", "stands within what it names"),
        ("a: *b", "for nothing"),
        ("a: " + "[" * 5000, "more than 20 deep"),
        ("a: " + "x" * 20_000, "a value of 20000 characters"),
        ("a: 1\na: 2", "line 2: `a` is given twice"),
        ("run: a\ninput: {volume: a, volume: b}", "`volume` is given twice"),
        ("a: 2024-13-45", "between quotes"),
        ("a: " + "9" * 5000, "cannot be read"),
        ("a: 1\n---\na: 2", "is not YAML"),
        ("x: " + "- " * 3 + "\x00", "is not YAML"),
    ],
)
def test_a_program_a_bomb_or_two_values_for_one_key_are_refused(text, words):
    with pytest.raises(EmgenError, match=re.escape(words)):
        plain.parsed(text, "my.yaml")


def test_a_large_file_and_one_that_is_no_text_are_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("a: 1\n" + "# \n" * plain.MAX_BYTES)
    (tmp_path / "b.yaml").write_text("a: 1", encoding="utf-16")
    for name, words in (("a", "larger than 500 kB"), ("b", "not text in UTF-8"), ("c", "No such")):
        with pytest.raises(EmgenError, match=words):
            plain.read(tmp_path / f"{name}.yaml", "my.yaml")


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.dates(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("ab", max_size=3), inner),
    max_leaves=12,
)


@given(values)
@settings(max_examples=100, deadline=None)
def test_plain_values_are_read_as_they_were_written(value):
    assert plain.parsed(yaml.safe_dump(value), "my.yaml") == value


def test_a_few_anchors_are_no_bomb():
    assert plain.parsed("a: &a [1, 2]\nb: [*a, *a]", "my.yaml")["b"] == [[1, 2], [1, 2]]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[" * 100_000, "damaged or no JSON"),
        (b'{"a": ' + b"9" * 5000 + b"}", "damaged or no JSON"),
        (b'"\xff"', "damaged or no JSON"),
        (b"[1]", "expected keys and values; found list"),
        (b" " * 2000 + b"{}", "more than 0.001 MB"),
    ],
)
def test_json_is_read_to_a_size_and_a_depth(tmp_path, content, words):
    path = tmp_path / "a.json"
    path.write_bytes(content)
    with pytest.raises(EmgenError, match=words):
        plain.read_json(path, "a.json", most=1000 if content.startswith(b" ") else 500_000)
    path.write_text(json.dumps({"a": 1}))
    assert plain.read_json(path, "a.json") == {"a": 1}


@given(st.text(max_size=60), st.integers(0, 9000))
def test_a_message_is_a_screen_at_most_and_moves_no_cursor(text, length):
    said = str(EmgenError(f"{text}\x1b[2J\x9b2J\u202e{'x' * length}"))
    assert len(said) <= 4 * LONGEST and not set(said) & set("\x1b\x9b\u202e\x00\r")
    assert "\n" in sayable("two\nlines")
