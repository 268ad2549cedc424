"""The box losses: vectors, and what holds for each."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from rankdet.losses.boxes import (
    BalancedL1Loss,
    BoundedIoULoss,
    BoxLoss,
    CIoULoss,
    DIoULoss,
    DynamicSmoothL1Loss,
    GIoULoss,
    IoULoss,
    LogIoULoss,
    LossOfBoxes,
    LossOfDeltas,
    SmoothL1Loss,
    SumOfBoxLosses,
)
from rankdet.losses.gradient_harmonising import GHMRegressionLoss
from rankdet.ops import DeltaCoder

CODER = DeltaCoder()
LOSSES = [
    GIoULoss,
    IoULoss,
    LogIoULoss,
    DIoULoss,
    CIoULoss,
    BoundedIoULoss,
    SmoothL1Loss,
    BalancedL1Loss,
]
OTHERS = {
    SumOfBoxLosses,
    GHMRegressionLoss,
    DynamicSmoothL1Loss,
}  # of other losses, or of all positives together: tested apart
every_loss = pytest.mark.parametrize("cls", LOSSES)

PREDICTED = torch.tensor([[10.0, 10, 50, 40], [0, 0, 10, 10]])
TRUE = torch.tensor([[12.0, 8, 48, 44], [20, 20, 30, 40]])


def of_pairs(loss: BoxLoss, predicted: Tensor = PREDICTED, true: Tensor = TRUE) -> Tensor:
    """The losses where priors are what is predicted."""
    return loss(torch.zeros_like(predicted), predicted, true, CODER)


def some_boxes(number: int, *, seed: int) -> Tensor:
    corners = torch.rand(number, 2, 2, generator=torch.Generator().manual_seed(seed)) * 100
    return torch.cat((corners.amin(1), corners.amax(1) + 1), 1)


def test_no_loss_is_left_out():
    kinds = (BoxLoss, LossOfBoxes, LossOfDeltas)
    known = {cls for kind in kinds for cls in kind.__subclasses__() if cls.__module__.startswith("rankdet.")}
    assert known - {*kinds} == {*LOSSES, *OTHERS}


@every_loss
def test_zero_for_the_right_box_and_above_it_otherwise(cls: type[BoxLoss]):
    true, prior = some_boxes(50, seed=0), some_boxes(50, seed=1)
    right = cls()(CODER.encode(prior, true), prior, true, CODER)
    torch.testing.assert_close(right, torch.zeros(50), rtol=0, atol=1e-5)
    assert (of_pairs(cls(), prior, true) > 1e-3).all()


@every_loss
def test_weights_scale_and_no_positives_give_none(cls: type[BoxLoss]):
    torch.testing.assert_close(of_pairs(cls(weight=3.0)), 3 * of_pairs(cls()))
    assert of_pairs(cls(), PREDICTED[:0], TRUE[:0]).shape == (0,)


@every_loss
def test_a_step_against_the_gradient_helps(cls: type[BoxLoss]):
    true = some_boxes(50, seed=0)
    prior = true + torch.tensor([-0.1, 0.05, 0.1, 0.15])
    deltas = torch.zeros(50, 4, requires_grad=True)
    before = cls()(deltas, prior, true, CODER)
    (gradient,) = torch.autograd.grad(before.sum(), deltas)
    assert gradient.isfinite().all()
    after = cls()(-1e-4 * gradient, prior, true, CODER)
    assert (after < before).all()


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (LogIoULoss(), [0.270875, 13.815511]),
        (GIoULoss(), [0.253955, 1.75]),
        (BoundedIoULoss(), [0.027713 + 0.025011 + 0.069464, 0.9 + 0.9 + 0.400025]),
    ],
)
def test_vectors(loss: BoxLoss, expected: list[float]):
    assert of_pairs(loss).tolist() == pytest.approx(expected, abs=2e-6)


def test_vectors_of_balanced_l1():
    distances = [0.05, 0.1, 0.3, 0.5, 0.9, 1, 1.5, 3]
    deltas = torch.zeros(8, 4)
    deltas[:, 2] = -torch.tensor(distances)
    prior = PREDICTED[:1].expand(8, 4)
    expected = [0.009304, 0.031353, 0.185821, 0.400568, 0.931048, 1.078593, 1.828593, 4.078594]
    assert BalancedL1Loss()(deltas, prior, prior, CODER).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("beta", [0.11, 1.0])
def test_balanced_l1_as_in_mmdetection(beta: float):
    """The two branches of the formula there."""
    alpha, gamma = 0.5, 1.5
    b = math.exp(gamma / alpha) - 1
    for x in (0.03, 0.1, 0.12, 0.9, 1.1):
        inner = alpha / b * (b * x + 1) * math.log(b * x / beta + 1) - alpha * x
        expected = inner if x < beta else gamma * x + gamma / b - alpha * beta
        deltas = torch.tensor([[0.0, x, 0, 0]])
        got = BalancedL1Loss(alpha=alpha, gamma=gamma, beta=beta)(deltas, PREDICTED[:1], PREDICTED[:1], CODER)
        assert got.item() == pytest.approx(expected, abs=1e-6)


def test_distance_and_aspect_ratio_by_hand():
    """The second pair: no overlap, centres (5, 5) and (25, 30), enclosing box 30 x 40."""
    far = 1 + (20**2 + 25**2) / (30**2 + 40**2)
    v = 4 / math.pi**2 * (math.atan(10 / 20) - math.atan(1)) ** 2
    assert of_pairs(DIoULoss())[1].item() == pytest.approx(far)
    assert of_pairs(CIoULoss())[1].item() == pytest.approx(far + v**2 / (1 + v))


def test_wrong_arguments_are_explained():
    with pytest.raises(ValueError, match="beta must not be negative; got -1"):
        BoundedIoULoss(beta=-1)
    with pytest.raises(ValueError, match=r"must be above 0; got 0\.5, 1\.5 and 0"):
        BalancedL1Loss(beta=0)
