"""Deformable DETR: losses equal to the library's, a gradient everywhere, plans, other classes, refusals."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from rankdet.assign import CriterionCost, GroundTruth, HungarianMatcher
from rankdet.criteria import RankingCriterion, ScoreCriterion, alrp_criterion, average_precision_criterion
from rankdet.losses.classification import QualityFocalLoss
from rankdet.models import (
    DeformableDETR,
    QueryOutputs,
    QueryStage,
    build,
    deformable_detr_criterion,
    detr_criterion,
    query_ranking_criterion,
)
from rankdet.models.queries.library import library_targets
from rankdet.ops.class_rows import class_rows_of

pytest.importorskip("transformers", reason="the extra [transformers] is not installed")

K = 3
SMALL = {
    "d_model": 32,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_ffn_dim": 32,
    "decoder_ffn_dim": 32,
    "encoder_attention_heads": 2,
    "decoder_attention_heads": 2,
}
IMAGES = [torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)), torch.full((3, 50, 80), 0.4)]
OBJECTS = {"boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0], [30.0, 4.0, 60.0, 20.0]]), "labels": torch.tensor([2, 0])}
NOTHING = {"boxes": torch.empty(0, 4), "labels": torch.empty(0, dtype=torch.long)}
CROWD = {"boxes": torch.tensor([[0.0, 0.0, 30.0, 30.0]]), "labels": torch.tensor([1]), "iscrowd": torch.tensor([1])}


def small(**settings) -> DeformableDETR:
    torch.manual_seed(0)
    return DeformableDETR(num_classes=K, backbone="test_resnet", queries=20, options=SMALL, **settings)


@pytest.fixture(scope="module")
def outputs() -> tuple[QueryOutputs, GroundTruth]:
    """What the layers say of a batch, and the objects in it."""
    model = small()
    batch = model.preprocess(IMAGES)
    truth = GroundTruth.from_targets([OBJECTS, NOTHING], num_classes=K, device=torch.device("cpu"))
    return model.network(batch, truth), truth


def of_the_library(config, targets, layers) -> Tensor:
    from transformers.loss.loss_deformable_detr import DeformableDetrForObjectDetectionLoss

    classes, boxes = (torch.stack(parts) for parts in zip(*layers, strict=True))
    return DeformableDetrForObjectDetectionLoss(classes[-1], targets, "cpu", boxes[-1], config, classes, boxes)[0]


def test_losses_equal_those_of_the_library(outputs):
    """Focal loss with the library's weight of 1. It has no loss of proposals; theirs is that of one class."""
    said, truth = outputs
    model = small()
    losses = QueryStage(criterion=detr_criterion(), proposals_have_classes=False).loss(said, truth)
    config = copy.deepcopy(model.network.model.config)
    config.class_cost, config.auxiliary_loss = 2, True
    targets = library_targets(truth, said.frames)
    expected = of_the_library(config, targets, said.decoder)
    ours = sum(value for name, value in losses.items() if not name.startswith("encoder_"))
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)
    config.num_labels, config.auxiliary_loss = 1, False
    of_one_class = [target | {"class_labels": torch.zeros_like(target["class_labels"])} for target in targets]
    expected = of_the_library(config, of_one_class, [said.encoder])
    ours = losses["encoder_classification"] + losses["encoder_box"]
    torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


CRITERIA = {
    "query ranking": query_ranking_criterion,
    "rank and sort": RankingCriterion,
    "aLRP": alrp_criterion,
    "AP": average_precision_criterion,
    "published": deformable_detr_criterion,
    "quality focal": lambda: ScoreCriterion(classification=QualityFocalLoss()),
}


@pytest.mark.parametrize("make", CRITERIA.values(), ids=CRITERIA)
def test_a_step_whatever_there_is_to_find(make):
    """No, some, many objects and a crowd; every parameter gets a gradient."""
    model = small(criterion=make())
    many = {"boxes": OBJECTS["boxes"].repeat(15, 1), "labels": OBJECTS["labels"].repeat(15)}
    names = set()
    for targets in ([NOTHING, NOTHING], [many, CROWD], [OBJECTS, NOTHING]):
        model.zero_grad()
        losses = model(IMAGES, targets)
        names.add(tuple(losses))
        sum(losses.values()).backward()
        assert all(torch.isfinite(loss) for loss in losses.values())
        untouched = [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None]
        assert not untouched
    assert len(names) == 1


def test_a_plan_builds_the_same_model_again():
    model = small().eval()
    again = build(model.plan()).eval()
    again.load_state_dict(model.state_dict())
    with torch.no_grad():
        first, second = model(IMAGES), again(IMAGES)
    for of_first, of_second in zip(first, second, strict=True):
        assert all(torch.equal(of_first[name], of_second[name]) for name in of_first)
    with torch.device("meta"):
        build(model.plan())


def test_boxes_are_shares_of_the_image_without_padding(outputs):
    said, truth = outputs
    assert [frame.tolist() for frame in said.frames] == [[0, 0, 64, 64], [0, 0, 80, 50]]
    (first, second) = library_targets(truth, said.frames)
    assert first["boxes"][0].tolist() == [24 / 64, 24 / 64, 0.5, 0.5]
    assert len(second["boxes"]) == 0


def test_proposals_have_no_classes_of_which_weights_could_go_elsewhere():
    model = small()
    assert model.network.model.class_embed[-1].out_features == 1
    rows = class_rows_of(model)
    assert "network.model.class_embed.1.weight" in rows
    assert "network.model.class_embed.2.weight" not in rows


def test_shifted_logits_are_those_of_the_detections():
    model = small().eval()
    before = model(IMAGES)[0]
    model.shift_logits(torch.tensor([1.0, 1.0, 1.0]))
    after = model(IMAGES)[0]
    torch.testing.assert_close(after["logits"], before["logits"] + 1)


def test_an_option_that_there_is_not_is_refused():
    with pytest.raises(ValueError, match=r"'encoder_layer'.*did you mean encoder_layers"):
        DeformableDETR(num_classes=K, backbone="test_resnet", options={"encoder_layer": 2})


def test_the_message_names_the_extra_where_the_library_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    with pytest.raises(ImportError, match=r"rankdet\[transformers\]"):
        DeformableDETR(num_classes=K, backbone="test_resnet")


def test_the_matcher_may_ask_the_criterion():
    matcher = HungarianMatcher(class_cost=1, box_cost=0, giou_cost=0, classification=CriterionCost())
    losses = small(matcher=matcher)(IMAGES, [OBJECTS, NOTHING])
    assert all(torch.isfinite(loss) for loss in losses.values())
