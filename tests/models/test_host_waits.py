"""On a device that is not the CPU: nothing meets a CPU tensor, nothing is copied there, and the host waits seldom.

The device is pretended (`tests.pretend_device`): operators whose result has a size, or a number, that only the device
knows are counted. How often that is depends on the stages, not on images or objects. What is made once, such as
anchors, is made in the first step, which is not counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import rankdet
from rankdet.assign.ground_truth import GroundTruth, InstanceTruth
from tests.models.test_every_pair import PAIRS, make, target
from tests.pretend_device import DEVICE, Pretend, needs_pretence

ROOT = Path(rankdet.__file__).parent
MIXTURE = "fit_two_gaussians"  # of PAA, which looks at its convergence now and then

# Waits of a training step, stage by stage.
BATCH = 1  # the crowds
DENSE = 1  # the positives
RPN = 3  # the positives, and two for the proposals: suppression, and how many of each image it leaves
REGIONS = 2  # the positives and what was sampled, in one; and from which levels the regions are pooled
MASKS = 2  # from which levels the positives are pooled, and how many of them each object has
DRAWN = 1  # how many masks each image has, where they are mixed from maps of the whole image
TRAINING = {
    "ATSS ranking": BATCH + DENSE,
    "ATSS focal_with_centerness": BATCH + DENSE,
    "RetinaNet focal": BATCH + DENSE,
    "PAA ranking": BATCH + 2 * DENSE,  # the candidates and those chosen among them
    "PAA paa_criterion": BATCH + 2 * DENSE,
    "FSAF ranking": BATCH + 2 * DENSE + 1,  # likewise, and which classes are no matter where
    "FoveaBox fovea_criterion": BATCH + DENSE,
    "SSD300 ranking": BATCH + DENSE,
    "SSD300 ssd_criterion": BATCH + DENSE,
    "GuidedRetinaNet ranking": BATCH + 2 * DENSE,  # anchors and their shapes
    "YOLACT ranking": BATCH + DENSE + DRAWN,
    "YOLACT yolact_criterion": BATCH + DENSE + DRAWN,
    "SOLOv2 dice_ranking_criterion": BATCH + DENSE + DRAWN,
    "SOLOv2 solo_criterion": BATCH + DENSE + DRAWN,
    "FasterRCNN ranking": BATCH + RPN + REGIONS,
    "FasterRCNN softmax_criterion": BATCH + RPN + REGIONS,
    "RFCN smooth_softmax_criterion": BATCH + RPN + 1,  # all regions are pooled from one map
    "CascadeRCNN ranking": BATCH + RPN + 3 * REGIONS,
    "CascadeRCNN softmax_criterion": BATCH + RPN + 3 * REGIONS,
    "MaskRCNN ranking": BATCH + RPN + REGIONS + MASKS,
    "MaskRCNN softmax_criterion": BATCH + RPN + REGIONS + MASKS,
    "CascadeMaskRCNN ranking": BATCH + RPN + 3 * (REGIONS + MASKS),
    "HybridTaskCascade softmax_criterion": BATCH + RPN + 3 * (REGIONS + 1 + MASKS),  # refined boxes are assigned again
}
# Of a batch in evaluation.
NMS = 2  # suppression, and how many of each image it leaves
POOLED = 1  # from which levels
EVALUATION = {
    "RetinaNet": NMS,
    "FSAF": NMS,
    "FoveaBox": NMS,
    "SSD300": NMS,
    "PAA": NMS,
    "YOLACT": NMS,
    "SOLOv2": 3,  # who is a candidate, good enough, and not in the padding
    "FasterRCNN": NMS + POOLED + NMS,
    "LibraRCNN": NMS + POOLED + NMS,
    "CascadeRCNN": NMS + 3 * POOLED + NMS,
    "MaskRCNN": NMS + POOLED + NMS + POOLED,
    "GridRCNN": NMS + POOLED + NMS + POOLED,
    "DoubleHeadRCNN": NMS + 2 * POOLED + NMS,
    "MaskScoringRCNN": NMS + POOLED + NMS + POOLED,
    "RFCN": NMS + NMS,  # all regions are pooled from one map
    "CascadeMaskRCNN": NMS + 3 * POOLED + NMS + POOLED,
    "HybridTaskCascade": NMS + 3 * POOLED + NMS + POOLED,
}
# Near to others: for -m long.
LONG = {"ATSS focal_with_centerness", "PAA paa_criterion", "YOLACT yolact_criterion", "SOLOv2 solo_criterion"}
LONG |= {"CascadeRCNN softmax_criterion", "MaskRCNN softmax_criterion", "GuidedRetinaNet ranking"}
LONG |= {"FSAF", "LibraRCNN", "GridRCNN", "DoubleHeadRCNN", "MaskScoringRCNN", "CascadeRCNN", "HybridTaskCascade"}
LONG |= {"RFCN"}
LONG_COUNTS = {"ATSS ranking", "PAA ranking", "CascadeMaskRCNN ranking"}
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


def each(kind: str, names: Iterable[str], *, long: set[str] = LONG) -> pytest.MarkDecorator:
    marked = [pytest.param(name, marks=[pytest.mark.long] if name in long else []) for name in names]
    return pytest.mark.parametrize(kind, marked)


@needs_pretence
@each("pair", TRAINING)
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
@each("recipe", EVALUATION)
def test_more_images_are_not_more_waits_in_evaluation(recipe: str):
    torch.manual_seed(0)
    model = make(*RECIPES[recipe]).eval()
    with Pretend(root=ROOT) as device, torch.no_grad():
        model.to(DEVICE)
        few, many = (counted(model, [0] * images, device) for images in (2, 4))
    assert many["waits"] == few["waits"] == EVALUATION[recipe]
    assert many["uploads"] == 0


# Kernels of all behind the pyramid and of the gradient, of 8 images; with another torch they may be some more.
KERNELS = {
    "ATSS ranking": (590, 440),
    "FasterRCNN ranking": (1140, 400),
    "PAA ranking": (1070, 440),
    "CascadeMaskRCNN ranking": (2780, 890),
}


@needs_pretence
@each("pair", KERNELS, long=LONG_COUNTS)
def test_a_step_launches_no_more_kernels_than_are_known(pair: str):
    torch.manual_seed(0)
    model = make(*NAMED[pair])
    kind = InstanceTruth if model.needs_masks else GroundTruth
    with Pretend(root=ROOT) as device:
        model.to(DEVICE)
        batch = model.batch_of([torch.rand(3, 64, 64).to(DEVICE)] * 8)
        targets = [{name: value.to(DEVICE) for name, value in target(5, 64).items()} for _ in range(8)]
        truth = kind.from_targets(targets, num_classes=3, device=DEVICE)
        maps = [level.detach().requires_grad_() for level in model.maps_of(batch)]
        model.losses(maps, batch, truth)  # what is constant is made once
        device.calls.clear()
        total: Tensor = sum(model.losses(maps, batch, truth).values())
        launched = [sum(device.calls.values())]
        total.backward()
        launched.append(sum(device.calls.values()) - launched[0])
    assert all(number <= 1.05 * known for number, known in zip(launched, KERNELS[pair], strict=True)), launched


# What a GPU refuses under `torch.use_deterministic_algorithms(True)`, whatever is put into it.
NEVER_DETERMINISTIC = {"kthvalue", "median", "nanmedian", "histc", "put_"}


@needs_pretence
@pytest.mark.long
@pytest.mark.parametrize("pair", NAMED)
def test_no_detector_mixes_devices_or_waits_more_for_more(pair: str):
    torch.manual_seed(0)
    model = make(*NAMED[pair])
    with Pretend(root=ROOT) as device:
        model.to(DEVICE)
        counted(model, [3, 3], device)
        few, many = (counted(model, counts, device)["waits"] for counts in ([3, 3], [20, 20, 0, 20]))
        assert few == many
        assert not {f"aten::{name}" for name in NEVER_DETERMINISTIC} & device.calls.keys()
        model.eval()
        with torch.no_grad():
            few, many = (counted(model, [0] * images, device)["waits"] for images in (2, 4))
        assert few == many
