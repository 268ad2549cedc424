"""Hybrid Task Cascade: information flow, interleaving, the semantic branch and what regions see of it."""

from __future__ import annotations

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torchvision.ops import roi_align

from rankdet.criteria import CellCriterion
from rankdet.models import (
    HybridTaskCascade,
    InterleavedCascade,
    ProposalSelection,
    RegionSettings,
    SemanticBranch,
    smooth_softmax_criterion,
)
from rankdet.models.region.mask_branch import Regions
from rankdet.nn import ContextPooler, MapsWithContext, SemanticHead
from rankdet.ops.boxes import pairwise_iou
from tests.models.test_every_pair import target


@pytest.fixture(scope="module")
def model() -> HybridTaskCascade:
    torch.manual_seed(0)
    return HybridTaskCascade(
        num_classes=3,
        backbone="test_resnet",
        channels=16,
        criterion=smooth_softmax_criterion(),
        settings=RegionSettings(proposals=ProposalSelection(keep=30)),
        semantic_branch=SemanticBranch(head=partial(SemanticHead, num_classes=5, stacked=1)),
    )


def semantic_target(count: int, side: int) -> dict[str, torch.Tensor]:
    return {**target(count, side), "semantic": torch.randint(0, 6, (1, side, side), dtype=torch.uint8)}


def test_heads_pass_their_features_on(model):
    branches = [stage.branches[0] for stage in model.roi.box_stages]
    maps = [torch.randn(1, 16, 96 // stride, 96 // stride) for stride in (4, 8, 16, 32, 64)]
    regions = Regions(torch.tensor([[4.0, 4, 60, 50], [20, 30, 90, 90]]), torch.tensor([0, 2]), torch.zeros(2).long())
    features = branches[0].pooler(maps, regions.boxes, regions.image_index)
    with torch.no_grad():
        last = branches[0].head.tower(features)
        for branch in branches[1:]:
            conv = branch.flow[0]
            last = branch.head.tower(features + F.relu(F.conv2d(last, conv.weight, conv.bias)))
        expected = branches[2].head.masks_of(last, regions.labels)
        found = branches[2].draw(features, regions, peers=branches).logits
    torch.testing.assert_close(found, expected)
    assert branches[0].flow is None


def test_masks_are_learned_from_the_boxes_that_their_stage_refined(model, monkeypatch):
    steps, refined, of_stage = [], [], InterleavedCascade.refined

    def learn(step, loss, *arguments, **others):
        steps.append(step)
        return loss(arguments[0], step, *arguments[1:], **others)

    def refine(*arguments):
        refined.append(of_stage(*arguments))
        return refined[-1]

    for stage in model.roi.box_stages:
        branch = stage.branches[0]
        monkeypatch.setattr(branch, "loss", lambda maps, step, *a, of=branch.loss, **k: learn(step, of, maps, *a, **k))
    monkeypatch.setattr(InterleavedCascade, "refined", refine)
    truth = semantic_target(4, 96)
    losses = model.train()([torch.rand(3, 96, 96)], [truth])
    assert {f"roi{number}_mask" for number in (1, 2, 3)} < set(losses)
    assert len(steps) == 3
    for number, step in enumerate(steps):
        boxes = step.predictions.priors.boxes[0]
        added = truth["boxes"]
        seen = torch.cat((added, *(found[0] for found in refined)))
        assert (pairwise_iou(seen, boxes).amax(0) > 0.999).all()
        assigned = pairwise_iou(added, boxes)[:, step.assignment.positive_index].amax(0)
        assert (assigned >= (0.5, 0.6, 0.7)[number] - 1e-6).all()
        assert step.output.weights.tolist() == [1.0] * len(step.assignment.positive_index)


def test_the_semantic_branch_sees_all_levels_at_the_size_of_one():
    torch.manual_seed(0)
    head = SemanticHead(4, levels=3, num_classes=5, stacked=2)
    maps = [torch.randn(2, 4, side, side) for side in (16, 8, 4)]
    summed = 0
    for lateral, level in zip(head.laterals, maps, strict=True):
        same = F.interpolate(level, (8, 8), mode="bilinear", align_corners=True)
        summed = summed + F.relu(F.conv2d(same, lateral[0].weight, lateral[0].bias))
    features = head.tower(summed)
    logits, embedding = head(maps)
    torch.testing.assert_close(logits, head.classify(features))
    torch.testing.assert_close(embedding, F.relu(head.embed[0](features)))
    with pytest.raises(ValueError, match="level must be one of 0 to 2"):
        SemanticHead(4, levels=3, level=3)


def test_regions_see_their_place_in_the_context():
    torch.manual_seed(0)
    maps = [torch.randn(1, 4, 96 // stride, 96 // stride) for stride in (4, 8, 16, 32)]
    context, boxes = torch.randn(1, 4, 12, 12), torch.tensor([[4.0, 4, 60, 50], [20, 30, 90, 90]])
    index = torch.zeros(2, dtype=torch.long)
    regions = torch.cat((index[:, None], boxes), 1)
    around = roi_align(context, regions, 14, 1 / 8, 0, aligned=True)
    for size, added in ((14, around), (7, F.avg_pool2d(around, 2))):
        pooler = ContextPooler(size, strides=(4, 8, 16, 32))
        plain = pooler(maps, boxes, index)
        seen = pooler(MapsWithContext(maps, context=context, stride=8), boxes, index)
        torch.testing.assert_close(seen - plain, added, rtol=1e-4, atol=1e-5)


def test_the_semantic_loss_is_a_mean_over_known_cells(model):
    images = [torch.rand(3, 96, 96), torch.rand(3, 64, 64)]
    targets = [semantic_target(2, 96), semantic_target(1, 64)]
    said = []
    hook = model.semantic.register_forward_hook(lambda _module, _inputs, output: said.append(output[0]))
    losses = model.train()(images, targets)
    hook.remove()
    logits, total, count = said[0], 0.0, 0
    for image, truth in enumerate(targets):
        for i, j in truth["semantic"][0, ::8, ::8].nonzero().tolist():
            label = int(truth["semantic"][0, 8 * i, 8 * j]) - 1
            total, count = total - logits[image, :, i, j].log_softmax(0)[label], count + 1
    torch.testing.assert_close(losses["semantic"], 0.2 * total / count)
    nothing = CellCriterion()(torch.zeros(1, 5, 2, 2), torch.zeros(1, 2, 2, dtype=torch.uint8))
    assert float(nothing) == 0


@pytest.mark.parametrize(
    ("semantic", "words"), [(None, "has no semantic map"), (torch.zeros(1, 9, 9), r"accepted is \(1, 96, 96\)")]
)
def test_maps_that_lack_or_misfit_are_named(model, semantic, words):
    truth = {**target(1, 96), **({} if semantic is None else {"semantic": semantic})}
    with pytest.raises(ValueError, match=words):
        model.train()([torch.rand(3, 96, 96)], [truth])
