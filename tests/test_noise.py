"""The generator's known answers, and noise that belongs to a voxel and not to a block."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from emgen.geometry import Box
from emgen.sampling import philox as noise
from emgen.sampling.philox import normal, philox

# Random123's known answers for philox4x32, 10 rounds: counter, key, words.
KNOWN = [
    ([0] * 4, (0, 0), [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
    ([0xFFFFFFFF] * 4, (0xFFFFFFFF,) * 2, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
    (
        [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344],
        (0xA4093822, 0x299F31D0),
        [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1],
    ),
]


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
def test_known_answers(counter: list[int], key: tuple[int, int], words: list[int]) -> None:
    # Enough copies to go through the vectorised code, and a remainder.
    found = philox([torch.full((37,), c, dtype=torch.int64) for c in counter], key)
    assert [set(word.tolist()) for word in found] == [{word} for word in words]


def test_philox_in_plain_integers() -> None:
    mask = 0xFFFFFFFF
    counter = np.random.default_rng(0).integers(0, 2**32, (4, 50), dtype=np.int64)

    def plain(c: list[int], k: list[int]) -> list[int]:
        for _ in range(10):
            p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
            c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & mask, (p0 >> 32) ^ c[3] ^ k[1], p0 & mask]
            k = [(k[0] + 0x9E3779B9) & mask, (k[1] + 0xBB67AE85) & mask]
        return c

    found = torch.stack(philox(list(torch.from_numpy(counter)), (7, 9))).T.tolist()
    assert found == [plain(c, [7, 9]) for c in counter.T.tolist()]


@st.composite
def two_boxes(draw: st.DrawFn) -> tuple[Box, Box]:
    """Two boxes with voxel `base` in both, anywhere in a volume of 2^31 voxels a side."""
    base = draw(st.tuples(*[st.integers(0, 2**31 - 30)] * 3))
    sizes = st.tuples(*[st.integers(0, 9)] * 3)

    def around() -> Box:
        before, after = draw(sizes), draw(sizes)
        return Box(
            tuple(max(0, b - d) for b, d in zip(base, before, strict=True)),
            tuple(b + 1 + d for b, d in zip(base, after, strict=True)),
        )

    return around(), around()


@given(boxes=two_boxes(), chunk=st.sampled_from([1, 7, 1 << 16]))
@settings(max_examples=30, deadline=None)
def test_overlapping_boxes_agree_to_the_bit(boxes: tuple[Box, Box], chunk: int) -> None:
    a, b = boxes
    common = a.intersect(b)
    before = noise.CHUNK
    try:
        one = normal(3, 1, 4, a)
        noise.CHUNK = chunk
        two = normal(3, 1, 4, b)
    finally:
        noise.CHUNK = before
    assert tuple(one.shape) == a.shape
    assert torch.equal(one[common.relative_to(a).slices], two[common.relative_to(b).slices])


def test_threads_do_not_matter() -> None:
    threads, box = torch.get_num_threads(), Box((1, 2, 3), (40, 70, 90))
    try:
        torch.set_num_threads(1)
        one = normal(0, 0, 0, box)
        torch.set_num_threads(3)
        assert torch.equal(normal(0, 0, 0, box), one)
    finally:
        torch.set_num_threads(threads)


def test_it_is_standard_normal() -> None:
    n = normal(0, 0, 0, Box.whole((64, 64, 65))).double()
    assert n.dtype == torch.float64
    # Four standard errors of each moment.
    size = n.numel()
    for power, (expected, variance) in enumerate([(0, 1), (1, 2), (0, 15), (3, 96)], start=1):
        assert abs((n**power).mean() - expected) < 4 * (variance / size) ** 0.5
    below = (n.flatten()[:, None] < torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])).double().mean(dim=0)
    assert torch.allclose(
        below, torch.tensor([0.02275, 0.15866, 0.5, 0.84134, 0.97725]).double(), atol=4e-3
    )


def test_neighbours_seeds_samples_and_steps_are_independent() -> None:
    box = Box.whole((32, 32, 32))
    fields = [normal(*key, box).flatten() for key in itertools.product((0, 1), repeat=3)]
    base = normal(0, 0, 0, box)
    fields += [base.roll(1, axis).flatten() for axis in range(3)]
    correlation = torch.corrcoef(torch.stack(fields)) - torch.eye(len(fields))
    assert correlation.abs().max() < 5 / box.size**0.5


def test_float32_and_the_shape_of_the_box() -> None:
    for box in (Box((0, 0, 3), (1, 1, 4)), Box((0, 0, 0), (0, 4, 4)), Box((5, 5, 6), (6, 6, 15))):
        n = normal(0, 0, 0, box)
        assert n.dtype == torch.float32
        assert tuple(n.shape) == box.shape


@pytest.mark.parametrize("key", [(-1, 0, 0), (0, 2**32, 0), (0, 0, -1)])
def test_numbers_out_of_range_are_refused(key: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="must be from 0 to"):
        normal(*key, Box.whole((1, 1, 1)))


def test_positions_before_the_volume_are_refused() -> None:
    with pytest.raises(ValueError, match="positions must be from 0"):
        normal(0, 0, 0, Box((-1, 0, 0), (1, 1, 1)))
