"""Weights of entries, terms of each positive by itself, and what a loss is told about its positives."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from examples.own_ranking_losses import QualityLoss
from rankdet.losses import NDCGLoss, Ranking, RankingError, RankingLoss, RankSortLoss
from tests.losses.problems import CLASSES, DELTAS, gradients, random_problem

WEIGHED = [cls for cls in CLASSES if cls is not NDCGLoss]
every_loss = pytest.mark.parametrize("cls", CLASSES)


def twice(logits: Tensor, targets: Tensor, times: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Every entry as often as it counts, and which it was."""
    index = torch.arange(len(logits)).repeat_interleave(times)
    return logits.detach()[index].requires_grad_(), targets[index], index


@pytest.mark.parametrize("cls", WEIGHED)
@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.one_of(st.integers(-8, 8).map(lambda k: k / 4), st.floats(-3, 3)),
            st.sampled_from([0.0, 0.0, -1.0, 0.25, 0.5, 1.0]),
            st.integers(0, 3),
        ),
        min_size=1,
        max_size=14,
    ),
    st.sampled_from(DELTAS),
)
def test_an_entry_of_weight_2_counts_like_two(cls: type[RankingLoss], entries: list, delta: float):
    logits, targets, times = torch.tensor(entries, dtype=torch.float64).unbind(1)
    logits = logits.clone().requires_grad_()
    times = torch.where(targets > 0, times.clamp(min=1), times)
    got = cls(delta=delta).terms(logits, targets, weight=times)
    copies, labels, index = twice(logits, targets, times.long())
    expected = cls(delta=delta).terms(copies, labels)
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=1e-10, atol=1e-10)
        (of_entries,) = torch.autograd.grad(got[name], logits, retain_graph=True)
        (of_copies,) = torch.autograd.grad(value, copies, retain_graph=True)
        torch.testing.assert_close(
            of_entries, torch.zeros_like(logits).index_add(0, index, of_copies), rtol=1e-9, atol=1e-11
        )


@pytest.mark.parametrize("cls", WEIGHED)
def test_weights_of_rows_and_of_lists_of_positives(cls: type[RankingLoss]):
    logits, targets = random_problem(40, 460)
    logits, targets = logits.detach().view(100, 5).requires_grad_(), targets.view(100, 5)
    weight = torch.randint(0, 3, (100,), generator=torch.Generator().manual_seed(0))
    weight = torch.where((targets > 0).any(1), weight.clamp(min=1), weight)
    expected = cls()(logits, targets, weight=weight[:, None].expand(100, 5))
    index = (targets > 0).view(-1).nonzero().squeeze(1)
    listed = sum(cls().terms_at(logits, index, targets.view(-1)[index], weight=weight).values())
    torch.testing.assert_close(cls()(logits, targets, weight=weight), expected)
    torch.testing.assert_close(listed, expected)
    torch.testing.assert_close(cls()(logits, targets, weight=torch.ones(100)), cls()(logits, targets))


def test_ndcg_has_no_weights():
    logits, targets = random_problem(4, 20)
    with pytest.raises(ValueError, match="NDCG Loss takes no weight"):
        NDCGLoss()(logits, targets, weight=torch.ones(24))


def test_weights_must_fit():
    logits, targets = random_problem(4, 20)
    with pytest.raises(ValueError, match=r"a weight is 0.0, that of a positive 0.0; accepted are"):
        RankSortLoss()(logits, targets, weight=(targets == 0).float())
    with pytest.raises(ValueError, match=r"a weight is -1.0, that of a positive 1.0"):
        RankSortLoss()(logits, targets, weight=torch.where(targets > 0, 1.0, -1.0))
    with pytest.raises(ValueError, match=r"weight has shape \(3,\), the logits \(24,\)"):
        RankSortLoss()(logits, targets, weight=torch.ones(3))


@every_loss
@pytest.mark.parametrize("scope", ["batch", "class"])
def test_terms_of_each_positive(cls: type[RankingLoss], scope: str):
    """Their mean is the term, and a weighted sum has the weighted sum of their gradients."""
    logits, targets = random_problem(60, 540)
    logits, targets = logits.detach().view(150, 4).requires_grad_(), targets.view(150, 4)
    loss = cls(scope=scope)
    each, terms = loss.per_positive(logits, targets), loss.terms(logits, targets)
    assert list(each) == list(terms)
    column = torch.arange(4).expand(150, 4)[targets > 0]
    classes = torch.bincount(column, minlength=4)
    share = 1 / (classes[column] * 4) if scope == "class" else torch.full((60,), 1 / 60)
    for name, term in terms.items():
        assert each[name].shape == (60,)
        if cls is not NDCGLoss:
            torch.testing.assert_close((each[name] * share).sum(), term)
            got = torch.autograd.grad((each[name] * share).sum(), logits, retain_graph=True)
            torch.testing.assert_close(got, torch.autograd.grad(term, logits, retain_graph=True))
        one_by_one = torch.stack([torch.autograd.grad(part, logits, retain_graph=True)[0] for part in each[name][:9]])
        weights = torch.rand(9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
        (mixed,) = torch.autograd.grad((weights * each[name][:9]).sum(), logits, retain_graph=True)
        torch.testing.assert_close(mixed, torch.einsum("p,pnk->nk", weights, one_by_one))


def test_no_positive_has_no_terms():
    logits = torch.zeros(3, requires_grad=True)
    each = RankSortLoss().per_positive(logits, torch.zeros(3))
    assert {name: len(term) for name, term in each.items()} == {"ranking": 0, "sorting": 0}
    sum(term.sum() for term in each.values()).backward()
    assert (logits.grad == 0).all()


def test_what_has_no_terms_of_each_positive():
    logits, targets = random_problem(4, 20)
    with pytest.raises(ValueError, match="per_positive is of one process"):
        RankSortLoss(gather_across_devices=True).per_positive(logits, targets)
    with pytest.raises(ValueError, match="PositiveError, whose gradient is that of a sum"):
        QualityLoss().per_positive(logits, targets)


class RankSeen(RankingLoss):
    """Remembers what it saw."""

    def __init__(self) -> None:
        super().__init__(delta=0.5)
        self.seen: list[Ranking] = []

    def errors(self, ranking: Ranking) -> dict[str, RankingError]:
        self.seen.append(ranking)
        return {"ranking": RankingError(0.0)}


def test_a_loss_knows_which_positives_it_ranks():
    """For moving averages by example, or weights by class."""
    logits, targets = random_problem(20, 280)
    logits, targets = logits.detach().view(10, 6, 5), targets.view(10, 6, 5)
    loss, image = RankSeen(), torch.arange(10)
    loss(logits, targets)
    (ranking,) = loss.seen
    assert ranking.group is None
    assert torch.equal(ranking.index, (targets > 0).view(-1).nonzero().squeeze(1))
    torch.testing.assert_close(logits.view(-1)[ranking.index], ranking.logits)
    assert torch.equal(ranking.column, (targets > 0).nonzero()[:, 2])
    assert torch.equal(ranking.row, (targets > 0).nonzero()[:, 0] * 6 + (targets > 0).nonzero()[:, 1])

    loss = RankSeen()
    loss.scope = "image"
    loss(logits, targets, image_index=image)
    for ranking in loss.seen:
        images = ranking.index // 30
        assert (images == images[0]).all()
        assert torch.equal(ranking.group, images)


@every_loss
def test_gradients_of_weighted_terms_balance(cls: type[RankingLoss]):
    logits, targets = random_problem(30, 300)
    if cls is NDCGLoss:
        return
    weight = torch.rand(330, generator=torch.Generator().manual_seed(0))
    terms = cls().terms(logits, targets, weight=weight)
    assert all(abs(float(gradient.sum())) < 1e-13 for gradient in gradients(terms, logits).values())
