"""Losses that learn a quality with the class: published vectors, what has a gradient, perfect predictions."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rankdet.losses import (
    ClassificationLoss,
    GIoUAwareFocalLoss,
    IABCELoss,
    MALLoss,
    PositionSupervisedLoss,
    QualityFocalLoss,
    VarifocalLoss,
)

LOGITS, LABELS = torch.tensor([[2.0, -1, 0], [-3, 0.5, -4]]).double(), torch.tensor([0, -1])
LOSSES = [VarifocalLoss, MALLoss, IABCELoss, GIoUAwareFocalLoss, PositionSupervisedLoss]
every_loss = pytest.mark.parametrize("cls", LOSSES)


def value(loss: ClassificationLoss, logits: Tensor, quality: float) -> Tensor:
    return loss(logits, LABELS, torch.tensor([quality]).to(logits), torch.ones(2).bool())


@pytest.mark.parametrize(
    ("loss", "quality", "expected"),
    [
        (VarifocalLoss(), 0.7, 0.938953),
        (MALLoss(), 0.7, 1.723271),
        (IABCELoss(), 0.7, 1.217634),
        (GIoUAwareFocalLoss(), 0.85, 0.430205),
        (PositionSupervisedLoss(power=1.0), 0.85, 0.430205),
        (PositionSupervisedLoss(), 0.85**0.5, 0.430205),
    ],
    ids=lambda part: type(part).__name__,
)
def test_vectors(loss: ClassificationLoss, quality: float, expected: float):
    assert value(loss, LOGITS, quality).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("loss", "expected"), [(VarifocalLoss(), 0.508850), (MALLoss(), 0.955604)])
def test_the_entry_of_the_positive(loss: ClassificationLoss, expected: float):
    row = loss.of_rows(LOGITS[:1, :1], LABELS[:1], torch.tensor([0.7]).double())
    assert row.item() == pytest.approx(expected, abs=1e-6)


def derivative(loss: ClassificationLoss) -> Tensor:
    logits = LOGITS.clone().requires_grad_()
    return torch.autograd.grad(value(loss, logits, 0.7), logits)[0]


@pytest.mark.parametrize(("loss", "alpha", "gamma"), [(VarifocalLoss(), 0.75, 2.0), (MALLoss(), 1.0, 1.5)])
def test_weights_of_negatives_are_detached(loss: ClassificationLoss, alpha: float, gamma: float):
    """Then the derivative of an entry is weight times (p - target)."""
    p = LOGITS.sigmoid()
    gradient = derivative(loss)
    torch.testing.assert_close(gradient[1], alpha * p[1] ** gamma * p[1])


def test_those_of_ia_bce_are_not():
    """d/dx of -p^2 ln(1 - p), and the target of the positive is detached."""
    p = LOGITS.sigmoid()
    gradient = derivative(IABCELoss())
    torch.testing.assert_close(gradient[1], (p * p * p - 2 * p * p * (1 - p) * (1 - p).log())[1])
    assert gradient[0, 0].item() == pytest.approx(p[0, 0].item() - 0.741383, abs=1e-6)


def test_a_positive_of_quality_0():
    assert value(VarifocalLoss(), LOGITS[:, :1], 0.0) == value(VarifocalLoss(), LOGITS[:, :1].clone(), 0.0)
    first = VarifocalLoss().of_rows(LOGITS[:1, :1], LABELS[:1], torch.zeros(1).double())
    assert first.item() == 0
    assert MALLoss().of_rows(LOGITS[:1, :1], LABELS[:1], torch.zeros(1).double()).item() > 2


def test_ia_bce_has_a_floor():
    low = torch.tensor([[-30.0]], dtype=torch.float64, requires_grad=True)
    IABCELoss().of_rows(low, LABELS[:1], torch.ones(1).double()).sum().backward()
    assert low.grad.item() == pytest.approx(-0.01, abs=1e-6)


@every_loss
def test_least_where_the_score_is_the_target(cls: type[ClassificationLoss]):
    """A quality of 1 is the target 1 of all of them."""
    logits = torch.tensor([[20.0, -20], [-20, -20]])
    assert value(cls(), logits, 1.0).item() == pytest.approx(0, abs=1e-5)


@every_loss
def test_a_weight_multiplies(cls: type[ClassificationLoss]):
    torch.testing.assert_close(value(cls(weight=3.0), LOGITS, 0.7), 3 * value(cls(), LOGITS, 0.7))


@every_loss
def test_no_positive_and_nothing(cls: type[ClassificationLoss]):
    nothing, none = torch.zeros(0), torch.full((2,), -1)
    logits = LOGITS.clone().requires_grad_()
    cls()(logits, none, nothing, torch.ones(2).bool()).backward()
    assert (logits.grad > 0).all()
    assert cls()(LOGITS[:0], LABELS[:0], nothing, torch.ones(0).bool()).item() == 0


def test_quality_focal_is_the_unbalanced_one():
    """With alpha 1/2 the two are the same, times two."""
    torch.testing.assert_close(
        2 * value(GIoUAwareFocalLoss(alpha=0.5), LOGITS, 0.7), value(QualityFocalLoss(), LOGITS, 0.7)
    )
