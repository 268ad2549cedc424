"""Correlation losses: vectors of the definitions, gradients against autograd and pairs, what is not defined."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rankdet.losses import ConcordanceLoss, CorrelationLoss, PearsonLoss, SpearmanLoss
from rankdet.losses.correlation import SmoothRanks
from rankdet.losses.ranking.steps import step

SCORES, QUALITY = torch.tensor([0.9, 0.6, 0.3]).double(), torch.tensor([0.8, 0.5, 0.6]).double()
every_loss = pytest.mark.parametrize("cls", [ConcordanceLoss, PearsonLoss, SpearmanLoss])


def test_no_loss_is_left_out():
    assert set(CorrelationLoss.__subclasses__()) == {ConcordanceLoss, PearsonLoss, SpearmanLoss}


@pytest.mark.parametrize(
    ("loss", "lack"),
    [(PearsonLoss(), 0.345346), (ConcordanceLoss(), 0.475728), (SpearmanLoss(delta=0.1), 0.5)],
)
def test_vectors(loss: CorrelationLoss, lack: float):
    assert loss(SCORES.logit(), QUALITY).item() == pytest.approx(0.2 * lack, abs=1e-6)


@every_loss
def test_the_gradient_is_the_derivative(cls: type[CorrelationLoss]):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(30, generator=generator, dtype=torch.float64).requires_grad_()
    quality = torch.rand(30, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: cls()(x, quality), logits, atol=1e-6)


@pytest.mark.parametrize("number", [3, 900])
def test_smooth_ranks_without_pairs(number: int):
    generator = torch.Generator().manual_seed(number)
    logits = torch.randn(number, generator=generator, dtype=torch.float64).requires_grad_()
    upstream = torch.randn(number, generator=generator, dtype=torch.float64)
    expected = step((logits - logits[:, None]).clone(), 0.3).sum(1)
    ranks: Tensor = SmoothRanks.apply(logits, 0.3)
    torch.testing.assert_close(ranks, expected)
    (gradient,) = torch.autograd.grad((ranks * upstream).sum(), logits)
    torch.testing.assert_close(gradient, torch.autograd.grad((expected * upstream).sum(), logits)[0])


@every_loss
@pytest.mark.parametrize("logits", [[], [0.3], [0.0, 0.0]], ids=["none", "one", "equal"])
def test_what_is_not_defined_is_0(cls: type[CorrelationLoss], logits: list[float]):
    x = torch.tensor(logits, requires_grad=True)
    value = cls()(x, torch.full_like(x, 0.5))
    value.backward()
    assert value.item() == 0
    assert not x.grad.any()


@every_loss
def test_best_where_score_and_quality_agree(cls: type[CorrelationLoss]):
    quality = torch.tensor([0.9, 0.2, 0.5])
    assert cls()(quality.logit(), quality).item() == pytest.approx(0, abs=1e-6)
    assert cls(weight=1.0)(-quality.logit(), quality).item() > 1


@every_loss
def test_16_bit_logits(cls: type[CorrelationLoss]):
    logits = torch.tensor([2.0, 1.0, -1.0]).bfloat16().requires_grad_()
    value = cls()(logits, torch.tensor([0.5, 0.9, 0.1]))
    value.backward()
    assert value.dtype == torch.float32
    assert logits.grad.isfinite().all()


def test_a_small_delta_tells_where_few_share_ranks():
    logits = torch.tensor([0.0, 1.0, 2.0], requires_grad=True)
    SpearmanLoss(delta=0.1)(logits, torch.tensor([0.1, 0.9, 0.5])).backward()
    assert not logits.grad.any()


def test_wrong_arguments_are_explained():
    with pytest.raises(ValueError, match="delta is 0"):
        SpearmanLoss(delta=0)
    with pytest.raises(ValueError, match=r"logits have shape \(3,\), quality \(2,\)"):
        PearsonLoss()(torch.zeros(3), torch.zeros(2))
