"""Units of length: the names of files and of people, and nothing else."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from emgen.volumes.units import SYMBOLS, WORDS, nanometres


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize(
    "spelling",
    [str, str.upper, str.title, lambda w: f" {w}\n", lambda w: w.replace("meter", "metre")],
)
def test_words_are_known_in_any_spelling(word, spelling):
    assert nanometres(spelling(word)) == WORDS[word]
    assert nanometres(spelling(f"{word}s")) == WORDS[word]


@pytest.mark.parametrize(
    ("unit", "nm"),
    [
        ("\u00b5m", 1e3),
        ("\u03bcm", 1e3),
        ("micron", 1e3),
        ("Micrometers", 1e3),
        ("\u00c5", 0.1),
        ("\u212b", 0.1),
        ("A\u030angstr\u00f6m", 0.1),
        ("nanometres", 1),
        ("NM", 1),
        ("inches", 2.54e7),
    ],
)
def test_names_found_in_files(unit, nm):
    assert nanometres(unit) == nm


@pytest.mark.parametrize("unit", [None, "", " ", "pixel", "Pixels", "px", "unknown"])
def test_no_unit_is_not_an_unknown_unit(unit):
    assert nanometres(unit) is None


@pytest.mark.parametrize("unit", ["parsec", "Mm", "Pm", "second", "nanometerx", "s", 3, ["nm"], {}])
def test_what_is_no_length_of_voxels_is_refused(unit):
    with pytest.raises(ValueError, match=r"unit of length"):
        nanometres(unit)


@given(st.one_of(st.none(), st.text(), st.text(string.ascii_letters, max_size=4), st.integers()))
def test_anything_else_is_a_length_nothing_or_refused(unit):
    try:
        nm = nanometres(unit)
    except ValueError as error:
        nm, said = None, str(error)
    else:
        said = ""
    assert nm is None or nm in {*SYMBOLS.values(), *WORDS.values()}
    assert len(said) < 200
