"""What all tests share."""

import signal

import numpy as np
import pytest
import tifffile
from hypothesis import settings
from runs import ROOT
from scipy.ndimage import gaussian_filter

from emgen.geometry import Box
from emgen.volumes.volume import Volume

# A shell that starts tests in the background lets them, and all that they start, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A deadline measures the machine, not the code.
settings.register_profile("emgen", deadline=None)
settings.load_profile("emgen")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("there is no CUDA device here")


@pytest.fixture(scope="session")
def fib25() -> np.ndarray:
    """A corner (24, 96, 96) of the demo's FIB-SEM crop, uint8, which no shipped network was trained on."""
    volume = Volume.open(ROOT / "demo/reference.ome.zarr")
    return volume.read(Box((40, 10, 20), (64, 106, 116)))


@pytest.fixture
def tissue(tmp_path):
    """A folder with two smooth volumes, a and b, as TIFF."""
    for name, seed in (("a", 0), ("b", 1)):
        field = gaussian_filter(np.random.default_rng(seed).normal(size=(20, 120, 120)), 3)
        tifffile.imwrite(
            tmp_path / f"{name}.tif", (128 + 900 * field).clip(0, 255).astype(np.uint8)
        )
    return tmp_path
