"""Chunks of every compression: whole, cut, changed, too large; never a byte that was not stored."""

import struct
import zlib

import numcodecs
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emgen.volumes.unpack import KNOWN, unpack

MAKERS = {
    "blosc": [
        numcodecs.Blosc("lz4", 5, numcodecs.Blosc.SHUFFLE),
        numcodecs.Blosc("zstd", 1, numcodecs.Blosc.NOSHUFFLE),
        numcodecs.Blosc("zlib", 1, numcodecs.Blosc.BITSHUFFLE, blocksize=256),
    ],
    "zstd": [numcodecs.Zstd(1), numcodecs.Zstd(5, checksum=True)],
    "lz4": [numcodecs.LZ4()],
    "gzip": [numcodecs.GZip(1)],
    "zlib": [numcodecs.Zlib(1)],
    "bz2": [numcodecs.BZ2(1)],
    "lzma": [numcodecs.LZMA()],
}
cases = st.sampled_from([(name, maker) for name, makers in MAKERS.items() for maker in makers])
# noise, which Blosc stores as it is, and what is easily compressed
contents = st.builds(
    lambda seed, length, levels: np.random.default_rng(seed).integers(0, levels, length, np.uint8),
    st.integers(0, 99),
    st.integers(1, 3000),
    st.sampled_from([2, 256]),
)


def test_every_compression_is_tried():
    assert set(MAKERS) == set(KNOWN)


@given(cases, contents)
def test_what_was_stored_comes_back(case, content):
    name, maker = case
    assert unpack(name, bytes(maker.encode(content)), content.size) == content.tobytes()


@settings(max_examples=200)
@given(cases, contents, st.data())
def test_a_chunk_that_was_cut_is_refused(case, content, data):
    name, maker = case
    packed = bytes(maker.encode(content))
    cut = data.draw(st.integers(0, len(packed) - 1))
    try:
        found = unpack(name, packed[:cut], content.size)
    except ValueError:
        found = content.tobytes()
    assert found == content.tobytes()


@given(cases, contents, st.integers(1, 5000))
def test_a_chunk_of_another_size_is_refused(case, content, size):
    name, maker = case
    if size != content.size:
        with pytest.raises(ValueError, match="expected"):
            unpack(name, bytes(maker.encode(content)), size)


@settings(max_examples=200)
@given(cases, st.binary(max_size=60), contents)
def test_other_bytes_are_refused(case, other, content):
    name, maker = case
    packed = bytes(maker.encode(content))
    for wrong in (other, b"<!DOCTYPE html><html>no</html>", other + packed[len(other) :]):
        try:
            found = unpack(name, wrong, content.size)
        except ValueError:
            continue
        assert len(found) == content.size


def test_a_web_page_is_called_one():
    for name in KNOWN:
        with pytest.raises(ValueError, match="web page"):
            unpack(name, b"  <!doctype html><html><body>Not found</body></html>", 100)


def zstd_without_size(blocks):
    """A zstd frame that does not say its size, of (kind, length, content) blocks."""
    frame = struct.pack("<IBB", 0xFD2FB528, 0, 80)
    for i, (kind, length, content) in enumerate(blocks):
        header = (length << 3) | (kind << 1) | (i == len(blocks) - 1)
        frame += header.to_bytes(3, "little") + content
    return frame


def test_zstd_may_leave_out_its_size():
    frame = zstd_without_size([(0, 3, b"abc"), (1, 4, b"d")])
    assert unpack("zstd", frame, 7) == b"abcdddd"
    for wrong in (frame[:-1], frame[:10], zstd_without_size([(1, 2**17, b"a")] * 8192)):
        with pytest.raises(ValueError, match=r"cut|expected"):
            unpack("zstd", wrong, 7)


def test_bombs_are_refused_before_they_are_unpacked():
    zeros = bytes(50_000_000)
    with pytest.raises(ValueError, match="expected 100"):
        unpack("zlib", zlib.compress(zeros), 100)
    with pytest.raises(ValueError, match="expected 100"):
        unpack("zstd", bytes(numcodecs.Zstd(1).encode(zeros)), 100)
