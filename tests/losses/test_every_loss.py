"""What holds for every ranking loss: invariants, edge cases, dtypes, devices."""

from __future__ import annotations

import copy
import math
import pickle
import warnings

import pytest
import torch
from hypothesis import given, settings
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from rankdet.losses import ALRPLoss, AveragePrecisionLoss, RankingLoss, RankSortLoss
from rankdet.losses.functional import alrp_loss
from rankdet.losses.ranking import alrp, entries, everyone, negatives, numbers, pairs, targets, update
from tests.losses.problems import CLASSES, LOSSES, Problem, gradients, problems, random_problem

MODULES = (alrp, entries, everyone, negatives, numbers, pairs, targets, update)


def replace_everywhere(patch: pytest.MonkeyPatch, name: str, answer: object) -> None:
    """Let a function that looks at a device give another answer."""
    assert hasattr(numbers, name)
    for module in MODULES:
        if hasattr(module, name):
            patch.setattr(module, name, lambda _: answer)


every_loss = pytest.mark.parametrize("cls", CLASSES)


def subclasses(cls: type) -> set[type]:
    return {found for sub in cls.__subclasses__() for found in {sub} | subclasses(sub)}


def test_no_loss_of_the_package_is_left_out():
    ours = {cls for cls in subclasses(RankingLoss) if cls.__module__.startswith("rankdet.")}
    assert ours == set(CLASSES)


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=60)
@given(problem=problems())
def test_invariants(name: str, problem: Problem):
    logits, targets = problem.tensors()
    terms = LOSSES[name][0](problem.delta).terms(logits, targets)
    for term, gradient in zip(terms.values(), gradients(terms, logits).values(), strict=True):
        assert -1e-12 <= term.item() < 1
        assert abs(gradient.sum().item()) < 1e-13
        assert (gradient[targets == 0] >= 0).all()
        assert (gradient[targets < 0] == 0).all()


@every_loss
def test_a_shift_of_all_logits_changes_nothing(cls: type[RankingLoss]):
    logits, targets = random_problem(40, 500)
    shifted = (logits.detach() + 37.0).requires_grad_()
    here, there = cls().terms(logits, targets), cls().terms(shifted, targets)
    for name in here:
        torch.testing.assert_close(here[name], there[name], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(
            gradients(here, logits)[name], gradients(there, shifted)[name], rtol=1e-10, atol=1e-13
        )


@every_loss
def test_a_permutation_permutes_the_gradient(cls: type[RankingLoss]):
    logits, targets = random_problem(40, 500)
    order = torch.randperm(540, generator=torch.Generator().manual_seed(1))
    here, there = cls()(logits, targets), cls()(logits[order], targets[order])
    torch.testing.assert_close(here, there, rtol=1e-12, atol=0)
    (plain,), (permuted,) = torch.autograd.grad(here, logits), torch.autograd.grad(there, logits)
    torch.testing.assert_close(plain, permuted, rtol=1e-11, atol=1e-14)


@every_loss
def test_every_term_has_a_gradient_of_its_own(cls: type[RankingLoss]):
    """Weighting one term weights its own gradient and no other's, as it did not in the published RS Loss."""
    logits, targets = random_problem(20, 200)
    terms = cls().terms(logits, targets)
    own = gradients(terms, logits)
    weights = dict(zip(terms, (2.0, -0.5), strict=False))
    (mixed,) = torch.autograd.grad(sum(weights[name] * term for name, term in terms.items()), logits)
    torch.testing.assert_close(mixed, sum(weights[name] * own[name] for name in terms), rtol=1e-12, atol=1e-15)
    assert all(gradient.abs().sum() > 0 for gradient in own.values())


@every_loss
@pytest.mark.parametrize(
    ("logits", "targets"),
    [
        ([], []),
        ([0.3, -0.2], [0.0, 0.0]),
        ([0.3, -0.2], [-1.0, -1.0]),
        ([0.3, -0.2], [-1.0, 0.0]),
        ([0.3, -0.2, 0.1], [1.0, 0.5, -1.0]),
        ([5.0], [0.7]),
        ([0.0, 0.0, 0.0], [0.5, 0.0, 1.0]),
        ([math.inf, -math.inf, 0.0, math.inf], [0.5, 0.0, 1.0, 0.0]),
        ([-math.inf, -math.inf, 0.0, math.inf], [0.5, 0.0, 0.0, 0.0]),
        ([1e38, -1e38, 3e38, 0.0], [0.5, 0.0, 0.0, 1.0]),
    ],
    ids=["nothing", "no positive", "all ignored", "negatives and ignored", "no negative", "one positive", "ties",
         "infinite", "infinitely low", "huge"],
)  # fmt: skip
@pytest.mark.parametrize("delta", [0.0, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_edge_cases_are_finite_and_connected(
    cls: type[RankingLoss], logits: list[float], targets: list[float], delta: float, dtype: torch.dtype
):
    x = torch.tensor(logits, dtype=dtype, requires_grad=True)
    value = cls(delta=delta)(x, torch.tensor(targets, dtype=dtype))
    value.backward()
    assert value.shape == ()
    assert 0 <= value.item() < 2
    assert x.grad.isfinite().all()
    if not any(y > 0 for y in targets):
        assert value == 0
        assert (x.grad == 0).all()


def test_infinite_logits_rank_above_and_below_all_others():
    logits = torch.tensor([math.inf, 0.0, -math.inf, 1.0], requires_grad=True)
    ranking = RankSortLoss(delta=0).terms(logits, torch.tensor([0.0, 1.0, 0.0, 0.0]))["ranking"]
    ranking.backward()
    assert ranking.item() == pytest.approx(2 / 3)  # +inf and 1 above, -inf below
    torch.testing.assert_close(logits.grad, torch.tensor([1 / 3, -2 / 3, 0, 1 / 3]))


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_infinite_logits_leave_the_gradient_balanced(cls: type[RankingLoss], dtype: torch.dtype):
    logits = torch.tensor([math.inf, -math.inf, 0.0, 3.0, -math.inf, math.inf], dtype=dtype, requires_grad=True)
    terms = cls().terms(logits, torch.tensor([0.5, 0.2, 0.0, 1.0, 0.0, 0.0], dtype=dtype))
    assert all(abs(gradient.sum().item()) < 1e-6 for gradient in gradients(terms, logits).values())
    assert gradients(terms, logits)[next(iter(terms))][2] > 0  # it outranks the positive at -inf


@every_loss
def test_shapes_are_free_and_strides_too(cls: type[RankingLoss]):
    logits, targets = random_problem(30, 330)
    flat = cls()(logits, targets)
    (expected,) = torch.autograd.grad(flat, logits)
    strided = logits.detach().view(3, 4, 30).transpose(0, 2).requires_grad_()
    value = cls()(strided, targets.view(3, 4, 30).transpose(0, 2))
    (got,) = torch.autograd.grad(value, strided)
    torch.testing.assert_close(value, flat, rtol=1e-12, atol=0)
    torch.testing.assert_close(got.transpose(0, 2).reshape(-1), expected, rtol=1e-11, atol=1e-14)


@every_loss
def test_columns_and_expanded_logits_are_taken_without_a_warning(cls: type[RankingLoss]):
    """Such as the objectness of boxes that are read from the rows of a head."""
    logits, targets = random_problem(30, 330)
    column = logits.detach()[:, None].repeat(1, 5)[:, 4].requires_grad_()
    single = torch.zeros(1, requires_grad=True)
    torch.set_warn_always(True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            value = cls()(column, targets)
            cls()(single.expand(360), targets).backward()
    finally:
        torch.set_warn_always(False)
    flat = cls()(logits, targets)
    torch.testing.assert_close(torch.autograd.grad(value, column), torch.autograd.grad(flat, logits))
    assert single.grad.abs() < 1e-6


@every_loss
def test_a_list_of_positives_equals_dense_targets(cls: type[RankingLoss]):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(50, 4, generator=generator, requires_grad=True)
    index, quality = torch.tensor([150, 3, 77, 46]), torch.tensor([0.3, 0.9, 0.5, 0.6])  # 46 is in an ignored row
    ignored = torch.zeros(50, dtype=torch.bool)
    ignored[10:15] = True
    targets = torch.zeros(50, 4).masked_fill(ignored[:, None], -1)
    targets.view(-1)[index] = quality
    dense = cls().terms(logits, targets)
    listed = cls().ranked_at(logits, index, quality, ignored=ignored)
    for name, gradient in gradients(dense, logits).items():
        torch.testing.assert_close(dense[name], listed.terms[name])
        torch.testing.assert_close(gradient, gradients(listed.terms, logits)[name])
    order = logits.detach().view(-1)[index].argsort(descending=True)
    assert (listed.rank[order].diff() > 0).all()
    assert (listed.soft_sampling[order].diff() < 0).all()


@every_loss
def test_both_ways_of_keeping_negatives_agree(cls: type[RankingLoss], monkeypatch: pytest.MonkeyPatch):
    logits, targets = random_problem(40, 5000, dtype=torch.float32)
    targets[torch.arange(0, 5040, 7)] = -1
    found = []
    for listed in (0.0, 2.0):  # no share of negatives is below 0, every one below 2
        monkeypatch.setattr(negatives, "LISTED", listed)
        value = cls()(logits, targets)
        found.append((value, *torch.autograd.grad(value, logits)))
    torch.testing.assert_close(found[0], found[1], rtol=1e-6, atol=1e-9)


@every_loss
def test_pieces_fit_together(cls: type[RankingLoss], monkeypatch: pytest.MonkeyPatch):
    logits, targets = random_problem(40, 5000)
    whole = cls()(logits, targets)
    (gradient,) = torch.autograd.grad(whole, logits)
    monkeypatch.setattr(negatives, "_piece", lambda _: 777)
    value = cls()(logits, targets)
    torch.testing.assert_close(value, whole, rtol=1e-12, atol=0)
    torch.testing.assert_close(torch.autograd.grad(value, logits)[0], gradient, rtol=1e-11, atol=1e-14)


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_way_of_accelerators_agrees(cls: type[RankingLoss], dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch):
    """Without grids, samples and bincounts, none of which an accelerator likes."""
    logits, targets = random_problem(40, 5000, dtype=dtype)
    targets[torch.arange(0, 5040, 7)] = -1
    found = []
    for on_cpu in (True, False):
        replace_everywhere(monkeypatch, "on_cpu", on_cpu)
        value = cls()(logits, targets)
        found.append((value, *torch.autograd.grad(value, logits)))
    torch.testing.assert_close(found[0], found[1], rtol=1e-6 if dtype == torch.float32 else 1e-11, atol=1e-9)


class Deterministic(TorchDispatchMode):
    """What CUDA refuses when torch has been asked to be deterministic."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        assert not (name == "cumsum" and args[0].is_floating_point()), "the sums would depend on the order"
        assert name not in ("bincount", "histc", "median", "kthvalue", "put_"), f"{name} is not deterministic"
        return func(*args, **(kwargs or {}))


@every_loss
@pytest.mark.parametrize("positives", [40, 700])
@pytest.mark.parametrize("scope", ["batch", "group"])
def test_deterministic_algorithms(cls: type[RankingLoss], positives: int, scope: str, monkeypatch: pytest.MonkeyPatch):
    logits, targets = random_problem(positives, 3000)
    rows = {"group": torch.arange(positives + 3000) % 5} if scope == "group" else {}
    expected = cls(scope=scope)(logits, targets, **rows)
    (exact,) = torch.autograd.grad(expected, logits)
    replace_everywhere(monkeypatch, "on_cpu", False)
    torch.use_deterministic_algorithms(True)
    try:
        with Deterministic():
            value = cls(scope=scope)(logits, targets, **rows)
            (gradient,) = torch.autograd.grad(value, logits)
    finally:
        torch.use_deterministic_algorithms(False)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, exact, rtol=1e-9, atol=1e-12)


class NoFloat64(TorchDispatchMode):
    """A device without it, such as MPS."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            assert not (isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float64), f"{func} makes float64"
        return result


@every_loss
@pytest.mark.parametrize("positives", [40, 600])
def test_devices_without_float64(cls: type[RankingLoss], positives: int, monkeypatch: pytest.MonkeyPatch):
    logits, targets = random_problem(positives, 5000, dtype=torch.float32)
    expected = cls()(logits, targets)
    (exact,) = torch.autograd.grad(expected, logits)
    replace_everywhere(monkeypatch, "on_cpu", False)
    replace_everywhere(monkeypatch, "accumulator", torch.float32)
    with NoFloat64():
        value = cls()(logits, targets)
        (gradient,) = torch.autograd.grad(value, logits)
        if cls is ALRPLoss:
            cls()(logits, targets, torch.ones(positives))
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=0)
    torch.testing.assert_close(gradient, exact, rtol=1e-3, atol=float(exact.abs().max()) * 1e-5)


@every_loss
@pytest.mark.parametrize("positives", [10, 1000])
def test_the_host_never_waits_for_a_list_of_positives(cls: type[RankingLoss], positives: int):
    """On the meta device there are no values to wait for: whatever asks for one fails."""
    logits = torch.zeros(5000, 8, device="meta", requires_grad=True)
    index = torch.zeros(positives, dtype=torch.long, device="meta")
    ignored = torch.zeros(5000, dtype=torch.bool, device="meta")
    ranked = cls().ranked_at(logits, index, index.float(), ignored=ignored)
    sum(ranked.terms.values()).backward()
    assert logits.grad.shape == logits.shape
    assert ranked.rank.shape == (positives,)


def test_nan_on_an_accelerator_is_a_nan_loss(monkeypatch: pytest.MonkeyPatch):
    replace_everywhere(monkeypatch, "on_cpu", False)
    logits = torch.tensor([0.0, math.nan, 1.0])
    terms = RankSortLoss().terms_at(logits, torch.tensor([0]), torch.tensor([0.5]))
    assert all(term.isnan() for term in terms.values())


@every_loss
def test_each_image_by_itself(cls: type[RankingLoss]):
    """Scope "image" is the mean over the images that hold a positive, whatever the order of the rows."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(60, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    targets = torch.zeros(60, 5, dtype=torch.float64)
    targets[::7, 2] = torch.rand(9, generator=generator, dtype=torch.float64)
    targets[5:9] = -1
    image = torch.randint(0, 4, (60,), generator=generator)
    targets[image == 2] = 0
    rows = [image == i for i in (0, 1, 3)]
    expected = sum(cls()(logits[row], targets[row]) for row in rows) / 3
    value = cls(scope="image")(logits, targets, image_index=image)
    torch.testing.assert_close(value, expected, rtol=1e-12, atol=0)
    (got,), (exact,) = torch.autograd.grad(value, logits), torch.autograd.grad(expected, logits)
    torch.testing.assert_close(got, exact, rtol=1e-11, atol=1e-15)

    order = image.argsort(stable=True)
    in_order = cls(scope="image")(logits[order], targets[order], image_index=image[order])
    torch.testing.assert_close(in_order, expected, rtol=1e-12, atol=0)
    index = (targets > 0).view(-1).nonzero().squeeze(1).flip(0)
    listed = cls(scope="image").ranked_at(
        logits, index, targets.view(-1)[index], ignored=(targets < 0).all(1), image_index=image
    )
    torch.testing.assert_close(sum(listed.terms.values()), expected, rtol=1e-12, atol=0)
    for i in (0, 1, 3):
        local = image[index // 5] == i
        alone = cls().ranked_at(
            logits, index[local], targets.view(-1)[index[local]], ignored=(image != i) | (targets < 0).all(1)
        )
        torch.testing.assert_close(listed.rank[local], alone.rank)


def test_image_scope_takes_the_leading_dimensions():
    logits, targets = random_problem(12, 228)
    by_image = RankSortLoss(scope="image")(logits.view(4, 30, 2), targets.view(4, 30, 2), image_index=torch.arange(4))
    by_row = RankSortLoss(scope="image")(
        logits.view(120, 2), targets.view(120, 2), image_index=torch.arange(4).repeat_interleave(30)
    )
    torch.testing.assert_close(by_image, by_row)


@every_loss
def test_copies_and_pickles_are_equal_but_independent(cls: type[RankingLoss]):
    loss = cls(delta=0.7)
    for other in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert repr(other) == repr(loss)
        assert other.number != loss.number


def test_gradients_accumulate_over_calls():
    logits, targets = random_problem(10, 100)
    RankSortLoss()(logits, targets).backward()
    once = logits.grad.clone()
    RankSortLoss()(logits, targets).backward()
    torch.testing.assert_close(logits.grad, 2 * once)


def test_values_and_gradients_under_autocast():
    weight = torch.randn(8, 1, generator=torch.Generator().manual_seed(0), requires_grad=True)
    inputs = torch.randn(100, 8, generator=torch.Generator().manual_seed(1))
    targets = torch.zeros(100, 1)
    targets[::9] = 0.5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = RankSortLoss()(inputs @ weight, targets)
    value.backward()
    assert value.dtype == torch.float32
    assert weight.grad.abs().sum() > 0


@every_loss
@pytest.mark.parametrize("has_float64", [True, False])
def test_autocast_rounds_nothing(cls: type[RankingLoss], has_float64: bool, monkeypatch: pytest.MonkeyPatch):
    """Sums in float32, as on MPS, would be halved by it: products of matrices among them."""
    if not has_float64:
        replace_everywhere(monkeypatch, "accumulator", torch.float32)
    logits, targets = random_problem(40, 500, dtype=torch.float32)
    expected = cls()(logits, targets)
    (exact,) = torch.autograd.grad(expected, logits)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        value = cls()(logits, targets)
        (gradient,) = torch.autograd.grad(value, logits)
    assert torch.equal(value, expected)
    assert torch.equal(gradient, exact)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_subnormal_numbers_may_count_as_zero(dtype: torch.dtype):
    """A negative's target of 0 stays below the least positive number that there is."""
    logits, targets = random_problem(50, 2000)
    logits, targets = logits.detach().to(dtype), targets.to(dtype)
    expected = RankSortLoss()(logits, targets)
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor keeps subnormal numbers")
    try:
        torch.testing.assert_close(RankSortLoss()(logits, targets), expected, rtol=1e-12, atol=0)
    finally:
        torch.set_flush_denormal(False)


def test_torch_func_grad():
    logits, targets = random_problem(10, 100)
    expected = torch.autograd.grad(RankSortLoss()(logits, targets), logits)[0]
    assert torch.equal(torch.func.grad(lambda x: RankSortLoss()(x, targets))(logits.detach()), expected)


@every_loss
def test_a_second_derivative_is_refused(cls: type[RankingLoss]):
    logits, targets = random_problem(10, 100)
    (gradient,) = torch.autograd.grad(cls()(logits, targets), logits, create_graph=True)
    with pytest.raises(RuntimeError, match="a ranking loss has no second derivative"):
        gradient.sum().backward()


def test_a_gradient_penalty_is_refused():
    """Of a model whose weights are part of the gradient, so that something would come out."""
    inputs, weights = torch.randn(50, 4, requires_grad=True), torch.randn(4, requires_grad=True)
    loss = RankSortLoss()(inputs @ weights, torch.arange(50) % 5 == 0)
    (gradient,) = torch.autograd.grad(loss, inputs, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative"):
        (loss + gradient.square().sum()).backward()
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.func.grad(lambda x: torch.func.grad(lambda y: RankSortLoss()(y, x > 0))(x).sum())(torch.randn(9))


@pytest.mark.parametrize(("cls", "epsilon"), [(RankSortLoss, 1e-10), (ALRPLoss, 1e-5), (AveragePrecisionLoss, 0.0)])
def test_errors_are_handed_on_from_an_epsilon_on(cls: type[RankingLoss], epsilon: float):
    """As in the published code; one negative is above the positive by the least of steps."""
    for least in (0.5 * epsilon, 2 * epsilon + 1e-15):
        logits = torch.tensor([0.0, 2 * least - 1], dtype=torch.float64, requires_grad=True)
        loss = cls(delta=1)(logits, torch.tensor([0.5, 0.0]))
        (gradient,) = torch.autograd.grad(loss, logits)
        assert bool((gradient != 0).all()) == (least > epsilon)


def test_a_positive_of_quality_0_stays_one():
    logits, targets = torch.tensor([1.0, 0.0, -1.0], requires_grad=True), torch.tensor([0.0, 0.0, 0.5])
    mask = torch.tensor([False, True, True])
    terms = RankSortLoss(delta=0).terms(logits, targets, positives=mask)
    assert terms["ranking"].item() == pytest.approx((1 / 2 + 1 / 3) / 2)
    assert terms["sorting"].item() == pytest.approx((0 + (1 + 0.5) / 2 - 0.5) / 2)


def test_a_positive_named_outright_has_no_quality_below_0():
    logits, mask = torch.tensor([1.0, 0.0, -1.0]), torch.tensor([False, True, True])
    named = RankSortLoss().terms(logits, torch.tensor([0.0, -1.0, 0.5]), positives=mask)
    assert named == RankSortLoss().terms(logits, torch.tensor([0.0, 0.0, 0.5]), positives=mask)


def test_integer_targets_are_labels():
    logits = torch.tensor([1.0, 0.0, -1.0])
    assert RankSortLoss()(logits, torch.tensor([0, 1, -1])) == RankSortLoss()(logits, torch.tensor([0.0, 1.0, -1.0]))


def test_localisation_is_at_least_float32_whatever_the_errors_are():
    logits, targets = torch.tensor([2.0, 1.0, 0.0, -1.0]), torch.tensor([0.0, 0.7, 0.0, 0.4])
    for dtype in (torch.int64, torch.float16, torch.bfloat16, torch.float32):
        _, localisation = alrp_loss(logits, targets, torch.tensor([1, 0], dtype=dtype))
        assert localisation.dtype == torch.float32
        torch.testing.assert_close(localisation, torch.tensor(0.375))  # (1/2 + 1/4) / 2


def test_alrp_takes_its_errors_from_the_quality_or_as_given():
    logits, targets = random_problem(10, 100)
    errors = (1 - targets[targets > 0]) / (1 - 0.7)
    loss = ALRPLoss(tau=0.7)
    given, (of_given,) = loss(logits, targets, errors), torch.autograd.grad(loss(logits, targets, errors), logits)
    torch.testing.assert_close(given, loss(logits, targets))
    torch.testing.assert_close(of_given, torch.autograd.grad(loss(logits, targets), logits)[0])
    assert alrp_loss(logits, torch.zeros_like(targets), torch.zeros(0))[1] == 0
