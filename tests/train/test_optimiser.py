from __future__ import annotations

import pytest
import torch
from torch import nn

from rankdet.train import SGD, AdamW


def test_sgd_is_the_published_one():
    group = SGD(lr=0.012).build(nn.Linear(2, 2), lr=0.012).param_groups[0]
    assert (group["lr"], group["momentum"], group["weight_decay"]) == (0.012, 0.9, 1e-4)


def test_adamw_has_its_arguments():
    optimiser = AdamW(lr=1e-3, betas=(0.8, 0.95), weight_decay=0.05).build(nn.Linear(2, 2), lr=2e-3)
    assert isinstance(optimiser, torch.optim.AdamW)
    assert optimiser.param_groups[0]["betas"] == (0.8, 0.95)
    assert optimiser.param_groups[0]["lr"] == 2e-3


def test_frozen_parameters_are_left_out():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[0].requires_grad_(False)
    parameters = SGD(lr=0.1).build(model, lr=0.1).param_groups[0]["params"]
    assert {id(parameter) for parameter in parameters} == {id(parameter) for parameter in model[1].parameters()}


def test_a_model_without_anything_to_train_is_refused():
    with pytest.raises(ValueError, match="unfreeze"):
        SGD(lr=0.1).build(nn.Linear(2, 2).requires_grad_(False), lr=0.1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SGD(lr=0.0), "lr must be > 0, got 0.0"),
        (lambda: SGD(lr=0.1, momentum=1.0), "momentum must be >= 0 and < 1, got 1.0"),
        (lambda: SGD(lr=0.1, weight_decay=-1), "weight_decay must be >= 0, got -1"),
        (lambda: AdamW(lr=0.1, betas=(0.9, 1.0)), "betas must be >= 0 and < 1, got 1.0"),
        (lambda: SGD(lr=float("nan")), "lr must be > 0, got nan"),
    ],
)
def test_impossible_settings_are_refused(make, message: str):
    with pytest.raises(ValueError, match=message):
        make()
