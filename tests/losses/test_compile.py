"""The ranking losses inside compiled code: no graph break, the same numbers."""

from __future__ import annotations

import gc

import pytest
import torch

from rankdet.losses import ALRPLoss, RankingLoss, RankSortLoss, functional
from tests.losses.problems import CLASSES, random_problem


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    yield
    torch.set_flush_denormal(False)  # what inductor of torch 2.4 compiles sets it for the whole process


@pytest.mark.parametrize("cls", CLASSES)
def test_no_graph_break_and_the_same_numbers(cls: type[RankingLoss]):
    logits, targets = random_problem(20, 300)
    expected = cls()(logits, targets)
    (exact,) = torch.autograd.grad(expected, logits)
    compiled = torch.compile(cls(), fullgraph=True, backend="aot_eager")
    value = compiled(logits, targets)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(torch.autograd.grad(value, logits)[0], exact, rtol=1e-12, atol=1e-15)


ALRP = ALRPLoss()
FUNCTIONS = {
    "rank_sort_loss": lambda x, y, d: sum(functional.rank_sort_loss(x, y, delta=d)),
    "average_precision_loss": lambda x, y, d: functional.average_precision_loss(x, y, delta=d, interpolate=False),
    "alrp_loss": lambda x, y, d: sum(functional.alrp_loss(x, y, torch.full((20,), 0.5, dtype=x.dtype), delta=d)),
    "ndcg_loss": lambda x, y, d: functional.ndcg_loss(x, y, delta=d),
    "ALRPLoss": lambda x, y, d: d * ALRP(x, y, torch.full((20,), 0.5, dtype=x.dtype)),
}


LONG = ("average_precision_loss", "alrp_loss", "ndcg_loss")  # the like of the others


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] if name in LONG else []) for name in FUNCTIONS]
)
def test_functions_and_given_localisation_errors(name: str):
    """Two deltas one after the other, and memory cleaned in between: each call ranks by its own."""
    logits, targets = random_problem(20, 300)
    compiled = torch.compile(FUNCTIONS[name], fullgraph=True, backend="aot_eager")
    for delta in (0.3, 0.9, 0.3):
        expected = FUNCTIONS[name](logits, targets, delta)
        (exact,) = torch.autograd.grad(expected, logits)
        value = compiled(logits, targets, delta)
        gc.collect()
        torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
        torch.testing.assert_close(torch.autograd.grad(value, logits)[0], exact, rtol=1e-12, atol=1e-15)


def test_each_image_by_itself():
    logits, targets = random_problem(20, 300)
    logits, targets = logits.detach().view(16, 20).requires_grad_(), targets.view(16, 20)
    image, loss = torch.arange(4).repeat(4), RankSortLoss(scope="image")
    expected = loss(logits, targets, image_index=image)
    value = torch.compile(loss, fullgraph=True, backend="aot_eager")(logits, targets, image_index=image)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    torch.testing.assert_close(torch.autograd.grad(value, logits), torch.autograd.grad(expected, logits))


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


def test_a_second_derivative_is_refused():
    """By torch, whatever is compiled."""
    logits, targets = random_problem(10, 100)
    compiled = torch.compile(RankSortLoss(), fullgraph=True, backend="aot_eager")
    (gradient,) = torch.autograd.grad(compiled(logits, targets), logits, create_graph=True)
    with pytest.raises(RuntimeError, match=r"does not currently support double backward|does not require grad"):
        gradient.sum().backward()


def test_the_operator_keeps_its_promises():
    """Shapes and dtypes as announced to the compiler; gradients registered."""
    logits, targets = random_problem(5, 60, dtype=torch.float32)
    loss = RankSortLoss()
    arguments = [targets, None, None, None, None, None]
    torch.library.opcheck(
        torch.ops.rankdet.ranking_terms.default,
        (logits, arguments, loss.number, None),
        test_utils=("test_schema", "test_faketensor", "test_autograd_registration"),
    )


def test_inductor():
    logits, targets = random_problem(20, 300, dtype=torch.bfloat16)
    loss = RankSortLoss()
    value = torch.compile(lambda x: loss(x.float() * 2, targets), fullgraph=True)(logits)
    expected = loss(logits.float() * 2, targets)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(torch.autograd.grad(value, logits), torch.autograd.grad(expected, logits))
