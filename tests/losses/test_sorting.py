"""What RS Loss may do otherwise than the paper with its sorting term: a weight, a step, and within what it sorts."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from rankdet.criteria import RankingCriterion
from rankdet.losses import RankSortLoss
from tests.criteria.test_criteria import a_stage
from tests.losses.problems import gradients, random_problem

POSITIVES = 30


@pytest.fixture(scope="module")
def listed() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Logits (40, 10), positives, their qualities, and the groups of them."""
    logits, targets = random_problem(POSITIVES, 400 - POSITIVES)
    index = (targets > 0).nonzero()[:, 0]
    group = torch.randint(5, (POSITIVES,), generator=torch.Generator().manual_seed(3))
    return logits.detach().view(40, 10).requires_grad_(), index, targets[index], 10 * group


def both(loss: RankSortLoss, listed: tuple[Tensor, ...], **arguments: Tensor) -> tuple[dict, dict]:
    logits, index, quality, _ = listed
    terms = loss.terms_at(logits, index, quality, **arguments)
    return terms, gradients(terms, logits)


def test_the_default_is_the_paper(listed):
    plain, chosen = RankSortLoss(), RankSortLoss(sorting_weight=1.0, sorting_delta=0.5, sorting_scope="batch")
    for of_plain, of_chosen in zip(both(plain, listed), both(chosen, listed), strict=True):
        assert all(torch.equal(of_plain[name], of_chosen[name]) for name in ("ranking", "sorting"))


def test_a_weight_is_on_sorting_alone(listed):
    for plain, weighted in zip(
        both(RankSortLoss(), listed), both(RankSortLoss(sorting_weight=3.0), listed), strict=True
    ):
        torch.testing.assert_close(weighted["sorting"], 3 * plain["sorting"])
        assert torch.equal(weighted["ranking"], plain["ranking"])


@pytest.mark.parametrize("delta", [0.0, 0.1, 2.0])
def test_a_step_of_its_own(listed, delta: float):
    """Each term is that of a loss with its delta."""
    own = both(RankSortLoss(sorting_delta=delta), listed)
    for found, ranking, sorting in zip(
        own, both(RankSortLoss(), listed), both(RankSortLoss(delta=delta), listed), strict=True
    ):
        torch.testing.assert_close(found["sorting"], sorting["sorting"])
        assert torch.equal(found["ranking"], ranking["ranking"])


@pytest.mark.parametrize("delta", [None, 0.2])
def test_sorting_within_groups_is_that_of_each_alone(listed, delta: float | None):
    """Negatives play no part in sorting."""
    logits, index, quality, group = listed
    loss = RankSortLoss(sorting_scope="object", sorting_delta=delta)
    terms, found = both(loss, listed, sorting_group=group)
    value, gradient = torch.zeros((), dtype=torch.float64), torch.zeros(400, dtype=torch.float64)
    for one in group.unique():
        place = index[group == one]
        alone = logits.detach().view(-1)[place].requires_grad_()
        sorting = RankSortLoss(delta=delta or 0.5).terms(alone, quality[group == one])["sorting"]
        share = len(place) / POSITIVES
        value += share * sorting.detach()
        gradient[place] = share * torch.autograd.grad(sorting, alone)[0]
    torch.testing.assert_close(terms["sorting"], value)
    torch.testing.assert_close(found["sorting"].view(-1), gradient)
    assert torch.equal(terms["ranking"], RankSortLoss().terms_at(logits, index, quality)["ranking"])


def test_one_group_is_the_batch(listed):
    group = torch.full_like(listed[3], 7)
    grouped = both(RankSortLoss(sorting_scope="image"), listed, sorting_group=group)
    for of_group, plain in zip(grouped, both(RankSortLoss(), listed), strict=True):
        torch.testing.assert_close(of_group["sorting"], plain["sorting"])


def test_objects_within_images_that_rank_alone(listed):
    """With the rows as images: as if objects of two images were two objects."""
    logits, index, quality, group = listed
    image = torch.arange(40) // 10
    loss = RankSortLoss(scope="image", sorting_scope="object")
    apart = 100 * image[index // 10] + group
    one, two = (
        loss.terms_at(logits, index, quality, image_index=image, sorting_group=of)["sorting"] for of in (group, apart)
    )
    torch.testing.assert_close(one, two)
    by_batch = RankSortLoss(sorting_scope="object").terms_at(logits, index, quality, sorting_group=group)["sorting"]
    assert one != by_batch


@pytest.mark.parametrize("scope", ["image", "object"])
def test_a_criterion_knows_images_and_objects(scope: str):
    predictions, assignment = a_stage()
    loss = RankSortLoss(sorting_scope=scope)
    losses = RankingCriterion(ranking=loss)(predictions, assignment).losses
    plain = RankingCriterion()(predictions, assignment).losses
    assert losses["ranking"] == plain["ranking"]
    # The stage has one image, and an object for each positive.
    assert losses["sorting"].item() == pytest.approx(plain["sorting"].item() if scope == "image" else 0)


def test_compiled_code_sorts_within_groups(listed):
    logits, index, quality, group = listed
    loss = RankSortLoss(sorting_scope="object")
    compiled = torch.compile(
        lambda x: loss.terms_at(x, index, quality, sorting_group=group)["sorting"], backend="eager"
    )
    torch.testing.assert_close(compiled(logits), loss.terms_at(logits, index, quality, sorting_group=group)["sorting"])


def test_wrong_arguments_are_explained(listed):
    logits, index, quality, group = listed
    with pytest.raises(ValueError, match="sorting_weight is -1"):
        RankSortLoss(sorting_weight=-1)
    with pytest.raises(ValueError, match="sorting_delta is -1"):
        RankSortLoss(sorting_delta=-1)
    with pytest.raises(ValueError, match="'batch' and 'image' and 'object'"):
        RankSortLoss(sorting_scope="class")
    with pytest.raises(ValueError, match="sorting_group is missing"):
        RankSortLoss(sorting_scope="image")(logits, logits)
    with pytest.raises(ValueError, match="sorting_group is given"):
        RankSortLoss().terms_at(logits, index, quality, sorting_group=group)
    with pytest.raises(ValueError, match=r"sorting_group is torch.int64 of shape \(29,\)"):
        RankSortLoss(sorting_scope="image").terms_at(logits, index, quality, sorting_group=group[1:])
