"""Planes through a network: nothing is lost, moved or seamed, whoever does the work."""

import itertools
import threading
import time

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional

from emgen.networks.checkpoint import load
from emgen.sampling.tiles import Plane, origins, planes

PLANES: list[Plane] = ["xy", "xz", "yz"]


def volume(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def same(x: Tensor, t: float) -> Tensor:
    return x


def smooth(x: Tensor, t: float) -> Tensor:
    """A local network: 9 x 9 pixels, zero beyond the edges as convolutions have it."""
    ramp = torch.tensor([1.0, 2, 3, 4, 5, 4, 3, 2, 1])
    kernel = torch.outer(ramp, ramp) / ramp.sum() ** 2
    return t * functional.conv2d(x, kernel[None, None], padding=4)


@given(
    shape=st.tuples(*[st.integers(1, 40)] * 3),
    plane=st.sampled_from(PLANES),
    tile=st.sampled_from([None, 8, 16, 64]),
    overlap=st.integers(0, 7),
    batch=st.integers(1, 9),
)
@settings(max_examples=40, deadline=None)
def test_a_network_that_does_nothing_does_nothing(
    shape: tuple[int, int, int], plane: Plane, tile: int | None, overlap: int, batch: int
) -> None:
    x = volume(*shape)
    before = x.clone()
    result = planes(same, plane, tile=tile, overlap=overlap, batch=batch)(x, 0.5)
    assert torch.allclose(result, x, atol=1e-6)
    assert result.is_contiguous()
    assert torch.equal(x, before)


@given(length=st.integers(1, 700), tile=st.integers(1, 128), data=st.data())
@settings(deadline=None)
def test_tiles_cover_an_axis(length: int, tile: int, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, tile - 1))
    starts = origins(length, tile, overlap)
    covered = [any(s <= p < s + tile for s in starts) for p in range(length)]
    assert all(covered)
    assert starts[-1] == max(length - tile, 0)
    assert all(b - a <= tile - overlap for a, b in itertools.pairwise(starts))
    assert starts == sorted(set(starts))


@pytest.mark.parametrize(("plane", "size"), [("xy", (5, 7)), ("xz", (3, 7)), ("yz", (3, 5))])
def test_the_network_sees_the_planes_it_is_meant_to(plane: Plane, size: tuple[int, int]) -> None:
    seen: list[Tensor] = []

    def network(x: Tensor, t: float) -> Tensor:
        assert t == 0.25
        seen.append(x)
        return x

    x = volume(3, 5, 7)
    planes(network, plane, batch=2)(x, 0.25)
    stack = torch.cat(seen)[:, 0]
    expected = {"xy": list(x), "xz": list(x.unbind(1)), "yz": list(x.unbind(2))}[plane]
    assert tuple(stack.shape[1:]) == size
    assert all(torch.equal(a, b) for a, b in zip(stack, expected, strict=True))
    assert max(map(len, seen)) == 2


@pytest.mark.parametrize("plane", PLANES)
def test_whole_planes_are_computed_one_by_one(plane: Plane) -> None:
    x = volume(6, 9, 12)
    axis = {"xy": 0, "xz": 1, "yz": 2}[plane]
    each = [smooth(p[None, None], 0.5)[0, 0] for p in x.unbind(axis)]
    assert torch.allclose(planes(smooth, plane)(x, 0.5), torch.stack(each, dim=axis))


def test_tiles_are_always_of_one_size() -> None:
    sizes: set[tuple[int, ...]] = set()

    def network(x: Tensor, t: float) -> Tensor:
        sizes.add(tuple(x.shape[1:]))
        return x

    for shape in [(2, 3, 50), (2, 20, 16), (1, 9, 9), (1, 1, 1)]:
        planes(network, "xy", tile=16, overlap=4)(volume(*shape), 0.5)
    assert sizes == {(1, 16, 16)}


@pytest.mark.parametrize("tile", [None, 16])
def test_workers_and_their_haste_change_nothing(tile: int | None) -> None:
    x = volume(20, 33, 30)
    threads: set[str] = set()

    def hasty(x: Tensor, t: float) -> Tensor:
        threads.add(threading.current_thread().name)
        time.sleep(0.002 * float(x.flatten()[0].abs()))
        return smooth(x, t)

    one = planes(smooth, "xz", tile=tile, overlap=6, batch=3)(x, 0.7)
    for workers in (2, 5):
        assert torch.equal(
            planes(hasty, "xz", tile=tile, overlap=6, batch=3, workers=workers)(x, 0.7), one
        )
    assert len(threads) > 2


@pytest.mark.parametrize("wanted", [True, False])
def test_workers_record_gradients_if_the_caller_does(wanted: bool) -> None:
    x = volume(4, 8, 8).requires_grad_()
    with torch.set_grad_enabled(wanted):
        result = planes(smooth, "xy", batch=1, workers=2)(x, 0.5)
    assert result.requires_grad is wanted


def test_an_error_in_a_worker_is_not_lost() -> None:
    def broken(x: Tensor, t: float) -> Tensor:
        raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        planes(broken, "xy", workers=2)(volume(4, 8, 8), 0.5)


def test_a_constant_stays_constant_under_overlapping_tiles() -> None:
    result = planes(lambda x, t: torch.full_like(x, 0.3), "yz", tile=16, overlap=15)(
        volume(21, 37, 2), 0
    )
    assert torch.allclose(result, torch.tensor(0.3))


# Seams


def steps(v: Tensor, axis: int) -> Tensor:
    """Mean absolute step across each face between neighbours along an axis of a plane."""
    return v.diff(dim=axis).abs().mean(dim=1 - axis)


def test_tiling_a_local_network_leaves_no_grid() -> None:
    x = functional.avg_pool2d(volume(1, 212, 212), 5, stride=1, padding=2)[:, 2:-2, 2:-2]
    whole = planes(smooth, "xy")(x, 1.0)[0]
    tiled = planes(smooth, "xy", tile=64, overlap=16)(x, 1.0)[0]
    inner = (slice(8, -8), slice(8, -8))
    assert float((tiled - whole)[inner].norm() / whole[inner].norm()) < 0.03
    edges = sorted(
        {p for s in origins(x.shape[1], 64, 16) for p in (s - 1, s + 63) if 8 <= p < x.shape[1] - 9}
    )
    for axis in (0, 1):
        ratio = steps(tiled, axis)[edges].mean() / steps(whole, axis)[edges].mean()
        assert 0.9 < ratio < 1.1


def test_tiling_the_shipped_prior_leaves_no_grid() -> None:
    prior, _ = load("emgen-small")
    t = 0.8
    clean = functional.avg_pool2d(volume(1, 168, 168), 9, stride=1)
    x = t * clean / clean.std() / 2 + (1 - t) * volume(1, 160, 160, seed=1)
    with torch.inference_mode():
        whole, tiled = (
            (x + (1 - t) * planes(prior.velocity, "xy", tile=tile)(x, t))[0] for tile in (None, 96)
        )
    assert float((tiled - whole).norm() / whole.norm()) < 0.05
    edges = sorted({p for s in origins(160, 96, 16) for p in (s - 1, s + 95) if 0 <= p < 159})
    for axis in (0, 1):
        ratio = steps(tiled, axis)[edges].mean() / steps(whole, axis)[edges].mean()
        assert 0.95 < ratio < 1.05


# Faults


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"plane": "zz"}, 'expected the plane "xy", "xz" or "yz"'),
        ({"batch": 0}, "batch and workers must be positive"),
        ({"workers": 0}, "batch and workers must be positive"),
        ({"tile": 16, "overlap": 16}, "expected 0 <= overlap < tile"),
        ({"tile": 16, "overlap": -1}, "expected 0 <= overlap < tile"),
    ],
)
def test_nonsense_is_refused(wrong: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        planes(same, **({"plane": "xy"} | wrong))
