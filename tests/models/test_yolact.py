"""YOLACT: anchors, losses of both criteria against loops, each ablation a choice of parts, masks of detections."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rankdet.assign import InstanceTruth
from rankdet.criteria import (
    BoxIoU,
    ConstantBalance,
    MaskCriterion,
    MaskDice,
    MeanOf,
    RankingCriterion,
    ScoreCriterion,
    SemanticCriterion,
    Uniform,
)
from rankdet.losses.boxes import SmoothL1Loss
from rankdet.losses.classification import SoftmaxCrossEntropyLoss
from rankdet.losses.masks import MaskCrossEntropyLoss
from rankdet.models import YOLACT, PrototypeMasks, yolact_criterion, yolact_mask_criterion
from rankdet.models.masks.prototypes import class_maps
from rankdet.nn import FPN, Bilinear
from tests.reference import masks as loops

K = 3
SIDE = 96


def a_model(**arguments) -> YOLACT:
    torch.manual_seed(0)
    small = {"num_classes": K, "backbone": "test_resnet", "channels": 16, "image_size": SIDE, "masks": masks()}
    return YOLACT(**{**small, **arguments})


def masks(**arguments) -> partial:
    return partial(PrototypeMasks, **{"prototypes": 6, **arguments})


def objects(count: int, *, seed: int = 0, side: int = SIDE) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(count, 2, generator=generator) * side * 0.5
    sizes = 12 + torch.rand(count, 2, generator=generator) * side * 0.35
    boxes = torch.cat((corners, corners + sizes), 1)
    y, x = torch.meshgrid(torch.arange(side) + 0.5, torch.arange(side) + 0.5, indexing="ij")
    middle, radii = corners + sizes / 2, sizes / 2
    inside = [
        ((x - cx) / rx) ** 2 + ((y - cy) / ry) ** 2 < 1
        for (cx, cy), (rx, ry) in zip(middle.tolist(), radii.tolist(), strict=True)
    ]
    masks = torch.stack(inside) if inside else torch.zeros(0, side, side, dtype=torch.bool)
    return {"boxes": boxes, "labels": torch.arange(count) % K, "masks": masks}


@pytest.fixture
def images() -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.rand(3, SIDE, SIDE), torch.rand(3, SIDE, SIDE)]


TARGETS = [objects(4, seed=1), objects(3, seed=2)]


def test_anchors_at_the_published_size():
    anchors = YOLACT(num_classes=K, backbone="test_resnet", channels=8).stage.anchors
    maps = [torch.zeros(1, 1, side, side) for side in (69, 35, 18, 9, 5)]
    priors = anchors(maps, sizes=((550, 550),), padded_sizes=((550, 550),))
    assert priors.level_sizes == tuple(3 * side * side for side in (69, 35, 18, 9, 5))
    assert bool(priors.valid[0].all())
    boxes = priors.boxes[0]
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert centres[0].tolist() == pytest.approx([550 / 69 / 2] * 2)
    assert centres[-1].tolist() == pytest.approx([550 - 55] * 2)
    sides = (boxes[:, 2:] - boxes[:, :2]).prod(1).sqrt()
    levels = sides.split(list(priors.level_sizes))
    assert [float(level.mean()) for level in levels] == pytest.approx([24, 48, 96, 192, 384])
    ratios = ((boxes[:3, 3] - boxes[:3, 1]) / (boxes[:3, 2] - boxes[:3, 0])).tolist()
    assert ratios == pytest.approx([0.5, 1, 2])


def test_box_and_mask_loss_equal_rank_and_sort(images):
    losses = a_model()(images, TARGETS)
    assert sorted(losses) == ["box", "mask", "ranking", "sorting"]
    torch.testing.assert_close(losses["box"], losses["ranking"] + losses["sorting"])
    torch.testing.assert_close(losses["mask"], losses["ranking"] + losses["sorting"])


def outputs_of(model: YOLACT, images: list[Tensor], targets) -> dict[str, Tensor]:
    """What the parts of a model say about a batch, before any loss."""
    batch = model.preprocess(images)
    maps = model.neck(model.backbone(batch.pixels))
    dense, coefficients = model.stage.head(maps)
    predictions = model.stage.read(dense, maps, batch)
    truth = InstanceTruth.from_targets(targets, num_classes=K, device=torch.device("cpu"))
    assignment = model.stage.assign(predictions, truth)
    return {
        "prototypes": model.masks.network(maps[0]),
        "coefficients": coefficients.flatten(0, 1),
        "logits": predictions.logits,
        "index": assignment.positive_index,
        "objects": assignment.matched_index,
        "image": predictions.priors.image_index[assignment.positive_index],
        "finest": maps[0],
    }


def slow_masks(found: dict[str, Tensor], boxes: Tensor):
    """Probabilities (rows of numbers) of each positive, 0 outside of its object's box."""
    drawn = []
    for row, image, number in zip(*(found[key].tolist() for key in ("index", "image", "objects")), strict=True):
        mixed = torch.einsum("e,ehw->hw", found["coefficients"][row], found["prototypes"][image]).sigmoid()
        scale = mixed.shape[0] / SIDE
        drawn.append(loops.cut(mixed.tolist(), [side * scale for side in boxes[number].tolist()]))
    return drawn


def small_targets(targets, size: int) -> Tensor:
    masks = torch.cat([target["masks"] for target in targets])[:, None].float()
    return (F.interpolate(masks, size=(size, size), mode="bilinear", align_corners=False)[:, 0] >= 0.5).float()


def test_ranked_mask_loss_is_that_of_the_description(images):
    model = a_model().eval()
    model.train()
    model.backbone.eval()
    losses = model(images, TARGETS)
    model.masks.criterion.balance = ConstantBalance()
    with torch.no_grad():
        plain = model(images, TARGETS)["mask"]
        found = outputs_of(model, images, TARGETS)
    boxes = torch.cat([target["boxes"] for target in TARGETS])
    drawn = slow_masks(found, boxes)
    shapes = small_targets(TARGETS, found["prototypes"].shape[-1])
    weights = found["logits"][found["index"]].sigmoid().amax(1).tolist()
    total = 0.0
    for weight, mask, number in zip(weights, drawn, found["objects"].tolist(), strict=True):
        flat = [value for row in mask for value in row]
        total += weight * (1 - loops.dice(flat, shapes[number].flatten().tolist(), eps=1e-5))
    assert float(plain) == pytest.approx(total / sum(weights), rel=1e-4)
    assert float(losses["mask"].detach()) != pytest.approx(float(plain))


def test_original_mask_loss_is_that_of_the_description(images):
    """Clamped cross entropy, mean over the map, divided by the area of the box, mean over positives, times 6.125."""
    model = a_model(criterion=yolact_criterion())
    model.backbone.eval()
    with torch.no_grad():
        loss = model(images, TARGETS)["mask"]
        found = outputs_of(model, images, TARGETS)
    boxes = torch.cat([target["boxes"] for target in TARGETS])
    shapes = small_targets(TARGETS, found["prototypes"].shape[-1])
    total = 0.0
    for mask, number in zip(slow_masks(found, boxes), found["objects"].tolist(), strict=True):
        entropy = float(F.binary_cross_entropy(torch.tensor(mask), shapes[number]))
        x1, y1, x2, y2 = boxes[number].tolist()
        total += entropy / ((x2 - x1) / SIDE) / ((y2 - y1) / SIDE)
    assert float(loss) == pytest.approx(6.125 * total / len(found["index"]), rel=1e-3)


def test_original_box_loss_is_one_and_a_half_times_smooth_l1_per_positive(images):
    model = a_model(criterion=yolact_criterion())
    model.backbone.eval()
    plain = ScoreCriterion(classification=SoftmaxCrossEntropyLoss(), box_loss=SmoothL1Loss(beta=1.0))
    with torch.no_grad():
        loss = model(images, TARGETS)["box"]
        model.stage.criterion = plain
        torch.testing.assert_close(loss, 1.5 * model(images, TARGETS)["box"])


def test_class_maps_are_unions():
    truth = InstanceTruth.from_targets(TARGETS, num_classes=K, device=torch.device("cpu"))
    maps = class_maps(truth, (SIDE, SIDE), torch.zeros(2, K, 12, 12))
    for image, target in enumerate(TARGETS):
        shapes = small_targets([target], 12)
        for label in range(K):
            of_class = [shape for shape, found in zip(shapes, target["labels"], strict=True) if found == label]
            expected = torch.stack(of_class).amax(0) if of_class else torch.zeros(12, 12)
            assert torch.equal(maps[image, label], expected)
    assert maps.amax() == 1


def without_mining() -> ScoreCriterion:
    return ScoreCriterion(classification=SoftmaxCrossEntropyLoss(), box_loss=SmoothL1Loss(beta=1.0, weight=1.5))


def without_normalisation() -> MaskCriterion:
    return MaskCriterion(mask_loss=MaskCrossEntropyLoss(), balance=ConstantBalance(6.125))


@pytest.mark.parametrize("semantic", [None, SemanticCriterion()])
@pytest.mark.parametrize("mask_criterion", [yolact_mask_criterion, without_normalisation])
@pytest.mark.parametrize("criterion", [yolact_criterion, without_mining])
def test_every_row_of_table_6_is_a_choice_of_parts(criterion, mask_criterion, semantic, images):
    model = a_model(criterion=criterion(), masks=masks(criterion=mask_criterion(), limit=100), semantic=semantic)
    losses = model(images, TARGETS)
    assert sorted(losses) == ["box", "classification", "mask", *(["semantic"] if semantic else [])]
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_parts_of_the_original_do_what_they_are_for(images):
    """Without them: no fewer negatives, and small objects count less."""
    full, mined = (
        a_model(criterion=make())(images, TARGETS)["classification"] for make in (without_mining, yolact_criterion)
    )
    assert full > 3 * mined
    make = {"criterion": yolact_criterion()}
    plain, normalised = (
        a_model(**make, masks=masks(criterion=part()))(images, TARGETS)["mask"]
        for part in (without_normalisation, yolact_mask_criterion)
    )
    assert normalised > 3 * plain


@pytest.mark.parametrize("quality", [Uniform(), BoxIoU(), MaskDice(), MeanOf([BoxIoU(), MaskDice()])], ids=str)
def test_every_label_of_table_a16(quality, images):
    model = a_model(criterion=RankingCriterion(quality=quality))
    labels = []
    rank = model.criterion.ranking.ranked_at

    def watch(logits, index, quality, **others):
        labels.append(quality)
        return rank(logits, index, quality, **others)

    model.criterion.ranking.ranked_at = watch
    model.backbone.eval()
    losses = model(images, TARGETS)
    with torch.no_grad():
        found = outputs_of(model, images, TARGETS)
    if isinstance(quality, MaskDice):
        drawn = slow_masks(found, torch.cat([target["boxes"] for target in TARGETS]))
        shapes = small_targets(TARGETS, found["prototypes"].shape[-1])
        expected = [
            loops.dice([v for row in mask for v in row], shapes[number].flatten().tolist(), eps=1e-5)
            for mask, number in zip(drawn, found["objects"].tolist(), strict=True)
        ]
        assert labels[0].tolist() == pytest.approx(expected, rel=1e-4)
    assert len(labels[0]) == len(found["index"])
    assert float(losses.logs["quality"]) == pytest.approx(float(labels[0].mean()))


def test_dice_labels_need_all_masks(images):
    model = a_model(criterion=RankingCriterion(quality=MaskDice()), masks=masks(limit=1))
    with pytest.raises(ValueError, match="without a limit"):
        model(images, TARGETS)


def test_the_limit_holds_for_each_image_and_masks_keep_their_weights(images):
    model = a_model(masks=masks(limit=2))
    seen = {}
    forward = model.masks.criterion.forward

    def watch(predictions, assignment, stage):
        seen.update(rows=assignment.rows, weights=stage.weights, masks=len(predictions.logits))
        return forward(predictions, assignment, stage)

    model.masks.criterion.forward = watch
    model.backbone.eval()
    model(images, TARGETS)
    with torch.no_grad():
        found = outputs_of(model, images, TARGETS)
    assert len(seen["weights"]) == len(found["index"]) > 4
    assert seen["masks"] == len(seen["rows"]) == 4
    assert found["image"][seen["rows"]].tolist() == [0, 0, 1, 1]
    assert (seen["rows"].diff() > 0).all()


def test_batch_statistics_train_and_nothing_is_frozen(images):
    model = a_model()
    assert all(parameter.requires_grad for parameter in model.parameters())
    norm = next(m for m in model.backbone.modules() if isinstance(m, torch.nn.BatchNorm2d))
    before = norm.running_mean.clone()
    model(images, TARGETS)
    assert not torch.equal(norm.running_mean, before)


def test_masks_of_detections_are_mixed_and_cut_to_their_boxes():
    """One image of odd size: each mask is the upsampled mixture where the box, a cell larger, allows it."""
    torch.manual_seed(4)
    model = a_model().eval()
    image = torch.rand(3, 77, 90)
    with torch.no_grad():
        found = model([image])[0]
        maps = model.neck(model.backbone(model.preprocess([image]).pixels))
        prototypes = model.masks.network(maps[0])[0]
    masks, (height, width) = found["masks"], prototypes.shape[1:]
    assert masks.shape == (len(found["boxes"]), 77, 90)
    assert masks.dtype == torch.bool
    assert (masks.any(2).any(1)).sum() > 0
    for mask, box in zip(masks, found["boxes"].tolist(), strict=True):
        allowed = torch.tensor(
            loops.cut(
                [[1.0] * width] * height, [s * f for s, f in zip(box, [width / 90, height / 77] * 2, strict=True)]
            )
        )
        reach = F.interpolate(allowed[None, None], size=(77, 90), mode="bilinear", align_corners=False)[0, 0]
        assert not (mask & (reach <= 0.5)).any()


def test_bilinear_upsampling_in_the_pyramid():
    neck = FPN([8, 8], channels=4, upsampling=Bilinear())
    maps = [torch.randn(1, 8, 7, 9), torch.randn(1, 8, 4, 5)]
    fine, coarse = (lateral(level) for lateral, level in zip(neck.laterals, maps, strict=True))
    expected = neck.outputs[0](fine + F.interpolate(coarse, size=(7, 9), mode="bilinear", align_corners=False))
    torch.testing.assert_close(neck(maps)[0], expected)
    assert list(neck.state_dict()) == list(FPN([8, 8], channels=4).state_dict())


def test_half_precision_keeps_losses_finite(images):
    model = a_model(semantic=SemanticCriterion())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(images, TARGETS)
    sum(losses.values()).backward()
    assert all(math.isfinite(value.detach()) for value in losses.values())
