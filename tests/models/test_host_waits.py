"""On a device that is not the CPU: nothing meets a CPU tensor, nothing is copied there, and the host waits seldom.

The device is pretended (`tests.pretend_device`): operators whose result has a size, or a number, that only the device
knows are counted. How often that is depends on the stages, not on images or objects. What is made once, such as
anchors, is made in the first step, which is not counted.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import rankdet
from tests.models.test_every_pair import PAIRS, make, target
from tests.pretend_device import DEVICE, Pretend, needs_pretence

ROOT = Path(rankdet.__file__).parent
MIXTURE = "fit_two_gaussians"  # of PAA, which looks at its convergence now and then

# Waits of a training step: for the crowds of the batch, and to list the positives of a stage. Proposals take two more,
# regions one to list their levels, later stages one to leave out the objects, masks two, sampling three.
TRAINING = {
    "ATSS ranking": 2,
    "ATSS focal_with_centerness": 2,
    "RetinaNet focal": 2,
    "PAA ranking": 3,
    "PAA paa_criterion": 3,
    "FoveaBox fovea_criterion": 2,
    "SSD300 ranking": 2,
    "SSD300 ssd_criterion": 3,
    "FasterRCNN ranking": 6,
    "FasterRCNN softmax_criterion": 9,
    "CascadeRCNN ranking": 12,
    "CascadeRCNN softmax_criterion": 19,
    "MaskRCNN ranking": 8,
    "MaskRCNN softmax_criterion": 11,
    "CascadeMaskRCNN ranking": 18,
}
# Of a batch in evaluation: suppression takes two, proposals and regions as above.
EVALUATION = {
    "RetinaNet": 2,
    "FSAF": 2,
    "FoveaBox": 2,
    "SSD300": 2,
    "FasterRCNN": 5,
    "LibraRCNN": 5,
    "CascadeRCNN": 7,
    "MaskRCNN": 6,
    "GridRCNN": 6,
    "DoubleHeadRCNN": 6,
    "MaskScoringRCNN": 6,
    "CascadeMaskRCNN": 10,
}
NAMED = {f"{recipe.__name__} {criterion.__name__}": (recipe, criterion) for recipe, criterion in PAIRS}
RECIPES = {recipe.__name__: (recipe, criterion) for recipe, criterion in reversed(PAIRS)}


def counted(model: nn.Module, counts: list[int], device: Pretend) -> Counter[str]:
    """Waits and uploads of a step, or of an evaluation, of images of so many objects."""
    images = [torch.rand(3, 64, 64).to(DEVICE) for _ in counts]
    targets = [{name: value.to(DEVICE) for name, value in target(count, 64).items()} for count in counts]
    device.waits.clear()
    found = model(images, targets) if model.training else model(images)
    kinds: Counter[str] = Counter()
    for (kind, place), number in device.waits.items():
        if MIXTURE not in place:
            kinds["uploads" if kind == "upload" else "waits"] += number
    if model.training:
        before = dict(device.waits)
        total: Tensor = sum(found.values())
        total.backward()
        assert dict(device.waits) == before, "no gradient makes the host wait"
    return kinds


@needs_pretence
@pytest.mark.parametrize("pair", TRAINING)
def test_a_step_waits_as_often_as_its_stages_need(pair: str):
    """On no, few and many objects; what is made once is made in the first step."""
    torch.manual_seed(0)
    model = make(*NAMED[pair])
    with Pretend(root=ROOT) as device:
        model.to(DEVICE)
        counted(model, [3, 3], device)
        none, many = counted(model, [0, 0], device), counted(model, [20, 20, 0, 20], device)
    assert many["waits"] == TRAINING[pair]
    assert none["waits"] <= TRAINING[pair]
    assert many["uploads"] == none["uploads"] == 0


@needs_pretence
@pytest.mark.parametrize("recipe", EVALUATION)
def test_more_images_are_not_more_waits_in_evaluation(recipe: str):
    torch.manual_seed(0)
    model = make(*RECIPES[recipe]).eval()
    with Pretend(root=ROOT) as device, torch.no_grad():
        model.to(DEVICE)
        few, many = (counted(model, [0] * images, device) for images in (2, 4))
    assert many["waits"] == few["waits"] == EVALUATION[recipe]
    assert many["uploads"] == 0
