"""Randomness of a sample: it follows from a seed and leaves no trace."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


def seed_for(*numbers: int) -> int:
    """A seed below 2**63 that follows from some non-negative numbers; others give another one.

    >>> seed_for(0, 1) == seed_for(0, 1), seed_for(0, 1) == seed_for(1, 0)
    (True, False)
    """
    words = np.random.SeedSequence(numbers).generate_state(2, np.uint32)
    return (int(words[0]) << 31) ^ int(words[1])


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch (CPU), NumPy and Python within a block; afterwards all three are in the state that they were in.

    >>> with seeded(7):
    ...     first = torch.rand(1)
    >>> with seeded(7):
    ...     bool(torch.rand(1) == first)
    True
    """
    states = torch.default_generator.get_state(), np.random.get_state(), random.getstate()
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(states[0])
        np.random.set_state(states[1])
        random.setstate(states[2])
