"""Dynamic R-CNN: the standard and beta of a plain loop over steps, and state that is saved."""

from __future__ import annotations

import statistics

import pytest
import torch

from rankdet.losses import DynamicSmoothL1Loss, SmoothL1Loss
from rankdet.models import DynamicRCNN, ProposalSelection, RegionSettings, RisingStandard, dynamic_criterion
from rankdet.ops import DeltaCoder
from tests.models.test_every_pair import target


def test_the_rules_equal_a_loop():
    torch.manual_seed(0)
    rule, beta = RisingStandard(interval=4, rank=3, beta_rank=2), torch.tensor(1.0)
    iou, expected_beta, overlaps, offsets = 0.5, 1.0, [], []
    for step in range(1, 13):
        regions = [torch.rand(5), torch.rand(2)]
        targets = torch.randn(0 if step in (2, 9, 10, 11, 12) else 7, 4)
        rule.see_overlaps(regions)
        rule.see_targets(targets, images=2)
        rule.rise(beta)
        ranked = [sorted(of_image.tolist(), reverse=True) for of_image in regions]
        overlaps.append(statistics.mean((ranked[0][2], ranked[1][1])))
        if len(targets):
            offsets.append(sorted((abs(x) + abs(y)) / 2 for x, y, _, _ in targets.tolist())[3])
        if step % 4 == 0:
            iou = max(0.4, statistics.mean(overlaps))
            expected_beta = min(1.0, statistics.median(offsets)) if offsets else expected_beta
            overlaps, offsets = [], []
        assert float(rule.iou) == pytest.approx(iou, abs=1e-6)
        assert float(beta) == pytest.approx(expected_beta, abs=1e-6)


@pytest.mark.parametrize("beta", [1.0, 0.3])
def test_the_loss_is_smooth_l1_of_its_beta(beta: float):
    torch.manual_seed(0)
    loss = DynamicSmoothL1Loss(weight=2.0)
    loss.beta.fill_(beta)
    priors = torch.rand(20, 4) + torch.tensor([0.0, 0, 2, 2])
    deltas, targets = torch.randn(20, 4), priors + 0.3 * torch.rand(20, 4)
    expected = SmoothL1Loss(beta=beta, weight=2.0)(deltas, priors, targets, DeltaCoder())
    torch.testing.assert_close(loss(deltas, priors, targets, DeltaCoder()), expected)


def test_the_stage_goes_by_its_standard_which_is_saved():
    torch.manual_seed(0)
    settings = RegionSettings(proposals=ProposalSelection(keep=30))
    small = {"num_classes": 3, "backbone": "test_resnet", "channels": 16, "settings": settings}
    model = DynamicRCNN(**small, criterion=dynamic_criterion())
    stage = model.roi.box_stages[0]
    stage.standard = RisingStandard(interval=2, rank=10)
    for _ in range(2):
        model([torch.rand(3, 96, 96)], [target(4, 96)])
    assert float(stage.standard.iou) != 0.5
    assert int(stage.standard.steps) == 2
    rise, betas = stage.standard.rise, []
    stage.standard.rise = lambda beta: (betas.append(beta), rise(beta))
    model([torch.rand(3, 96, 96)], [target(4, 96)])
    assert betas[0] is stage.criterion.box_loss.beta
    stage.criterion.box_loss.beta.fill_(0.25)
    stage.standard.iou.fill_(0.0)
    _, assignment, _ = stage.assign([torch.tensor([[0.0, 0, 96, 96]])], _truth())
    assert len(assignment.positive_index) == 2
    stage.standard.iou.fill_(0.99)
    _, assignment, _ = stage.assign([torch.tensor([[0.0, 0, 96, 96]])], _truth())
    assert len(assignment.positive_index) == 1
    again = DynamicRCNN(**small, criterion=dynamic_criterion())
    again.roi.box_stages[0].standard = RisingStandard(interval=2, rank=10)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again.roi.box_stages[0].standard.iou, stage.standard.iou)
    assert torch.equal(again.criterion.box_loss.beta, stage.criterion.box_loss.beta)


def _truth():
    from rankdet.assign import GroundTruth

    return GroundTruth((torch.tensor([[10.0, 10, 60, 60]]),), (torch.tensor([1]),), (torch.zeros(0, 4),))
