"""GHM against a program in loops: values of several steps, state, what is left out."""

from __future__ import annotations

import copy

import pytest
import torch

from rankdet.criteria import BoxesPerPositive, RankingCriterion, ScoreCriterion
from rankdet.losses import GHMClassificationLoss, GHMRegressionLoss
from rankdet.ops import DeltaCoder
from tests.criteria.test_criteria import INDEX, LABELS, a_stage
from tests.reference.gradient_harmonising import Harmonised, of_boxes, of_classes

LOGITS = torch.tensor([[2.0, -1, 0], [-3, 0.5, -4]])


def ghm() -> ScoreCriterion:
    return ScoreCriterion(
        classification=GHMClassificationLoss(), box_loss=GHMRegressionLoss(), normaliser=BoxesPerPositive()
    )


def test_two_steps_of_classification():
    loss, labels = GHMClassificationLoss(bins=10), torch.tensor([0, -1])
    values = [float(loss(LOGITS, labels, torch.ones(1), torch.ones(2).bool())) for _ in range(2)]
    assert values == pytest.approx([1.712626, 0.978644], abs=1e-6)
    first = torch.tensor([0.5, 0.25, 0.25, 0, 0, 0.25, 0.25, 0, 0, 0])
    torch.testing.assert_close(loss.histogram.acc_sum, first * 1.75)


def test_boxes():
    loss, prior = GHMRegressionLoss(weight=1.0), torch.tensor([[0.0, 0, 10, 10]])
    value = loss(torch.tensor([[0.0, 0.01, 0.1, 1]]), prior, prior, DeltaCoder())
    assert value.tolist() == pytest.approx([0.592723], abs=1e-6)
    torch.testing.assert_close(loss.histogram.acc_sum, torch.tensor([0.3, 0, 0, 0, 0.3, 0, 0, 0, 0, 0.6]))


def test_a_criterion_of_several_steps_equals_the_loops():
    """Classes and boxes, with an ignored prior, over three steps of other outputs."""
    criterion = ghm()
    classes, boxes = Harmonised(bins=30, momentum=0.75), Harmonised(bins=10, momentum=0.7)
    predictions, assignment = a_stage()
    encoded = predictions.coder.encode(predictions.priors.gather(INDEX), assignment.matched_boxes)
    for step in range(3):
        scale = 1 + step
        moved = copy.copy(predictions)
        object.__setattr__(moved, "logits", predictions.logits * scale)
        losses = criterion(moved, assignment).losses
        expected = classes(of_classes((predictions.logits * scale).tolist(), LABELS.tolist()))
        assert float(losses["classification"].detach()) == pytest.approx(expected, rel=1e-5)
        expected = 10 * boxes(of_boxes((predictions.deltas[INDEX] - encoded).tolist(), mu=0.02))
        assert float(losses["box"].detach()) == pytest.approx(expected, rel=1e-5)


def test_left_out_entries_are_not_counted():
    considered = torch.tensor([[True, False, True], [True, True, True]])
    whole, part = GHMClassificationLoss(bins=10), GHMClassificationLoss(bins=10)
    labels, quality = torch.tensor([0, -1]), torch.ones(1)
    whole(LOGITS, labels, quality, torch.ones(2).bool())
    part(LOGITS, labels, quality, considered)
    assert int(whole.histogram.acc_sum.sum() / 0.25) == 6
    assert int(part.histogram.acc_sum.sum() / 0.25) == 5


def test_counts_travel_with_the_state_and_stand_still_in_evaluation():
    loss, labels = GHMClassificationLoss(bins=10), torch.tensor([0, -1])
    arguments = (LOGITS, labels, torch.ones(1), torch.ones(2).bool())
    loss(*arguments)
    again = GHMClassificationLoss(bins=10)
    again.load_state_dict(loss.state_dict())
    assert torch.equal(again(*arguments), loss(*arguments))
    before = loss.eval().histogram.acc_sum.clone()
    loss(*arguments)
    assert torch.equal(loss.histogram.acc_sum, before)


def test_nothing_is_nothing():
    loss = GHMClassificationLoss()
    logits = LOGITS.clone().requires_grad_()
    value = loss(logits, torch.tensor([-2, -2]), torch.ones(0), torch.zeros(2).bool())
    value.backward()
    assert float(value.detach()) == 0
    assert not logits.grad.any()
    assert GHMRegressionLoss()(*[torch.zeros(0, 4)] * 3, DeltaCoder()).shape == (0,)


def test_it_ranks_beside_a_ranking():
    """The value balance scales it, so that its factor is no matter."""
    one, ten = (RankingCriterion(box_loss=GHMRegressionLoss(weight=weight)) for weight in (1.0, 10.0))
    losses, same = one(*a_stage()).losses, ten(*a_stage()).losses
    torch.testing.assert_close(losses["box"], same["box"])


def test_a_loss_and_its_criterion_count_over_the_same_devices():
    with pytest.raises(ValueError, match="set both alike"):
        ScoreCriterion(classification=GHMClassificationLoss(), gather_across_devices=True)
    with pytest.raises(ValueError, match="set both alike"):
        RankingCriterion(box_loss=GHMRegressionLoss(gather_across_devices=True))


@pytest.mark.parametrize("arguments", [{"bins": 0}, {"momentum": 1.0}])
def test_wrong_choices_are_explained(arguments):
    with pytest.raises(ValueError, match="bins must be at least 1"):
        GHMClassificationLoss(**arguments)
    with pytest.raises(ValueError, match="mu must be above 0"):
        GHMRegressionLoss(mu=0)
