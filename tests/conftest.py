"""What all tests share."""

import pytest
from hypothesis import settings

# A deadline measures the machine, not the code.
settings.register_profile("emgen", deadline=None)
settings.load_profile("emgen")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("there is no CUDA device here")
