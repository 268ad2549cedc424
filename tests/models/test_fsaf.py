"""FSAF alone and beside RetinaNet: what objects cost, what is shared, what is detected."""

from __future__ import annotations

import torch

from rankdet.assign import GroundTruth
from rankdet.criteria import RankingCriterion
from rankdet.models import FSAF, FSAFRetinaNet, RetinaNet, fsaf_criterion
from rankdet.ops import aligned_iou
from tests.models.test_every_pair import SMALL, target


def images() -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.rand(3, 96, 96), torch.rand(3, 96, 96)]


def stage_of(model, targets):
    truth = GroundTruth.from_targets(targets, num_classes=3, device=torch.device("cpu"))
    batch = model.preprocess(images())
    return model.stage.predict(model.neck(model.backbone(batch.pixels)[-3:]), batch), truth


def test_objects_keep_the_level_that_costs_least():
    torch.manual_seed(2)
    for criterion in (fsaf_criterion(), RankingCriterion()):
        model = FSAF(**SMALL, criterion=criterion)
        predictions, truth = stage_of(model, [target(5, 96), target(4, 96)])
        candidates = model.stage.assigner(predictions.priors, truth)
        final = model.stage.assign(predictions, truth)
        assert 0 < len(final.positive_index) < len(candidates.positive_index)
        cost, level = criterion.cost(predictions, candidates), predictions.priors.levels_of(candidates.positive_index)
        for number in candidates.matched_index.unique():
            own = candidates.matched_index == number
            means = {at: float(cost[own & (level == at)].mean()) for at in level[own].unique().tolist()}
            kept = predictions.priors.levels_of(final.positive_index[final.matched_index == number]).unique()
            assert kept.tolist() == [min(means, key=means.get)]


def test_cost_is_focal_loss_and_log_iou_without_ignored_classes():
    torch.manual_seed(2)
    model = FSAF(**SMALL, criterion=fsaf_criterion())
    predictions, truth = stage_of(model, [target(12, 96), target(9, 96)])
    candidates = model.stage.assigner(predictions.priors, truth)
    pairs = {(prior, label) for prior, label in candidates.ignored_pairs.tolist()}
    cost = model.criterion.cost(predictions, candidates)
    beside = 0
    for place, row in enumerate(candidates.positive_index.tolist()):
        label, focal = int(candidates.labels[row]), 0.0
        for column, logit in enumerate(predictions.logits[row].double().tolist()):
            score = 1 / (1 + 2.718281828459045**-logit)
            if column == label:
                focal -= 0.25 * (1 - score) ** 2 * torch.tensor(score).log().item()
            elif (row, column) not in pairs:
                focal -= 0.75 * score**2 * torch.tensor(1 - score).log().item()
            else:
                beside += 1
        box = predictions.coder.decode(predictions.priors.gather(torch.tensor([row])), predictions.deltas[row][None])
        iou = aligned_iou(box, candidates.matched_boxes[place][None]).clamp(min=1e-6)
        torch.testing.assert_close(cost[place], focal - iou.log()[0].detach(), rtol=1e-4, atol=1e-4)
    assert beside, "some other class was ignored"


def test_boxes_start_at_one_stride_to_each_side():
    model = FSAF(**SMALL)
    torch.nn.init.zeros_(model.stage.head.regress.weight)
    predictions, _ = stage_of(model, [target(1, 96), target(1, 96)])
    boxes = predictions.coder.decode(predictions.priors.boxes[0], predictions.deltas[: len(predictions.priors) // 2])
    sides = boxes[:, 2] - boxes[:, 0]
    assert sides.unique().tolist() == [16, 32, 64, 128, 256]


def test_both_branches_share_towers_and_suppression():
    torch.manual_seed(0)
    model = FSAFRetinaNet(**SMALL)
    names = {name.split(".")[2] for name, _ in model.named_parameters() if name.startswith("free_stage")}
    assert names == {"classify", "regress"}
    assert model.free_stage.criterion.loss_weight == 0.5
    plain = {name for name, _ in RetinaNet(**SMALL).named_parameters()}
    assert plain < {name for name, _ in model.named_parameters()}
    batch = model.eval().preprocess(images())
    maps = model.neck(model.backbone(batch.pixels)[-3:])
    with torch.no_grad():
        both = model.candidates(maps, batch)
        anchors = model.stage.candidates(model.stage.predict(maps, batch), per_level=1000)
        own = sum(level.boxes.shape[1] for level in anchors)
    assert own < both.boxes.shape[1]
    assert len(model.class_layers) == 2
