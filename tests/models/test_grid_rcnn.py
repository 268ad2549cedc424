"""Grid R-CNN: targets, fusion and boxes against loops; what is learned, and what becomes of detections."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rankdet.models import GridRCNN, Postprocess, RegionSettings, softmax_criterion
from rankdet.models.region.grid_rcnn import grid_targets, jittered, through_points, window_starts
from rankdet.models.region.proposals import ProposalSelection
from rankdet.nn.grid_head import GridHead
from tests.models.test_every_pair import target
from tests.reference import grid as loops


def boxes_of(seed: int, count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * 60
    return torch.cat((corners, corners + torch.rand(count, 2, generator=generator) * 60), 1)


@settings(max_examples=10)
@given(seed=st.integers(0, 10_000))
def test_targets_equal_the_loop(seed):
    boxes = boxes_of(seed, 5)
    objects = boxes + torch.randn(5, 4, generator=torch.Generator().manual_seed(seed)) * 4
    boxes[0, 2] = boxes[0, 0] + 1.5
    found = grid_targets(boxes, objects, side=10)
    expected = torch.stack([loops.targets(b.tolist(), o.tolist(), 10) for b, o in zip(boxes, objects, strict=True)])
    assert torch.equal(found, expected)
    assert not found[0].any()


def test_five_cells_of_each_point():
    box = torch.tensor([[10.0, 20, 66, 76]])
    found = grid_targets(box, box, side=28)
    assert found.sum((2, 3)).tolist() == [[5.0] * 9]
    assert found[0, 0, 14, 14] == found[0, 4, 14, 14] == found[0, 8, 14, 14] == 1
    assert window_starts(28, device=torch.device("cpu")).tolist() == [[x, y] for x in (0, 14, 28) for y in (0, 14, 28)]


@settings(max_examples=10)
@given(seed=st.integers(0, 10_000))
def test_boxes_through_points_equal_the_loop(seed):
    boxes = boxes_of(seed, 4)
    logits = torch.randn(4, 9, 8, 8, generator=torch.Generator().manual_seed(seed))
    expected = torch.tensor([loops.box_through(b.tolist(), maps) for b, maps in zip(boxes, logits, strict=True)])
    torch.testing.assert_close(through_points(boxes, logits), expected, rtol=1e-4, atol=1e-4)


def test_the_box_of_an_object_goes_through_its_targets():
    boxes, objects = torch.tensor([[10.0, 20, 66, 76]]), torch.tensor([[12.0, 18, 60, 80]])
    near = 10 * grid_targets(boxes, objects, side=28)
    torch.testing.assert_close(through_points(boxes, near), objects, rtol=0, atol=2.1)  # two pixels a cell


def test_fusion_equals_the_loop():
    torch.manual_seed(0)
    head = GridHead(6, channels=4, stacked=2)
    pooled = torch.randn(3, 6, 14, 14)
    with torch.no_grad():
        alone = head.tower(pooled)
        expected = head._upsampled(loops.fused(head, alone)), head._upsampled(alone)
        for found, wanted in zip(head(pooled), expected, strict=True):
            torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert found.shape == (3, 9, 28, 28)


def test_regions_are_jittered_by_a_share_of_their_sides():
    boxes = torch.tensor([[100.0, 100, 200, 120]]).repeat(2000, 1)
    moved = jittered(boxes, amount=0.15)
    sizes = moved[:, 2:] - moved[:, :2]
    shift = (moved[:, :2] + moved[:, 2:]) / 2 - torch.tensor([150.0, 110])
    for values, scale in ((sizes / torch.tensor([100.0, 20]) - 1, 1), (shift / torch.tensor([100.0, 20]), 1)):
        assert values.abs().max() <= 0.15 * scale + 1e-5
        assert (values.abs().amax(0) > 0.14).all()
        assert (values.mean(0).abs() < 0.01).all()


@pytest.fixture(scope="module")
def model() -> GridRCNN:
    torch.manual_seed(0)
    few = RegionSettings(proposals=ProposalSelection(keep=30))
    return GridRCNN(
        num_classes=3,
        backbone="test_resnet",
        channels=16,
        criterion=softmax_criterion(),
        settings=few,
        postprocess=Postprocess(max_detections=20),
    )


def test_the_loss_is_fifteen_times_the_cross_entropy_of_both_maps(model, monkeypatch):
    branch = model.roi.box_stages[0].branches[0]
    said = []
    hook = branch.head.register_forward_hook(lambda _module, _inputs, output: said.append(output))
    wanted = torch.rand(9, 28, 28).round()
    monkeypatch.setattr(
        "rankdet.models.region.grid_rcnn.grid_targets",
        lambda boxes, *_, **__: wanted.expand(len(boxes), -1, -1, -1),
    )
    losses = model.train()([torch.rand(3, 96, 96)], [target(5, 96)])
    hook.remove()
    each = [torch.nn.functional.binary_cross_entropy_with_logits(maps, wanted.expand_as(maps)) for maps in said[0]]
    torch.testing.assert_close(losses["roi_grid"], 15 * sum(each))
    assert "roi_box" not in losses


def test_detections_have_the_scores_of_regions_and_boxes_of_points(model):
    image = [torch.rand(3, 96, 96)]
    with torch.no_grad():
        refined = model.eval()(image)[0]
        branch, model.roi.box_stages[0].branches = model.roi.box_stages[0].branches, torch.nn.ModuleList()
        plain = model(image)[0]
        model.roi.box_stages[0].branches = branch
    torch.testing.assert_close(refined["logits"], plain["logits"])
    assert (refined["boxes"] != plain["boxes"]).any(1).all()
    middle = (plain["boxes"][:, :2] + plain["boxes"][:, 2:]) / 2
    assert (refined["boxes"][:, :2] < middle).all()
    assert (refined["boxes"][:, 2:] > middle).all()
