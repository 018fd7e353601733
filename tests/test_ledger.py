"""The ledger: what was written last holds, and nothing that was torn, lost or flipped is ever believed."""

import random
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emgen.volumes.ledger import Entry, Ledger
from emgen.volumes.stamp import Stamp, holds_the_same, secured

STAMPS = st.builds(
    Stamp, st.integers(0, 1 << 50), st.integers(0, 1 << 62), st.integers(0, 2**32 - 1)
)
ENTRIES = st.builds(
    Entry,
    st.integers(0, 9),
    st.sampled_from(["done", "empty", "failed", "damaged"]),
    st.lists(st.none() | STAMPS, max_size=2).map(tuple),
    made_of=st.none() | st.just("ab12"),
    seconds=st.none() | st.floats(0, 1e6),
    mean=st.none() | st.floats(-1e6, 1e6),
    reason=st.none() | st.text(max_size=30),
)


def write(folder: Path, entries: list[Entry], units=range(10)) -> Path:
    """The only file of a ledger with these lines."""
    book = Ledger(folder, "k").open(units)
    for entry in entries:
        book.add(entry)
    return book.path


def facts(entry: Entry) -> dict:
    return {**vars(entry), "turn": None}


@settings(max_examples=30)
@given(st.lists(ENTRIES, min_size=1, max_size=12))
def test_the_last_line_of_a_unit_holds(entries):
    with TemporaryDirectory() as folder:
        write(Path(folder) / "l", entries)
        found = Ledger(Path(folder) / "l", "k").read()
    last = {entry.unit: facts(entry) for entry in entries}
    assert {unit: facts(entry) for unit, entry in found.items()} == last
    assert list(found) == sorted(found)


@settings(max_examples=30)
@given(st.lists(st.tuples(ENTRIES, st.sampled_from([3, 4, 7])), min_size=1, max_size=12))
def test_the_last_line_holds_whichever_file_it_is_in(entries):
    """Jobs of 3, of 4 and of 7 units wrote by turns: their files overlap."""
    with TemporaryDirectory() as folder:
        ledger = Ledger(Path(folder) / "l", "k")
        for entry, size in entries:
            first = entry.unit - entry.unit % size
            ledger.open(range(first, first + size)).add(entry)
        found = ledger.read()
        wanted = ledger.read([2, 9])
    last = {entry.unit: facts(entry) for entry, _ in entries}
    assert {unit: facts(entry) for unit, entry in found.items()} == last
    assert wanted == {unit: found[unit] for unit in (2, 9) if unit in found}


@settings(max_examples=60)
@given(st.lists(ENTRIES, min_size=1, max_size=6), st.integers(0, 1 << 30), st.data())
def test_a_damaged_file_never_says_what_was_not_written(entries, seed, data):
    """Cut, flipped, or with rubbish in it: each line that is still believed is one that was written."""
    with TemporaryDirectory() as folder:
        path = write(Path(folder) / "l", entries)
        text, chance = bytearray(path.read_bytes()), random.Random(seed)
        kind = data.draw(st.sampled_from(["cut", "flip", "rubbish", "twice"]))
        if kind == "cut":
            del text[chance.randrange(len(text)) :]
        elif kind == "flip":
            text[chance.randrange(len(text))] ^= 1 << chance.randrange(8)
        elif kind == "rubbish":
            at = chance.randrange(len(text) + 1)
            text[at:at] = chance.randbytes(chance.randrange(1, 200))
        else:
            text = text + text
        path.write_bytes(text)
        found = Ledger(Path(folder) / "l", "k").read()
        written = [facts(entry) for entry in entries]
        assert all(facts(entry) in written for entry in found.values())
        # a file that is damaged takes new lines
        new = Entry(5, "done", (Stamp(1, 2, 3),))
        write(Path(folder) / "l", [new])
        assert facts(Ledger(Path(folder) / "l", "k").read()[5]) == facts(new)


def test_a_torn_line_takes_only_itself_along(tmp_path):
    path = write(tmp_path, [Entry(unit, "done") for unit in range(3)])
    path.write_bytes(path.read_bytes()[:-5])
    assert list(Ledger(tmp_path, "k").read()) == [0, 1]
    write(tmp_path, [Entry(7, "empty")])
    assert list(Ledger(tmp_path, "k").read()) == [0, 1, 7]


def test_lines_of_another_plan_are_as_if_they_were_not_there(tmp_path):
    write(tmp_path, [Entry(1, "done")])
    assert Ledger(tmp_path, "other").read() == {}


def test_a_unit_that_was_marked_is_done_again_after_it_was_made_again(tmp_path):
    ledger = Ledger(tmp_path, "k")
    write(tmp_path, [Entry(1, "done")])
    ledger.mark({1: "flipped"}, by="verify")
    assert ledger.read()[1].state == "damaged" and ledger.read()[1].reason == "flipped"
    write(tmp_path, [Entry(1, "done")])
    assert ledger.read()[1].finished
    # also where the file that said so first was lost
    ledger.mark({1: "flipped"}, by="verify")
    next(tmp_path.glob("0-9.jsonl")).unlink()
    assert not ledger.read()[1].finished
    write(tmp_path, [Entry(1, "done")])
    assert ledger.read()[1].finished


@pytest.mark.parametrize("rubbish", [b"[" * 100_000, b"\0" * 999, b"\xff\xfe", b"{}", b"null", b""])
def test_rubbish_is_no_line(tmp_path, rubbish):
    (tmp_path / "0-9.jsonl").write_bytes(rubbish + b"\n" + rubbish)
    assert Ledger(tmp_path, "k").read() == {}
    write(tmp_path, [Entry(3, "done")])
    assert list(Ledger(tmp_path, "k").read()) == [3]


class TestStamp:
    @pytest.fixture
    def file(self, tmp_path):
        path = tmp_path / "chunk"
        path.write_bytes(b"some bytes")
        return path, secured(path)

    def test_a_checksum_is_that_of_castagnoli(self, tmp_path):
        (tmp_path / "a").write_bytes(b"123456789")  # the check value of CRC-32C
        assert Stamp.of(tmp_path / "a").crc32c == 0xE3069283

    @pytest.mark.parametrize("content", [b"some byteS", b"some byte", b"", None])
    def test_other_bytes_are_seen(self, file, content):
        path, before = file
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        assert not holds_the_same(before, Stamp.now(path, before))

    def test_the_same_bytes_written_again_are_the_same(self, file):
        path, before = file
        path.write_bytes(b"some bytes")
        assert holds_the_same(before, Stamp.now(path, before))

    def test_bytes_that_rotted_without_a_word_are_seen_by_a_thorough_look(self, file):
        import os

        path, before = file
        path.write_bytes(b"some byteS")
        os.utime(path, ns=(before.mtime_ns, before.mtime_ns))
        assert holds_the_same(before, Stamp.now(path, before))
        assert not holds_the_same(before, Stamp.now(path, before, thorough=True))

    def test_a_folder_in_its_place_is_seen(self, file):
        path, before = file
        path.unlink()
        path.mkdir()
        assert not holds_the_same(before, Stamp.now(path, before))
        assert not holds_the_same(Stamp.of(path), Stamp.of(path))

    def test_no_file_is_the_same_as_no_file(self, tmp_path):
        assert holds_the_same(None, Stamp.now(tmp_path / "a", None))
        (tmp_path / "a").touch()
        assert not holds_the_same(None, Stamp.now(tmp_path / "a", None))
