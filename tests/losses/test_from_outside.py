"""Ranking losses seen from outside: traced, without values, mapped, differentiated forwards."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx

from rankdet.losses import RankingLoss, RankSortLoss
from tests.losses.problems import CLASSES, random_problem

every_loss = pytest.mark.parametrize("cls", CLASSES)


def a_problem() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    logits, targets = random_problem(10, 100)
    index = (targets > 0).nonzero().squeeze(1)
    return logits.detach(), targets, index, targets[index]


@every_loss
def test_tensors_without_values_have_shapes(cls: type[RankingLoss]):
    logits, targets, index, quality = a_problem()
    mode = FakeTensorMode()
    for where in (lambda x: x.to("meta"), mode.from_tensor):
        x, y, i, q = (where(tensor) for tensor in (logits, targets, index, quality))
        x.requires_grad_()
        value = cls()(x, y) + sum(cls().terms_at(x, i, q).values())
        value.backward()
        assert value.shape == ()
        assert x.grad.shape == x.shape
        assert cls().ranked_at(x, i, q).rank.shape == (10,)


@every_loss
@pytest.mark.parametrize("tracing", ["real", "fake", "symbolic"])
def test_traced(cls: type[RankingLoss], tracing: str):
    logits, targets, *_ = a_problem()
    loss = cls()
    traced = make_fx(torch.func.grad(loss), tracing_mode=tracing)(logits, targets)
    assert "rankdet.ranking_terms" in traced.code
    other = logits.flip(0) * 2
    torch.testing.assert_close(traced(other, targets), torch.func.grad(lambda x: loss(x, targets))(other))


@every_loss
def test_mapped(cls: type[RankingLoss]):
    """One ranking after the other."""
    logits, targets, *_ = a_problem()
    loss, many = cls(), torch.stack([logits, logits.flip(0), logits * 2])
    each = torch.stack([targets, targets.roll(7), targets.clamp(max=0)])
    expected = torch.stack([loss(x, y) for x, y in zip(many, each, strict=True)])
    torch.testing.assert_close(torch.func.vmap(loss)(many, each), expected)
    of_grad = torch.func.vmap(torch.func.grad(loss))(many, each)
    exact = [torch.func.grad(lambda x, y=y: loss(x, y))(x) for x, y in zip(many, each, strict=True)]
    torch.testing.assert_close(of_grad, torch.stack(exact))
    torch.testing.assert_close(
        torch.func.vmap(loss, in_dims=(1, None))(many.T, targets), torch.stack([loss(x, targets) for x in many])
    )


def test_exported():
    logits, targets, *_ = a_problem()

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.loss = RankSortLoss()

        def forward(self, x: Tensor, y: Tensor) -> Tensor:
            return self.loss(2 * x, y)

    model = Model()
    exported = torch.export.export(model, (logits, targets)).module()
    torch.testing.assert_close(exported(logits / 3, targets), model(logits / 3, targets))


def test_what_is_refused_and_why():
    logits, targets, *_ = a_problem()
    with pytest.raises(RuntimeError, match=r"no (second|forward) derivative"):
        torch.func.hessian(lambda x: RankSortLoss()(x, targets))(logits)
    with pytest.raises(RuntimeError, match="no forward derivative"):
        torch.func.jvp(lambda x: RankSortLoss()(x, targets), (logits,), (logits,))
    with pytest.raises(ValueError, match="per_positive does not work in compiled or traced code"):
        torch.func.vmap(lambda x: RankSortLoss().per_positive(x, targets)["ranking"])(logits[None])
