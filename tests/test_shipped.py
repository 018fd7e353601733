"""The networks in the repository: small enough to be cloned, each with a card that says what it learnt from."""

import numpy as np
import pytest

from emgen.arrays import denoise
from emgen.networks.card import SHIPPED, resolve
from emgen.networks.checkpoint import load_network

NAMES = sorted(path.stem for path in SHIPPED.glob("*.safetensors"))
LARGEST_TOTAL = 60e6  # bytes of all weights together: what a clone of the repository may carry
NEVER_TRAINED_ON = ("fib25_b", "hippocampus", "cortex", "vnc", "fafb", "mitoem", "cdeep3m")


def test_all_weights_together_stay_small():
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < LARGEST_TOTAL


@pytest.mark.parametrize("name", NAMES)
class TestAShippedNetwork:
    def test_is_what_its_card_describes(self, name):
        network, card = load_network(name)
        assert card.name == name
        assert sum(p.numel() for p in network.parameters()) == card.facts["parameters"]

    def test_says_what_it_learnt_from_and_how_well_it_does_elsewhere(self, name):
        facts = resolve(name).facts
        assert facts["data"] and facts["credits"] and facts["validation"]
        assert not set(facts["data"]) & set(facts["validation"])

    def test_learnt_from_nothing_that_is_kept_for_tests(self, name):
        data = " ".join(resolve(name).facts["data"])
        assert not [source for source in NEVER_TRAINED_ON if source in data]


def test_the_larger_estimator_of_sections_takes_away_noise(fib25):
    clean = fib25[:3, :48, :48].astype(np.float32)
    rng = np.random.default_rng(0)
    noisy = clean + 20 * rng.standard_normal(clean.shape, np.float32)
    restored = denoise(noisy, 20.0, estimator="emgen-sections-base").mean
    assert np.square(restored - clean).mean() < np.square(noisy - clean).mean() / 3
