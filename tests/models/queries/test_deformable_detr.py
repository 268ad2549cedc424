"""Deformable and Conditional DETR: losses equal to the library's, shares of the image, proposals of one class."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor

from rankdet.models import ConditionalDETR, DeformableDETR, QueryStage, detr_criterion
from rankdet.models.queries.library import library_targets
from rankdet.ops.class_rows import class_rows_of
from tests.models.queries.networks import NOTHING, OBJECTS, said_of, small, truth_of

pytest.importorskip("transformers", reason="the extra [transformers] is not installed")


def of_the_library(config, targets, layers) -> Tensor:
    from transformers.loss.loss_deformable_detr import DeformableDetrForObjectDetectionLoss

    classes, boxes = (torch.stack(parts) for parts in zip(*(layer[:2] for layer in layers), strict=True))
    return DeformableDetrForObjectDetectionLoss(classes[-1], targets, "cpu", boxes[-1], config, classes, boxes)[0]


def test_losses_equal_those_of_the_library():
    """Focal loss with the library's weight of 1. It has no loss of proposals; theirs is that of one class."""
    model, truth = small(DeformableDETR), truth_of(OBJECTS, NOTHING)
    said = said_of(model, truth)
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


def test_losses_of_conditional_detr_equal_those_of_the_library():
    """The library gives focal loss the weight of 1 there too, whatever its configuration says."""
    model, truth = small(ConditionalDETR), truth_of(OBJECTS, NOTHING)
    said = said_of(model, truth)
    losses = QueryStage(criterion=detr_criterion()).loss(said, truth)
    expected = of_the_library(model.network.model.config, library_targets(truth, said.frames), said.decoder)
    torch.testing.assert_close(sum(losses.values()), expected, rtol=1e-5, atol=1e-5)


def test_queries_begin_at_places_of_their_own():
    """As in the original. With the library's weights all begin in the middle, and learn the same for long."""
    said = said_of(small(ConditionalDETR), truth_of(OBJECTS, NOTHING))
    assert said.decoder[-1].boxes[0, :, :2].std(0).min() > 0.1


def test_boxes_are_shares_of_the_image_without_padding():
    truth = truth_of(OBJECTS, NOTHING)
    said = said_of(small(DeformableDETR), truth)
    assert [frame.tolist() for frame in said.frames] == [[0, 0, 64, 64], [0, 0, 80, 50]]
    (first, second) = library_targets(truth, said.frames)
    assert first["boxes"][0].tolist() == [24 / 64, 24 / 64, 0.5, 0.5]
    assert len(second["boxes"]) == 0


def test_proposals_have_no_classes_of_which_weights_could_go_elsewhere():
    model = small(DeformableDETR)
    assert model.network.model.class_embed[-1].out_features == 1
    rows = class_rows_of(model)
    assert "network.model.class_embed.1.weight" in rows
    assert "network.model.class_embed.2.weight" not in rows
