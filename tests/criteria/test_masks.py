"""Mask criteria: worked Dice values, weights that stay with their region, balance, and the limit on masks."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from rankdet.assign import InstanceTruth
from rankdet.criteria import MaskAssignment, MaskCriterion, MaskPredictions
from rankdet.criteria.criterion import CriterionOutput
from rankdet.criteria.masks import cross_entropy_masks
from rankdet.losses.masks import DiceLoss, MaskCrossEntropyLoss, dice
from rankdet.models import MaskBranch, MaskRCNN, ProposalSelection, RegionSettings, RoIStage, softmax_criterion

K = 3


def a_stage(weights: torch.Tensor, value: float = 1.7) -> CriterionOutput:
    return CriterionOutput({}, torch.tensor(value), weights)


def test_worked_dice():
    logits = torch.tensor([[2.0, -2.0, 1.0, 0.0]])[:, None]
    target = torch.tensor([[1.0, 0, 1, 1]])[:, None]
    assert float(3 * DiceLoss(eps=2e-3)(logits, target)) == pytest.approx(0.231237, abs=1e-5)
    assert float(dice(torch.full((1, 2, 2), 50.0), torch.ones(1, 2, 2))) == pytest.approx(1, abs=1e-5)
    assert float(dice(torch.full((1, 2, 2), -50.0), torch.ones(1, 2, 2))) == pytest.approx(0, abs=1e-6)


def test_cross_entropy_is_that_of_torch():
    logits, targets = torch.randn(3, 4, 4), torch.rand(3, 4, 4).round()
    expected = F.binary_cross_entropy_with_logits(logits, targets)
    torch.testing.assert_close(MaskCrossEntropyLoss()(logits, targets).mean(), expected)


def test_balanced_mask_loss_has_the_value_of_the_ranking_and_the_weights_of_its_rows():
    logits = torch.randn(2, 5, 5, requires_grad=True)
    targets = torch.rand(2, 5, 5).round()
    weights = torch.tensor([0.1, 0.9, 0.4, 0.2])
    rows = torch.tensor([3, 1])
    output = MaskCriterion()(MaskPredictions(logits), MaskAssignment(targets, rows), a_stage(weights))
    assert float(output.losses["mask"].detach()) == pytest.approx(1.7)
    (gradient,) = torch.autograd.grad(output.losses["mask"], logits)
    losses = 1 - dice(logits, targets)
    mean = (losses * weights[rows]).sum() / weights[rows].sum()
    (expected,) = torch.autograd.grad(mean * (1.7 / mean.detach()), logits)
    torch.testing.assert_close(gradient, expected)


def test_plain_mask_loss_is_the_mean():
    logits, targets = torch.randn(3, 4, 4), torch.rand(3, 4, 4).round()
    output = cross_entropy_masks()(
        MaskPredictions(logits), MaskAssignment(targets, torch.arange(3)), a_stage(torch.ones(3))
    )
    torch.testing.assert_close(output.losses["mask"], F.binary_cross_entropy_with_logits(logits, targets))


def test_no_positives():
    logits = torch.zeros(0, 4, 4, requires_grad=True)
    output = MaskCriterion()(
        MaskPredictions(logits), MaskAssignment(torch.zeros(0, 4, 4), torch.zeros(0).long()), a_stage(torch.zeros(0))
    )
    output.losses["mask"].backward()
    assert float(output.losses["mask"].detach()) == 0


def objects(count: int, side: int = 96) -> dict[str, torch.Tensor]:
    corners = torch.rand(count, 2) * 50
    boxes = torch.cat((corners, corners + 20 + torch.rand(count, 2) * 20), 1)
    masks = torch.zeros(count, side, side, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = True
    return {"boxes": boxes, "labels": torch.arange(count) % K, "masks": masks}


def a_model(**arguments) -> MaskRCNN:
    return MaskRCNN(
        num_classes=K,
        backbone="test_resnet",
        channels=16,
        settings=RegionSettings(proposals=ProposalSelection(keep=40)),
        **arguments,
    )


def test_mask_loss_of_a_detector_equals_rank_and_sort():
    torch.manual_seed(0)
    losses = a_model()([torch.rand(3, 96, 96)], [objects(4)])
    torch.testing.assert_close(losses["roi_mask"], losses["roi_ranking"] + losses["roi_sorting"])
    torch.testing.assert_close(losses["roi_box"], losses["roi_mask"])


def test_the_limit_draws_a_subset_whose_masks_keep_their_weights(monkeypatch):
    """Pair every drawn mask with a weight that names its region, and compare."""
    torch.manual_seed(0)
    model = a_model(stage=partial(RoIStage, branches=[partial(MaskBranch, limit=5)]))
    stage = model.roi.box_stages[0].branches[0]
    seen = {}

    def watch(predictions, assignment, output):
        seen.update(count=len(predictions.logits), rows=assignment.rows, weights=output.weights)
        return MaskCriterion.forward(stage.criterion, predictions, assignment, output)

    monkeypatch.setattr(stage.criterion, "forward", watch)
    model([torch.rand(3, 96, 96)] * 2, [objects(4), objects(3)])
    assert seen["count"] == 5
    assert len(seen["rows"].unique()) == 5
    assert (seen["rows"].diff() > 0).all()
    assert len(seen["weights"]) > 5


def test_targets_belong_to_their_own_image():
    """The masks of one image are empty: only its positives have empty targets."""
    torch.manual_seed(1)
    model = a_model(criterion=softmax_criterion())
    first, second = objects(3), objects(2)
    second["masks"].zero_()
    stage = model.roi.box_stages[0].branches[0]
    targets = {}

    def watch(predictions, assignment, output):
        targets["sums"] = assignment.targets.flatten(1).sum(1)
        return MaskCriterion.forward(stage.criterion, predictions, assignment, output)

    stage.criterion.forward = watch
    stage_loss = stage.loss

    def loss(maps, done, truth, *, peers):
        index = done.assignment.positive_index
        targets["image"] = done.predictions.priors.image_index[index]
        return stage_loss(maps, done, truth, peers=peers)

    stage.loss = loss
    model([torch.rand(3, 96, 96)] * 2, [first, second])
    assert (targets["sums"][targets["image"] == 1] == 0).all()
    assert (targets["sums"][targets["image"] == 0] > 0).all()


def test_crowd_masks_go_with_their_boxes():
    target = objects(3)
    target["iscrowd"] = torch.tensor([False, True, False])
    truth = InstanceTruth.from_targets([target], num_classes=K, device=torch.device("cpu"))
    assert torch.equal(truth.masks[0], target["masks"][[0, 2]])


@pytest.mark.parametrize("masks", [None, torch.zeros(2, 96, 96)])
def test_missing_masks_are_explained(masks):
    target = {**objects(3), "image_id": 9}
    del target["masks"]
    if masks is not None:
        target["masks"] = masks
    with pytest.raises(ValueError, match=r"image 9(: masks must be| has no masks) \(G, H, W\)"):
        a_model()([torch.rand(3, 96, 96)], [target])
