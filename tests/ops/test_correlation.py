"""Spearman's rho against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata, spearmanr

from rankdet.ops.correlation import average_ranks, spearman

numbers = st.lists(st.integers(-5, 5).map(lambda n: n / 4), min_size=2, max_size=40)


@settings(max_examples=80)
@given(first=numbers, seed=st.integers(0, 1000))
def test_spearman_equals_scipy(first: list[float], seed: int):
    second = np.random.default_rng(seed).integers(0, 6, len(first)) / 5
    ours = float(spearman(torch.tensor(first), torch.from_numpy(second).float()))
    if len(set(first)) == 1 or len(set(second)) == 1:
        assert ours == 0
    else:
        assert ours == pytest.approx(spearmanr(first, second).statistic, abs=1e-5)
    assert average_ranks(torch.tensor(first)).tolist() == (rankdata(first) - 1).tolist()


def test_undefined_is_zero_and_no_gradient_is_kept():
    assert float(spearman(torch.zeros(0), torch.zeros(0))) == 0
    assert float(spearman(torch.ones(1), torch.ones(1))) == 0
    rho = spearman(torch.tensor([1.0, 2.0, 0.0], requires_grad=True), torch.tensor([0.1, 0.5, 0.3]))
    assert not rho.requires_grad
    assert -1 <= float(rho) <= 1
