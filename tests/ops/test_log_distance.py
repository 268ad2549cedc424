"""The coder of FoveaBox: worked numbers, and there and back."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rankdet.ops import LogDistanceCoder

CODER = LogDistanceCoder()


def test_worked_case():
    """A cell at (20, 12) of the level of base 32: distances of 8, 64, 32 and 1000 pixels."""
    prior = torch.tensor([[4.0, -4, 36, 28]])
    box = torch.tensor([[12.0, -52, 52, 1012]])
    deltas = CODER.encode(prior, box)
    expected = [math.log(8 / 32), math.log(64 / 32), 0.0, math.log(16)]  # the last one cut to 16 units
    assert deltas[0].tolist() == pytest.approx(expected)
    assert CODER.decode(prior, deltas)[0].tolist() == pytest.approx([12, -52, 52, 12 + 16 * 32], rel=1e-5)


def test_distances_to_sides_behind_the_centre_are_cut():
    prior, box = torch.tensor([[0.0, 0, 16, 16]]), torch.tensor([[10.0, 0, 30, 16]])  # the centre lies left of the box
    assert float(CODER.encode(prior, box)[0, 0]) == pytest.approx(math.log(1 / 16))


@settings(max_examples=50)
@given(sides=st.lists(st.floats(2, 250), min_size=4, max_size=4))
def test_there_and_back(sides: list[float]):
    prior = torch.tensor([[92.0, 92, 108, 108]])
    box = torch.tensor([[100 - sides[0], 100 - sides[1], 100 + sides[2], 100 + sides[3]]])
    torch.testing.assert_close(CODER.decode(prior, CODER.encode(prior, box)), box, rtol=1e-4, atol=1e-3)


def test_half_precision_and_wild_outputs():
    prior = torch.tensor([[92.0, 92, 108, 108]])
    assert CODER.decode(prior, torch.zeros(1, 4, dtype=torch.bfloat16)).dtype == torch.float32
    assert torch.isfinite(CODER.decode(prior, torch.tensor([[1e4, -1e4, 88.0, 0.0]]))).all()
