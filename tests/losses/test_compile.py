"""The ranking losses inside compiled code: no graph break, the same numbers."""

from __future__ import annotations

import pytest
import torch

from rankdet.losses import RankingLoss, RankSortLoss
from tests.losses.problems import CLASSES, random_problem


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()


@pytest.mark.parametrize("cls", CLASSES)
def test_no_graph_break_and_the_same_numbers(cls: type[RankingLoss]):
    logits, targets = random_problem(20, 300)
    expected = cls()(logits, targets)
    (exact,) = torch.autograd.grad(expected, logits)
    compiled = torch.compile(cls(), fullgraph=True, backend="aot_eager")
    value = compiled(logits, targets)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(torch.autograd.grad(value, logits)[0], exact, rtol=1e-12, atol=1e-15)


def test_weighted_terms_and_ranks_of_listed_positives():
    logits, targets = random_problem(20, 300)
    index = (targets > 0).nonzero().squeeze(1)
    loss = RankSortLoss()

    def both(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        ranked = loss.ranked_at(2 * x, index, targets[index])
        return ranked.terms["ranking"] + 3 * ranked.terms["sorting"], ranked.soft_sampling

    expected, weights = both(logits)
    value, same = torch.compile(both, fullgraph=True, backend="aot_eager")(logits)
    torch.testing.assert_close((value, same), (expected, weights))
    (got,), (exact,) = torch.autograd.grad(value, logits), torch.autograd.grad(expected, logits)
    torch.testing.assert_close(got, exact, rtol=1e-12, atol=1e-15)


def test_the_operator_keeps_its_promises():
    """Shapes and dtypes as announced to the compiler; gradients registered."""
    logits, targets = random_problem(5, 60, dtype=torch.float32)
    loss = RankSortLoss()
    arguments = [targets, None, None, None, None, None]
    torch.library.opcheck(
        torch.ops.rankdet.ranking_terms.default,
        (logits, arguments, loss._number),
        test_utils=("test_schema", "test_faketensor", "test_autograd_registration"),
    )


def test_inductor():
    logits, targets = random_problem(20, 300, dtype=torch.bfloat16)
    loss = RankSortLoss()
    value = torch.compile(lambda x: loss(x.float() * 2, targets), fullgraph=True)(logits)
    expected = loss(logits.float() * 2, targets)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(torch.autograd.grad(value, logits), torch.autograd.grad(expected, logits))
