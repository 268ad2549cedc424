"""What the tables of the ranking papers vary: worked numbers of aLRP, rank weights, balances, published choices."""

from __future__ import annotations

import copy
import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from rankdet.assign import Assignment
from rankdet.criteria import (
    BoxIoU,
    ConstantBalance,
    EpochBalance,
    GeometricMean,
    MagnitudeBalance,
    NormalisedGIoU,
    Positives,
    Predictions,
    RankingCriterion,
    RankWeight,
    Reduction,
    ScoreCriterion,
    Task,
    Uniform,
    WeightedMean,
    WeightedSum,
    alrp_criterion,
    average_precision_criterion,
    ndcg_criterion,
)
from rankdet.losses import ALRPLoss, FocalLoss, NDCGLoss, RankSortLoss
from rankdet.losses.boxes import IoULoss, SmoothL1Loss
from rankdet.ops import DeltaCoder, Priors, aligned_giou
from tests.criteria.test_criteria import INDEX, K, a_stage, without_positives
from tests.losses.problems import WORKED
from tests.reference import ranking as reference


def target_with_giou(giou: float) -> list[float]:
    """A box whose GIoU with the unit box is the given one: a part of it, or a unit box at a distance."""
    if giou >= 0:
        return [0.0, 0.0, giou, 1.0]
    gap = -2 * giou / (1 + giou)
    return [1 + gap, 0.0, 2 + gap, 1.0]


def worked_stage(name: str) -> tuple[Predictions, Assignment, dict]:
    """A worked example of the losses as a stage of one class, with boxes that have its localisation errors."""
    example = WORKED[name]
    logits = torch.tensor(example["logits"], dtype=torch.float64)[:, None].requires_grad_()
    index = torch.tensor(example["positives"])
    labels = torch.tensor([0 if y > 0 else -1 if y == 0 else -2 for y in example["labels"]])
    targets = torch.tensor([target_with_giou(1 - error) for error in example["e_loc"]], dtype=torch.float64)
    boxes = torch.tensor([[0.0, 0, 1, 1]], dtype=torch.float64).repeat(len(logits), 1)
    deltas = torch.zeros(len(logits), 4, dtype=torch.float64, requires_grad=True)
    predictions = Predictions(logits, deltas, logits[:, :0], Priors.proposals([boxes]), DeltaCoder())
    return predictions, Assignment.of_positives(labels, index, torch.arange(len(index)), targets), example


@pytest.mark.parametrize("name", ["E2_dense", "E3_ties", "E4_separated", "E5_eps", "E6_single_pos"])
def test_worked_examples_of_alrp(name: str):
    predictions, assignment, example = worked_stage(name)
    for delta, expected in example["delta"].items():
        criterion = alrp_criterion()
        criterion.ranking = ALRPLoss(delta=float(delta))
        criterion.balance = ConstantBalance()
        output = criterion(predictions, assignment)
        losses, worked = output.losses, expected["alrp"]
        assert float(losses["ranking"].detach()) == pytest.approx(worked["loss_cls"], abs=1e-9)
        assert float(losses["box"].detach()) == pytest.approx(worked["loss_loc"], abs=1e-6)
        assert output.weights.tolist() == pytest.approx(worked["loc_weight_per_positive"], abs=1e-9)
        (gradient,) = torch.autograd.grad(losses["ranking"], predictions.logits)
        assert gradient[:, 0].tolist() == pytest.approx(worked["grad_cls"], abs=1e-6)


def test_localisation_error_of_an_rpn():
    """GIoU of 0.538473: an error of 0.769211 at tau 0.7, of which the first epoch takes 50 times, a fifth of that."""
    box = torch.tensor([[0.0, 0, 1, 1]])
    predictions = Predictions(
        torch.zeros(1, 1), torch.zeros(1, 4), torch.zeros(1, 0), Priors.proposals([box]), DeltaCoder()
    )
    target = torch.tensor([target_with_giou(0.538473139646)])
    assignment = Assignment.of_positives(torch.zeros(1).long(), torch.tensor([0]), torch.tensor([0]), target)
    losses = alrp_criterion(tau=0.7, loss_weight=0.2)(predictions, assignment).losses
    assert float(losses["box"]) == pytest.approx(0.2 * 50 * 0.769211433924, rel=1e-6)
    assert float(losses["ranking"]) == 0


PUBLISHED_RPN = {
    # the criterion, its step, and by what its program weights classification and boxes
    "aLRP paper": (alrp_criterion(delta=0.2, tau=0.7, box_weight=1 / 3), (0.2, 1.0, 0.2 / 0.6)),
    "RS paper": (alrp_criterion(tau=0.7, box_weight=1.0, loss_weight=0.2), (1.0, 0.2, 0.2)),
}


@pytest.mark.parametrize("name", PUBLISHED_RPN)
def test_alrp_of_region_proposals_as_each_program_did(name: str):
    """Eleven steps, an epoch of three, beside the published way written out: losses enter the history weighted."""
    criterion, (delta, of_classes, of_boxes) = PUBLISHED_RPN[name]
    criterion = copy.deepcopy(criterion)
    criterion.balance = EpochBalance(steps=3)
    history, balance = [], 50.0
    for step in range(11):
        predictions, assignment = a_stage()
        with torch.no_grad():
            predictions.logits.add_(torch.randn(7, K, generator=torch.Generator().manual_seed(step)))
        giou = 2 * NormalisedGIoU()(Positives.of(predictions, assignment)) - 1
        errors = ((1 - giou) / 0.6).tolist()
        logits, labels = as_lists(predictions, assignment)
        places = (assignment.positive_index * K + assignment.labels[assignment.positive_index]).tolist()
        value, gradient = reference.alrp(logits, labels, delta=delta, errors=errors)["ranking"]
        weights = reference.alrp_localisation_weights(logits, labels, delta=delta)
        assert places == sorted(places)
        box = of_boxes * sum(w * (1 - g) for w, g in zip(weights, giou.tolist(), strict=True))
        history.append((of_classes * value, box))
        if len(history) == 3:
            classes, boxes = (sum(parts) for parts in zip(*history, strict=True))
            balance, history = (classes + boxes) / boxes, []
        losses = criterion(predictions, assignment).losses
        assert float(losses["ranking"].detach()) == pytest.approx(of_classes * value, rel=1e-5)
        assert float(losses["box"].detach()) == pytest.approx(balance * box, rel=1e-5)
        (got,) = torch.autograd.grad(losses["ranking"], predictions.logits)
        expected = of_classes * torch.tensor(gradient).view_as(got)
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)


def test_alrp_with_iou_of_the_ablation():
    """Table 2 of the aLRP paper: E = (1 - IoU) / (1 - tau), as quality and as box loss."""
    predictions, assignment = a_stage()
    criterion = RankingCriterion(
        ranking=ALRPLoss(),
        quality=BoxIoU(),
        box_loss=IoULoss(weight=2.0),
        weighting=RankWeight(),
        reduction=WeightedSum(),
    )
    output = criterion(predictions, assignment)
    error = 2 * (1 - BoxIoU()(Positives.of(predictions, assignment)))
    criterion.balance = ConstantBalance()
    box = criterion(predictions, assignment).losses["box"]
    torch.testing.assert_close(box.detach(), (error * output.weights).sum())


def test_average_precision_as_published():
    predictions, assignment = a_stage()
    losses = average_precision_criterion(beta=0.11)(predictions, assignment).losses
    every = SmoothL1Loss(beta=0.11)(
        predictions.deltas[INDEX], predictions.priors.gather(INDEX), assignment.matched_boxes, predictions.coder
    )
    torch.testing.assert_close(losses["box"], every.sum() / 12)  # mean over the four deltas of three positives
    expected = reference.average_precision(*as_lists(predictions, assignment), delta=1.0)["ranking"][0]
    assert float(losses["ranking"].detach()) == pytest.approx(expected, rel=1e-5)


def test_ndcg_equals_its_loop():
    predictions, assignment = a_stage()
    losses = ndcg_criterion()(predictions, assignment).losses
    expected = reference.ndcg(*as_lists(predictions, assignment), delta=1.0)["ranking"][0]
    assert float(losses["ranking"].detach()) == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(losses["box"], losses["ranking"])


def as_lists(predictions: Predictions, assignment: Assignment) -> tuple[list[float], list[float]]:
    """Logits and binary targets of all (prior, class) pairs."""
    targets = torch.zeros_like(predictions.logits)
    targets[assignment.labels == -2] = -1
    targets[assignment.positive_index, assignment.labels[assignment.positive_index]] = 1
    return predictions.logits.detach().flatten().tolist(), targets.flatten().tolist()


@settings(max_examples=30)
@given(seed=st.integers(0, 100_000), delta_loc=st.sampled_from([0.0, 0.5, 1.5]), delta=st.sampled_from([0.0, 0.5]))
def test_rank_weights_equal_the_loop(seed: int, delta_loc: float, delta: float):
    generator = torch.Generator().manual_seed(seed)
    predictions, assignment = a_stage()
    logits = torch.randint(-6, 7, (7, 3), generator=generator) / 4  # with ties
    predictions = Predictions(logits, predictions.deltas, logits[:, :0], predictions.priors, predictions.coder)
    weighting = RankWeight(delta_loc=delta_loc)
    ranking = RankSortLoss(delta=delta)
    weights = RankingCriterion(ranking=ranking, weighting=weighting)(predictions, assignment).weights
    own = logits[INDEX, assignment.labels[INDEX]].tolist()
    others = [
        x for row, label in zip(logits.tolist(), assignment.labels.tolist(), strict=True) if label != -2 for x in row
    ]
    rank = [sum(float(reference.step(x - s, delta)) for x in others) for s in own]
    expected = [
        sum(float(reference.step(k - i, delta_loc)) / r for i, r in zip(own, rank, strict=True)) / 3 for k in own
    ]
    assert weights.tolist() == pytest.approx(expected, rel=1e-5)


def test_a_wide_step_levels_the_weights():
    """The larger delta_loc, the less do logits matter (Rank & Sort paper, appendix B.2)."""
    spreads = []
    for delta_loc in (0.0, 1.0, 100.0):
        weights = RankingCriterion(weighting=RankWeight(delta_loc=delta_loc))(*a_stage()).weights
        spreads.append(float(weights.max() / weights.min()))
    assert spreads == sorted(spreads, reverse=True)
    assert spreads[-1] == pytest.approx(1, abs=0.05)


def test_measures_that_need_ranks_are_refused_where_nothing_is_ranked():
    with pytest.raises(ValueError, match=r"quality is RankWeight\(delta_loc=0.0\)"):
        RankingCriterion(quality=RankWeight())
    with pytest.raises(ValueError, match="weighting is RankWeight"):
        ScoreCriterion(weighting=RankWeight())
    with pytest.raises(ValueError, match="judged is RankWeight"):
        ScoreCriterion(judged=RankWeight())
    with pytest.raises(TypeError, match="RankWeight needs positives"):
        RankWeight()(Positives.of(*a_stage()))
    with pytest.raises(ValueError, match="delta_loc"):
        RankWeight(delta_loc=-1.0)


def test_normalised_giou():
    predictions, assignment = a_stage()
    positives = Positives.of(predictions, assignment)
    quality = NormalisedGIoU()(positives)
    torch.testing.assert_close(2 * quality - 1, aligned_giou(positives.boxes, positives.targets))
    assert ((quality >= 0) & (quality <= 1)).all()


def test_magnitude_balance_makes_the_gradients_equally_large():
    predictions, assignment = a_stage()
    losses = RankingCriterion(balance=MagnitudeBalance())(predictions, assignment).losses
    ranking = losses["ranking"] + losses["sorting"]
    (of_logits,) = torch.autograd.grad(ranking, predictions.logits, retain_graph=True)
    (of_deltas,) = torch.autograd.grad(losses["box"], predictions.deltas, retain_graph=True)
    torch.testing.assert_close(of_deltas.abs().sum(), of_logits.abs().sum())
    sum(losses.values()).backward()  # the graph is still there


def test_magnitude_balance_without_a_graph_or_a_gradient_leaves_the_loss_alone():
    with torch.no_grad():
        losses = RankingCriterion(balance=MagnitudeBalance())(*a_stage()).losses
    assert float(losses["box"]) > 0
    outputs = torch.zeros(2, requires_grad=True)
    balanced = MagnitudeBalance().between(Task(0 * outputs.sum(), outputs), Task(outputs.sum(), outputs))
    assert float(balanced.detach()) == 0
    with pytest.raises(TypeError, match="ValueBalance"):
        MagnitudeBalance()(torch.ones(()), torch.ones(()))


def test_epoch_balance_goes_by_the_epoch_before():
    stage = a_stage()
    criterion = alrp_criterion()
    first = [criterion(*stage).losses for _ in range(2)]
    unbalanced = float(first[0]["box"].detach()) / 50
    for module in criterion.modules():
        if hasattr(module, "end_epoch"):
            module.end_epoch()
    second = criterion(*stage).losses
    ranking = float(first[0]["ranking"].detach())
    assert float(second["box"].detach()) == pytest.approx(ranking + unbalanced, rel=1e-5)


def test_the_state_of_a_balance_is_saved():
    criterion, again = alrp_criterion(), alrp_criterion()
    criterion(*a_stage())
    again.load_state_dict(criterion.state_dict())
    for balanced in (criterion, again):
        assert isinstance(balanced.balance, EpochBalance)
        balanced.balance.rule.end_epoch()
    torch.testing.assert_close(again(*a_stage()).losses["box"], criterion(*a_stage()).losses["box"])


@pytest.mark.parametrize("make", [alrp_criterion, average_precision_criterion, ndcg_criterion])
@pytest.mark.parametrize("balance", [MagnitudeBalance, EpochBalance, ConstantBalance])
@pytest.mark.parametrize("reduction", [WeightedMean, WeightedSum])
def test_every_choice_without_positives_is_zero(make, balance, reduction):
    criterion = make()
    criterion.balance, criterion.reduction = balance(), reduction()
    predictions, assignment = a_stage()
    output = criterion(predictions, without_positives(assignment))
    assert {name: float(value.detach()) for name, value in output.losses.items()} == {"ranking": 0, "box": 0}
    sum(output.losses.values()).backward()
    assert (predictions.logits.grad == 0).all()
    assert (predictions.deltas.grad == 0).all()
    assert all(float(value) == 0 for value in output.logs.values())


def test_reductions():
    losses, weights = torch.tensor([1.0, 4.0]), torch.tensor([0.5, 0.25])
    assert isinstance(WeightedMean(), Reduction)
    assert float(WeightedMean()(losses, weights)) == 2.0
    assert float(WeightedSum()(losses, weights)) == 1.5


def correlation(logits: list[float], shrinking: list[float]) -> float:
    """What the log says of positives of one class with these logits, and predicted boxes cut to these shares."""
    boxes = torch.tensor([[0.0, 0, 8 * share, 8] for share in shrinking])
    count = len(logits)
    predictions = Predictions(
        torch.tensor(logits)[:, None],
        torch.zeros(count, 4),
        torch.zeros(count, 0),
        Priors.proposals([boxes]),
        DeltaCoder(),
    )
    index = torch.arange(count)
    assignment = Assignment.of_positives(
        torch.zeros(count).long(), index, index, torch.tensor([[0.0, 0, 8, 8]]).repeat(count, 1)
    )
    return float(RankingCriterion(quality=Uniform(), ranking=NDCGLoss())(predictions, assignment).logs["correlation"])


def test_spearman_is_logged():
    assert correlation([0.0, 1.0, 5.0], [0.2, 0.3, 0.9]) == pytest.approx(1)
    assert correlation([5.0, 1.0, 0.0], [0.2, 0.3, 0.9]) == pytest.approx(-1)
    assert correlation([1.0, 0.0, 5.0], [0.2, 0.3, 0.9]) == pytest.approx(0.5)
    assert correlation([1.0], [0.5]) == 0


def test_a_balance_sees_both_tasks_with_their_outputs():
    seen: list[tuple[Tensor, Tensor]] = []

    class Twice(ConstantBalance):
        def between(self, task: Task, classification: Task) -> Tensor:
            seen.append((task.outputs, classification.outputs))
            return 2 * task.loss

    predictions, assignment = a_stage()
    RankingCriterion(balance=Twice())(predictions, assignment)
    assert seen[0][0] is predictions.deltas
    assert seen[0][1] is predictions.logits


def test_images_can_be_ranked_by_themselves():
    """The loss over two images is then the mean of the losses of each."""
    predictions, assignment = a_stage()
    halves = Priors.proposals([predictions.priors.boxes[0][:4], predictions.priors.boxes[0][4:]])
    together = dataclasses.replace(predictions, priors=halves)
    criterion = RankingCriterion(ranking=RankSortLoss(scope="image"))
    losses = criterion(together, assignment).losses
    alone = []
    for rows, positives in ((slice(0, 4), slice(0, 2)), (slice(4, 7), slice(2, 3))):
        priors = Priors.proposals([predictions.priors.boxes[0][rows]])
        parts = (predictions.logits[rows], predictions.deltas[rows], predictions.quality_logits[rows])
        index = INDEX[positives] - rows.start
        own = Assignment.of_positives(
            assignment.labels[rows], index, torch.arange(len(index)), assignment.matched_boxes[positives]
        )
        alone.append(criterion(Predictions(*parts, priors, predictions.coder), own).losses)
    for name in ("ranking", "sorting"):
        torch.testing.assert_close(losses[name], (alone[0][name] + alone[1][name]) / 2)


def test_a_quality_branch_beside_a_ranking_is_trained_weighed_and_scored():
    predictions, assignment = a_stage(quality=1)
    plain = RankingCriterion(balance=ConstantBalance())(predictions, assignment).losses
    criterion = RankingCriterion(balance=ConstantBalance(), judged=BoxIoU(), judged_weight=0.5, fusion=GeometricMean())
    losses = criterion(predictions, assignment).losses
    assert {name: losses[name] for name in plain} == plain
    positives = Positives.of(predictions, assignment)
    probability = predictions.quality_logits[INDEX, 0].sigmoid()
    truth = BoxIoU()(positives)
    expected = -(truth * probability.log() + (1 - truth) * (1 - probability).log()).mean() / 2
    torch.testing.assert_close(losses["quality"], expected)
    (gradient,) = torch.autograd.grad(losses["quality"], predictions.quality_logits)
    assert gradient[INDEX].abs().min() > 0
    assert gradient.count_nonzero() == len(INDEX)
    fused = criterion.detection_logits(predictions.logits, predictions.quality_logits).sigmoid()
    product = predictions.logits.sigmoid() * predictions.quality_logits.sigmoid()
    torch.testing.assert_close(fused, product.sqrt())
    empty = criterion(predictions, without_positives(assignment)).losses
    assert float(empty["quality"].detach()) == 0
    assert empty["quality"].requires_grad


def test_nothing_that_looks_at_the_ranking_is_judged():
    with pytest.raises(ValueError, match="judged is RankWeight"):
        RankingCriterion(judged=RankWeight())


@pytest.mark.parametrize("ranking", [RankSortLoss, FocalLoss()])
def test_what_is_no_ranking_loss_is_refused(ranking):
    with pytest.raises(TypeError, match=r"give an object of a RankingLoss, such as RankSortLoss\(\)"):
        RankingCriterion(ranking=ranking)


def test_a_ranking_loss_does_not_classify():
    with pytest.raises(TypeError, match="classification is a RankSortLoss, which ranks; give it to a RankingCriterion"):
        ScoreCriterion(classification=RankSortLoss())
