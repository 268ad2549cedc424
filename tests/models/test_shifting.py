"""Shifting the classifier's biases shifts the logits of every class, and changes nothing else; or it is refused."""

from __future__ import annotations

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
def test_a_shift_of_biases_is_a_shift_of_logits(name):
    torch.manual_seed(0)
    model = RECIPES[name](Postprocess(**EVERYTHING)).eval()
    for layer in model.class_layers:
        torch.nn.init.normal_(layer.weight, std=0.3)  # logits far from one another, which rounding does not reorder
    images = [torch.rand(3, 64, 64)]
    with torch.no_grad():
        before = model(images)[0]
        model.shift_logits(SHIFTS)
        after = model(images)[0]
    for label, shift in enumerate(SHIFTS.tolist()):
        old, new = before["labels"] == label, after["labels"] == label
        assert old.sum() == new.sum() > 0
        torch.testing.assert_close(after["logits"][new], before["logits"][old] + shift, atol=1e-5, rtol=0)
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
    with pytest.raises(ValueError, match=words):
        model.shift_logits(SHIFTS)
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
