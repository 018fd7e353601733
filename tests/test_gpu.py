"""What a CUDA device computes is what a CPU does, within what rounding makes of it. `make test-gpu`."""

import numpy as np
import pytest
import torch

from emgen.arrays import deblur, denoise, isotropic, superres
from emgen.geometry import Box
from emgen.networks.batches import Batches, Memory
from emgen.networks.runner import CompiledUNet
from emgen.run.restore import Restorer
from emgen.sampling import philox as noise

pytestmark = [
    pytest.mark.gpu,
    # torch's compiler imports modules of its own that warn of themselves
    pytest.mark.filterwarnings("ignore:.*torch:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*torch:FutureWarning"),
]

# grey values of 256: sums in another order; and eight bits of mantissa
TOLERANCE = {"float32": 0.25, "bfloat16": 3.0}
MODES = {
    "isotropic": lambda y, **how: isotropic(y[::4], 4, steps=4, **how),
    "isotropic mean": lambda y, **how: isotropic(y[::4], 4, section="mean", steps=4, **how),
    "isotropic em-generalist": lambda y, **how: isotropic(
        y[::4], 4, sampler="em-generalist", steps=6, **how
    ),
    "isotropic dps": lambda y, **how: isotropic(y[::4], 4, sampler="dps", steps=6, **how),
    "denoise": lambda y, **how: denoise(y, 10.0, **how),
    "isotropic gaussian": lambda y, **how: isotropic(y[::4], 4, section="gaussian", steps=4, **how),
    "isotropic lost": lambda y, **how: isotropic(y[::2], 2, lost=(2,), steps=4, **how),
    "denoise correlated": lambda y, **how: denoise(y, "correlated", **how),
    "denoise poisson": lambda y, **how: denoise(y, "poisson", **how),
    "superres": lambda y, **how: superres(y, 2, **how),
    "deblur": lambda y, **how: deblur(y, 1.5, noise=2.0, steps=4, **how),
}


def test_noise_is_the_same() -> None:
    box = Box((3, 5, 7), (40, 50, 60))
    there = noise.normal(0, 1, 2, box, "cuda").cpu()
    assert torch.allclose(there, noise.normal(0, 1, 2, box), rtol=0, atol=5e-7)


@pytest.mark.parametrize("precision", TOLERANCE)
@pytest.mark.parametrize("mode", MODES)
def test_voxels_are_those_of_a_cpu(mode, precision, fib25):
    y = fib25[:12].astype(np.float32)
    here = MODES[mode](y, precision="float32", device="cpu").mean
    there = MODES[mode](y, precision=precision, device="cuda:0").mean
    off = np.abs(here - there)
    assert np.quantile(off, 0.999) < TOLERANCE[precision], off.max()


def test_one_plane_says_what_memory_a_call_needs() -> None:
    batches, calls = Batches(Memory("cuda:0")), []

    def network(x: torch.Tensor) -> torch.Tensor:
        calls.append(len(x))
        return torch.nn.functional.interpolate(x, scale_factor=4).mean((2, 3))

    batches(network, torch.zeros(64, 1, 128, 128, device="cuda:0"))
    assert calls == [1, 63]


def test_spread_and_blind_blur_are_found_there_too(fib25):
    y = fib25[:3].astype(np.float32)
    found = denoise(y, 12.0, samples=2, device="cuda:0")
    assert found.std is not None and np.isfinite(found.std).all() and (found.std > 0).any()
    assert np.isfinite(deblur(y, "blind", device="cuda:0").mean).all()


def test_noise_is_a_compiled_kernel():
    noise.normal(0, 0, 0, Box.whole((8, 16, 24)), "cuda")
    assert not noise._rows().failed


def test_compiled_networks_give_the_same_voxels(fib25):
    plan = isotropic(fib25[:24:4], 4, device="cuda:0").plan
    box, results = Box.whole(plan.shape), {}
    for compiled in (False, True):
        restorer = Restorer(plan, "cuda:0", compiled=compiled)
        results[compiled] = restorer.block(box, fib25[:24:4])["mean"].astype(float)
    assert isinstance(restorer.networks.prior[0].unet, CompiledUNet)
    assert not restorer.networks.prior[0].unet.program.failed
    off = np.abs(results[True] - results[False])
    assert off.max() <= 2 and off.mean() < 0.1
