"""Scaling and shifting the classifier does so to the logits of every class, and nothing else; or it is refused."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from rankdet.models import (
    ATSS,
    PAA,
    YOLACT,
    CascadeRCNN,
    FasterRCNN,
    FoveaBox,
    MaskRCNN,
    Postprocess,
    RetinaNet,
    SoftPostprocess,
    SOLOv2Light,
    paa_criterion,
    smooth_softmax_criterion,
    softmax_criterion,
    yolact_criterion,
)
from rankdet.models.shifting import rescale_layers

SHIFTS = torch.tensor([2.0, -1.0, 0.5])
SLOPES = torch.tensor([0.5, 1.0, 2.0])
EVERYTHING = {"max_detections": 10**6, "pre_nms": 10**6}
SMALL = {"num_classes": 3, "backbone": "resnet18", "channels": 32}
RECIPES = {
    "ATSS": lambda keep: ATSS(**SMALL, postprocess=keep),
    "RetinaNet": lambda keep: RetinaNet(**SMALL, postprocess=keep),
    "FoveaBox": lambda keep: FoveaBox(**SMALL, postprocess=keep),
    "PAA": lambda keep: PAA(**SMALL, postprocess=keep),
    "FasterRCNN": lambda keep: FasterRCNN(**SMALL, postprocess=keep),
    "CascadeRCNN": lambda keep: CascadeRCNN(**SMALL, postprocess=keep),
}


@pytest.mark.parametrize("name", RECIPES)
def test_weights_and_biases_scale_and_shift_the_logits(name):
    torch.manual_seed(0)
    model = RECIPES[name](Postprocess(**EVERYTHING)).eval()
    for layer in model.class_layers:
        torch.nn.init.normal_(layer.weight, std=0.3)  # logits far from one another, which rounding does not reorder
    images = [torch.rand(3, 64, 64)]
    with torch.no_grad():
        before = model(images)[0]
        model.rescale_logits(SLOPES, SHIFTS)
        after = model(images)[0]
    for label, (slope, shift) in enumerate(zip(SLOPES.tolist(), SHIFTS.tolist(), strict=True)):
        old, new = before["labels"] == label, after["labels"] == label
        assert old.sum() == new.sum() > 0
        torch.testing.assert_close(after["logits"][new], slope * before["logits"][old] + shift, atol=1e-4, rtol=0)
        torch.testing.assert_close(after["boxes"][new], before["boxes"][old], atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda: FasterRCNN(**SMALL, postprocess=SoftPostprocess()), "soft-NMS"),
        (lambda: FasterRCNN(**SMALL, criterion=softmax_criterion()), "softmax"),
        (lambda: CascadeRCNN(**SMALL, criterion=smooth_softmax_criterion()), "softmax"),
        (lambda: YOLACT(**SMALL, image_size=64, criterion=yolact_criterion()), "softmax"),
        (lambda: PAA(**SMALL, criterion=paa_criterion(), postprocess=Postprocess()), "judged quality"),
        (lambda: PAA(**SMALL), "voted"),
        (lambda: SOLOv2Light(**SMALL), "classifier alone"),
    ],
)
def test_scores_that_no_bias_shifts_are_refused_before_anything_changes(model, words):
    model = model()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    for change in (model.shift_logits, partial(model.rescale_logits, SLOPES)):
        with pytest.raises(ValueError, match=words):
            change(SHIFTS)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("recipe", [MaskRCNN, YOLACT])
def test_masks_go_with_their_boxes(recipe):
    model = recipe(**SMALL)
    biases = [layer.bias.clone() for layer in model.class_layers]
    model.shift_logits(SHIFTS)
    for layer, bias in zip(model.class_layers, biases, strict=True):
        torch.testing.assert_close(layer.bias - bias, SHIFTS.repeat(len(bias) // 3))


@pytest.mark.parametrize("shifts", [torch.zeros(2), torch.zeros(1, 3), torch.tensor([0.0, torch.nan, 0.0])])
def test_wrong_shifts_are_refused(shifts):
    with pytest.raises(ValueError, match="shifts"):
        rescale_layers([torch.nn.Linear(1, 3)], torch.ones_like(shifts), shifts)


@pytest.mark.parametrize("slopes", [torch.ones(2), torch.tensor([1.0, 0.0, 1.0]), torch.tensor([1.0, torch.inf, 1.0])])
def test_wrong_slopes_are_refused_before_anything_changes(slopes):
    layers = [torch.nn.Linear(1, 3), torch.nn.Linear(1, 3)]
    before = [layer.weight.clone() for layer in layers]
    with pytest.raises(ValueError, match="slopes must be finite numbers above 0"):
        rescale_layers(layers, slopes, torch.zeros(3))
    layers[1] = torch.nn.Linear(1, 4)
    with pytest.raises(ValueError, match="3 shifts, but 4 biases"):
        rescale_layers(layers, torch.full((3,), 2.0), torch.zeros(3))
    assert torch.equal(layers[0].weight, before[0])
