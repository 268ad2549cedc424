"""Ranking in groups: one pass over all of them is the mean of the rankings of each by itself."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from examples.own_ranking_losses import KendallLoss, PrecisionAtKLoss
from rankdet.losses import RankingLoss, RankSortLoss
from rankdet.losses.ranking import negatives, pairs
from tests.losses.problems import CLASSES, DELTAS, gradients
from tests.losses.test_every_loss import replace_everywhere

every_loss = pytest.mark.parametrize("cls", CLASSES)


def apart(loss: RankingLoss, logits: Tensor, targets: Tensor, group: Tensor, **more: Tensor) -> dict[str, Tensor]:
    """The mean over the groups that hold a positive, one after the other."""
    rows = [group == number for number in group.unique() if (targets[group == number] > 0).any()]
    terms = [loss.terms(logits[row], targets[row], **{name: of[row] for name, of in more.items()}) for row in rows]
    return {name: sum(of[name] for of in terms) / len(terms) for name in terms[0]}


def assert_equal(got: dict[str, Tensor], expected: dict[str, Tensor], logits: Tensor, tolerance: float) -> None:
    assert list(got) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=tolerance, atol=tolerance)
        (of_got,), (exact,) = (torch.autograd.grad(of[name], logits, retain_graph=True) for of in (got, expected))
        scale = max(float(exact.abs().max()), 1e-6)
        torch.testing.assert_close(of_got / scale, exact / scale, rtol=tolerance, atol=tolerance)


@every_loss
@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([-7, 0, 3, 10**12]),
            st.one_of(st.integers(-8, 8).map(lambda k: k / 4), st.floats(-1e4, 1e4)),
            st.sampled_from([0.0, 0.0, -1.0, 0.25, 0.5, 1.0]),
        ),
        min_size=1,
        max_size=20,
    ).filter(lambda entries: any(y > 0 for _, _, y in entries)),
    st.sampled_from(DELTAS),
)
def test_any_groups(cls: type[RankingLoss], entries: list[tuple[int, float, float]], delta: float):
    group = torch.tensor([number for number, _, _ in entries])
    logits, targets = torch.tensor([entry[1:] for entry in entries], dtype=torch.float64).unbind(1)
    logits = logits.clone().requires_grad_()
    got = cls(delta=delta, scope="group").terms(logits, targets, group=group)
    assert_equal(got, apart(cls(delta=delta), logits, targets, group), logits, 1e-11)


def many(
    groups: int, rows: int, width: int, *, positives: int, dtype: torch.dtype, shift: float = 0.0
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits and targets (rows, width), the group of each row; some rows are ignored, some groups have no positive."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(rows, width, generator=generator).to(dtype)
    targets = torch.zeros(rows, width)
    where = torch.randperm(rows * width, generator=generator)[:positives]
    targets.view(-1)[where] = torch.rand(positives, generator=generator) * 0.99 + 0.01
    logits.view(-1)[where] += shift
    group = torch.randint(groups, (rows,), generator=generator) * 11 - 5
    targets[::13] = -1
    targets[group == group[0]] = targets[group == group[0]].clamp(max=0)
    return logits.requires_grad_(), targets, group


@every_loss
@pytest.mark.parametrize("delta", [0.0, 0.5])
@pytest.mark.parametrize("way", ["cells", "search", "accelerator", "trained"])
@pytest.mark.parametrize(("groups", "positives"), [(3, 900), (40, 300)])
def test_many_logits(
    cls: type[RankingLoss], delta: float, way: str, groups: int, positives: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(negatives, "GRID", 1 if way == "cells" else 1 << 60)
    monkeypatch.setattr(negatives, "_piece", lambda _: 3000)
    monkeypatch.setattr(pairs, "TABLE", 100)
    shift = 8.0 if way == "trained" else 0.0
    logits, targets, group = many(groups, 4000, 5, positives=positives, dtype=torch.float64, shift=shift)
    expected = apart(cls(delta=delta), logits, targets, group)
    if way == "accelerator":
        replace_everywhere(monkeypatch, "on_cpu", False)
    got = cls(delta=delta, scope="group").terms(logits, targets, group=group)
    assert_equal(got, expected, logits, 1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_narrow_logits(dtype: torch.dtype):
    logits, targets, group = many(10, 9000, 4, positives=300, dtype=dtype)
    expected = apart(RankSortLoss(), logits, targets, group)
    got = RankSortLoss(scope="group").terms(logits, targets, group=group)
    assert_equal(got, expected, logits, 1e-6 if dtype == torch.float32 else 1e-2)


@every_loss
def test_classes(cls: type[RankingLoss]):
    """The last dimension, whatever the shape; classes without a positive do not count."""
    logits, targets, _ = many(1, 3000, 7, positives=90, dtype=torch.float64)
    targets[:, 5] = 0
    logits, targets = logits.detach().view(60, 50, 7).requires_grad_(), targets.view(60, 50, 7)
    got = cls(scope="class").terms(logits, targets)
    classes = [cls().terms(logits[..., k], targets[..., k]) for k in range(7) if k != 5]
    expected = {name: sum(terms[name] for terms in classes) / 6 for name in got}
    assert_equal(got, expected, logits, 1e-11)


@every_loss
def test_each_entry_its_own_group_or_all_one(cls: type[RankingLoss]):
    logits, targets, _ = many(1, 300, 7, positives=90, dtype=torch.float64)
    by_column = torch.arange(7).expand(300, 7)
    of_classes, of_groups = cls(scope="class"), cls(scope="group")
    assert_equal(of_groups.terms(logits, targets, group=by_column), of_classes.terms(logits, targets), logits, 1e-12)
    one = torch.full((300,), 3)
    assert_equal(of_groups.terms(logits, targets, group=one), cls().terms(logits, targets), logits, 1e-12)


def test_ranks_and_weights_of_the_positives():
    """They are those of each group by itself, the weights divided by the number of groups."""
    logits, targets, group = many(4, 300, 2, positives=60, dtype=torch.float64)
    index = (targets > 0).view(-1).nonzero().squeeze(1)
    quality, ignored = targets.view(-1)[index], (targets < 0).all(1)
    ranked = RankSortLoss(scope="group").ranked_at(logits, index, quality, ignored=ignored, group=group)
    present = group[index // 2].unique()
    for number in present:
        mine = group[index // 2] == number
        alone = RankSortLoss().ranked_at(logits, index[mine], quality[mine], ignored=ignored | (group != number))
        torch.testing.assert_close(ranked.rank[mine], alone.rank)
        torch.testing.assert_close(ranked.soft_sampling[mine], alone.soft_sampling / len(present))


@pytest.mark.parametrize("loss", [PrecisionAtKLoss(k=5), KendallLoss(), PrecisionAtKLoss(k=30)])
def test_losses_of_ones_own_are_asked_group_by_group(loss: RankingLoss):
    logits, targets, group = many(6, 400, 3, positives=100, dtype=torch.float64)
    expected = apart(loss, logits, targets, group)
    loss.scope = "group"
    assert_equal(loss.terms(logits, targets, group=group), expected, logits, 1e-12)


def test_no_positive_in_any_group():
    logits, targets, group = many(6, 400, 3, positives=100, dtype=torch.float32)
    terms = RankSortLoss(scope="group").terms(logits, targets.clamp(max=0), group=group)
    assert all(term == 0 for term in terms.values())
    assert all((gradient == 0).all() for gradient in gradients(terms, logits).values())


def test_compiled():
    logits, targets, group = many(6, 400, 3, positives=100, dtype=torch.float64)
    loss = RankSortLoss(scope="group")
    expected = loss(logits, targets, group=group)
    value = torch.compile(loss, fullgraph=True, backend="aot_eager")(logits, targets, group=group)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(torch.autograd.grad(value, logits), torch.autograd.grad(expected, logits))


def test_the_argument_must_be_that_of_the_scope():
    logits, targets, group = many(6, 40, 3, positives=10, dtype=torch.float32)
    with pytest.raises(ValueError, match='scope is "group" but group is missing'):
        RankSortLoss(scope="group")(logits, targets)
    with pytest.raises(ValueError, match='group is given but scope is "batch"; make the loss with scope="group"'):
        RankSortLoss()(logits, targets, group=group)
    with pytest.raises(ValueError, match='group is given but scope is "image"; make the loss with scope="group"'):
        RankSortLoss(scope="image")(logits, targets, group=group)
    with pytest.raises(ValueError, match=r"image_index is given but scope is .class."):
        RankSortLoss(scope="class")(logits, targets, image_index=group)
    with pytest.raises(ValueError, match=r"group has shape \(3,\), the logits \(40, 3\)"):
        RankSortLoss(scope="group")(logits, targets, group=torch.arange(3))
    with pytest.raises(ValueError, match=r"group is torch\.float32; accepted is int64"):
        RankSortLoss(scope="group")(logits, targets, group=group.float())
