"""Every ranking loss against the double loop of its paper, and against the worked examples."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rankdet.losses.functional import alrp_loss, average_precision_loss, ndcg_loss, rank_sort_loss
from rankdet.losses.ranking import negatives
from tests.losses.problems import DELTAS, LOSSES, WORKED, Problem, assert_same_terms, problems, random_problem
from tests.reference import ranking as reference
from tests.reference import ranking_loop


@pytest.fixture(scope="module", autouse=True)
def _small_problems_go_through_the_grid_too():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(negatives, "GRID", 1)
        yield


CASES = [(name, delta) for name, case in WORKED.items() if "delta" in case for delta in case["delta"]]


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=150)
@given(problem=problems())
@example(problem=Problem([0.0, 0.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0], 0.0))
@example(problem=Problem([1e15, -1e15, 0.0, 1e-300], [0.5, 0.0, 0.25, 0.0], 0.5))
def test_float64_agrees_to_1e_12(name: str, problem: Problem):
    build, oracle = LOSSES[name]
    logits, targets = problem.tensors()
    expected = oracle(problem.logits, problem.targets, delta=problem.delta)
    assert_same_terms(build(problem.delta).terms(logits, targets), logits, expected, 1e-12)


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=100)
@given(problem=problems(precision=32, largest=1e4))
def test_float32_agrees_to_1e_6(name: str, problem: Problem):
    build, oracle = LOSSES[name]
    logits, targets = problem.tensors(torch.float32)
    expected = oracle(logits.tolist(), targets.tolist(), delta=problem.delta)
    assert_same_terms(build(problem.delta).terms(logits, targets), logits, expected, 1e-6)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("delta", DELTAS)
@pytest.mark.parametrize("spread", [1e15, 1e16, 1e30, 1e300])
def test_logits_so_large_that_delta_is_nothing_to_them(name: str, delta: float, spread: float):
    """Where s + delta is s again."""
    build, oracle = LOSSES[name]
    logits, targets = random_problem(4, 12, spread=spread)
    expected = oracle(logits.tolist(), targets.tolist(), delta=delta)
    assert_same_terms(build(delta).terms(logits, targets), logits, expected, 1e-12)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("delta", [0.3, 0.5])
def test_float32_far_from_zero_loses_nothing(name: str, delta: float):
    """There s - delta is no float32: the edges of the steps are rounded, the sums are not."""
    build, oracle = LOSSES[name]
    logits, targets = random_problem(20, 60, spread=0.5, dtype=torch.float32)
    logits = (logits.detach() + 5000).requires_grad_()
    expected = oracle(logits.tolist(), targets.tolist(), delta=delta)
    assert_same_terms(build(delta).terms(logits, targets), logits, expected, 1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", LOSSES)
def test_16_bit_gradients_are_rounded_once(name: str, dtype: torch.dtype):
    build, oracle = LOSSES[name]
    logits, targets = random_problem(6, 40, dtype=torch.float64)
    logits, targets = logits.detach().to(dtype).requires_grad_(), targets.to(dtype)
    expected = oracle(logits.tolist(), targets.tolist(), delta=0.5)
    terms = build(0.5).terms(logits, targets)
    assert all(term.dtype == torch.float32 for term in terms.values())
    for name, (value, gradient) in expected.items():
        assert terms[name].item() == pytest.approx(value, rel=1e-6)
        (got,) = torch.autograd.grad(terms[name], logits, retain_graph=True)
        torch.testing.assert_close(got, torch.tensor(gradient).to(dtype), rtol=torch.finfo(dtype).eps, atol=1e-7)


@pytest.mark.parametrize(("positives", "negatives"), [(1, 3000), (300, 3000), (700, 300), (1500, 2000)])
@pytest.mark.parametrize("delta", [0.0, 0.5])
def test_many_positives_agree_with_the_loop_over_them(positives: int, negatives: int, delta: float):
    """Beyond the tables: the tree of sums, several hundred positives, ties in quality."""
    logits, targets = random_problem(positives, negatives)
    targets = torch.where(targets > 0.5, (targets * 8).ceil() / 8, targets)
    values, exact = ranking_loop.rank_sort(logits.detach(), targets, delta)
    expected = {"ranking": (values[0].item(), exact[0].tolist()), "sorting": (values[1].item(), exact[1].tolist())}
    terms = dict(zip(expected, rank_sort_loss(logits, targets, delta=delta), strict=True))
    assert_same_terms(terms, logits, expected, 1e-11)  # the loop's own rounding grows with P
    values, exact = ranking_loop.average_precision(logits.detach(), targets, delta)
    terms = {"ranking": average_precision_loss(logits, targets, delta=delta)}
    assert_same_terms(terms, logits, {"ranking": (values.item(), exact[0].tolist())}, 1e-11)


@pytest.mark.parametrize(("name", "delta"), CASES)
def test_worked_examples(name: str, delta: str):
    case, expected = WORKED[name], WORKED[name]["delta"][delta]
    d = float(delta)
    logits = torch.tensor(case["logits"], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor(case["labels"], dtype=torch.float64)
    errors = torch.tensor(case["e_loc"], dtype=torch.float64, requires_grad=True)

    def check(loss: torch.Tensor, value: float, gradient: list[float], at: torch.Tensor = logits) -> None:
        assert loss.item() == pytest.approx(value, abs=1e-11)
        (got,) = torch.autograd.grad(loss, at, retain_graph=True)
        torch.testing.assert_close(got, torch.tensor(gradient, dtype=torch.float64), rtol=0, atol=1e-11)

    for interpolate, key in ((True, "ap_official_interpolated"), (False, "ap_without_interpolation")):
        loss = average_precision_loss(logits, labels, delta=d, interpolate=interpolate)
        check(loss, expected[key]["loss"], expected[key]["grad"])
    classification, localisation = alrp_loss(logits, labels, errors, delta=d)
    check(classification, expected["alrp"]["loss_cls"], expected["alrp"]["grad_cls"])
    check(localisation, expected["alrp"]["loss_loc"], expected["alrp"]["loc_weight_per_positive"], errors)
    check(ndcg_loss(logits, labels, delta=d), expected["ndcg"]["loss"], expected["ndcg"]["grad"])
    ranking, sorting = rank_sort_loss(logits, labels, delta=d)
    assert ranking.item() == pytest.approx(expected["rs"]["loss_rank"], abs=1e-11)
    assert sorting.item() == pytest.approx(expected["rs"]["loss_sort"], abs=1e-11)
    check(ranking + sorting, expected["rs"]["loss"], expected["rs"]["grad"])


@pytest.mark.parametrize("name", ["C&R1", "C&R2", "C&R3"])
def test_the_example_of_the_alrp_paper(name: str):
    case = WORKED["E0_alrp_paper_fig1_toy_delta0"][name]
    labels = torch.zeros(10)
    labels[[0, 2, 5, 9]] = 1
    errors = torch.tensor(case["e_loc"], dtype=torch.float64)
    classification, localisation = alrp_loss(torch.arange(10.0, 0, -1), labels, errors, delta=0)
    assert (classification + localisation).item() == pytest.approx(case["alrp"], abs=1e-6)
    assert classification.item() == pytest.approx(case["ap_loss"], abs=1e-6)


@settings(max_examples=100)
@given(problem=problems())
def test_soft_sampling_weights_of_alrp(problem: Problem):
    logits, targets = problem.tensors()
    expected = reference.alrp_localisation_weights(problem.logits, problem.targets, delta=problem.delta)
    errors = torch.ones(len(expected), dtype=torch.float64, requires_grad=True)
    _, localisation = alrp_loss(logits, targets, errors, delta=problem.delta)
    (weights,) = torch.autograd.grad(localisation, errors)
    torch.testing.assert_close(weights, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)


@settings(max_examples=60)
@given(problem=problems(), data=st.data())
def test_localisation_errors_of_ones_own(problem: Problem, data: st.DataObject):
    """Errors beyond 1, as a GIoU gives them."""
    number = sum(y > 0 for y in problem.targets)
    errors = data.draw(st.lists(st.floats(0, 4), min_size=number, max_size=number))
    logits, targets = problem.tensors()
    classification, _ = alrp_loss(logits, targets, torch.tensor(errors, dtype=torch.float64), delta=problem.delta)
    expected = reference.alrp(problem.logits, problem.targets, delta=problem.delta, errors=errors)
    assert_same_terms({"ranking": classification}, logits, expected, 1e-11)


def test_the_formula_of_adaptive_pairs_is_the_published_one():
    assert reference.published_adaptive_pairs([1.0, 0.0], [0.5, -2.0, 0.2], [0.6, 0.9]) == pytest.approx(
        0.468591, abs=1e-6
    )
