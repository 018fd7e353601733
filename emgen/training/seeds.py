"""Seeds of random streams that follow from a run's seed and a number."""

from __future__ import annotations

# The first prime above a million: in runs of up to a million steps, two seeds share no stream.
STREAMS_PER_SEED = 1_000_003


def stream(seed: int, number: int) -> int:
    """The seed of stream `number` of a run: another one for every seed and number below STREAMS_PER_SEED."""
    return seed * STREAMS_PER_SEED + number
