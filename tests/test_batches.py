"""Batches that fit a device's memory, with a memory of which the tests know what is free."""

import weakref

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from emgen.errors import EmgenError
from emgen.networks.batches import MOST, SHARE, Batches


class Counted:
    """A memory in planes: so many fit, and it says that so many are free."""

    def __init__(self, holds: int, says: int) -> None:
        self.holds, self.says, self.calls, self.released = holds, says, [], 0

    def needed(self, call):
        return call(), 1

    def free(self):
        return self.says / SHARE + 0.5

    def release(self):
        self.released += 1

    def network(self, x):
        self.calls.append(len(x))
        if len(x) > self.holds:
            raise torch.OutOfMemoryError("full")
        return 2 * x


@given(st.integers(1, 60), st.integers(1, 20), st.integers(0, 40))
def test_any_division_gives_the_same_planes_in_their_order(count, holds, says):
    memory = Counted(holds, says)
    x = torch.arange(count * 4.0).reshape(count, 1, 2, 2)
    assert torch.equal(Batches(memory)(memory.network, x), 2 * x)


def test_one_plane_says_how_many_fit():
    memory = Counted(10, 7)
    batches = Batches(memory)
    x = torch.zeros(20, 1, 4, 4)
    batches(memory.network, x)
    assert memory.calls == [1, 7, 7, 6] and memory.released == 0
    batches(memory.network, x)
    assert memory.calls[4:] == [7, 7, 6]


def test_other_planes_are_measured_anew():
    memory = Counted(10, 7)
    batches = Batches(memory)
    batches(memory.network, torch.zeros(9, 1, 4, 4))
    batches(memory.network, torch.zeros(9, 1, 4, 6))
    assert memory.calls == [1, 7, 2, 1, 7, 2]


def test_calls_that_keep_gradients_are_measured_by_themselves():
    memory = Counted(10, 7)
    batches, x = Batches(memory), torch.zeros(9, 1, 4, 4)
    with torch.no_grad():
        batches(memory.network, x)
    batches(memory.network, x)
    assert memory.calls == [1, 7, 2, 1, 7, 2]


def test_what_a_failed_call_had_made_is_gone_before_memory_is_given_back():
    class Made:
        pass

    left = []

    class Watched(Counted):
        def network(self, x):
            made = Made()
            left.append(weakref.ref(made))
            return super().network(x)

        def release(self):
            assert left[-1]() is None
            super().release()

    memory = Watched(3, 16)
    Batches(memory)(memory.network, torch.zeros(9, 1, 4, 4))
    assert memory.released == 2


def test_out_of_memory_halves_the_batch_for_good():
    memory = Counted(3, 16)
    batches = Batches(memory)
    batches(memory.network, torch.zeros(17, 1, 4, 4))
    assert memory.calls == [1, 16, 8, 4, *[2] * 8, 1] and memory.released == 3
    memory.calls.clear()
    batches(memory.network, torch.zeros(4, 1, 4, 4))
    assert memory.calls == [2, 2]


def test_there_is_no_call_of_more_planes_than_pay():
    memory = Counted(10**6, 10**6)
    Batches(memory)(memory.network, torch.zeros(MOST + 2, 1, 160, 160))
    assert memory.calls == [1, MOST, 2]


def test_large_planes_are_fewer():
    memory = Counted(10**6, 10**6)
    Batches(memory)(memory.network, torch.zeros(MOST, 1, 320, 320))
    assert memory.calls == [1, *[MOST // 4] * 4]


def test_a_plane_too_large_for_the_device_is_an_error():
    memory = Counted(0, 5)
    with pytest.raises(
        EmgenError, match=r"no memory left for one plane of 4 x 6 voxels; .* grid\.block"
    ):
        Batches(memory)(memory.network, torch.zeros(3, 1, 4, 6))
