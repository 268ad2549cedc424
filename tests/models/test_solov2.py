"""SOLOv2: labels and weights stay with their cells, losses and detections against loops, boxes around the masks."""

from __future__ import annotations

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from rankdet.assign import CentreCells, FirstObject, LastObject
from rankdet.criteria import BoxIoU, ConstantBalance, MaskDice, RankingCriterion
from rankdet.models import MatrixPostprocess, SOLOv2, SOLOv2Light, solo_criterion
from rankdet.nn.solov2 import KernelHead, MaskFeatures, coordinates
from tests.models.test_yolact import objects
from tests.reference import masks as loops

K = 3
SIDE = 96
GRIDS = (12, 10, 8, 6, 4)
RANGES = ((1, 30), (15, 45), (25, 70), (40, 80), (60, 999))


def head_of(grids: tuple[int, ...]) -> partial[KernelHead]:
    return partial(KernelHead, grids=grids, width=16, stacked=1, kernel_channels=8)


def a_model(**arguments) -> SOLOv2:
    torch.manual_seed(0)
    small = {"num_classes": K, "backbone": "test_resnet", "channels": 16, "head": head_of(GRIDS)}
    criterion = arguments.get("criterion")
    conflict = FirstObject() if criterion is None or isinstance(criterion, RankingCriterion) else LastObject()
    assigner = CentreCells(scale_ranges=RANGES, conflict=conflict)
    return SOLOv2(**{**small, "assigner": assigner, **arguments})


@pytest.fixture
def images() -> list[Tensor]:
    torch.manual_seed(1)
    return [torch.rand(3, SIDE, SIDE), torch.rand(3, SIDE, SIDE)]


TARGETS = [objects(6, seed=1), objects(4, seed=2)]


def watched(model: SOLOv2) -> dict[str, Tensor]:
    """Filled, whenever the model trains, with what its ranking loss and its mask criterion are given."""
    seen: dict[str, Tensor] = {}
    rank, judge = model.criterion.ranking.ranked_at, model.stage.mask_criterion.forward

    def ranked_at(logits, index, quality, **others):
        seen.update(index=index, quality=quality)
        return rank(logits, index, quality, **others)

    def forward(predictions, assignment, stage):
        seen.update(rows=assignment.rows, weights=stage.weights)
        return judge(predictions, assignment, stage)

    model.criterion.ranking.ranked_at = ranked_at
    model.stage.mask_criterion.forward = forward
    return seen


def cells_of(targets) -> dict[int, int]:
    """The object (of the batch) of each positive cell (of the batch), by the rule: the first one keeps it."""
    owner: dict[int, int] = {}
    start = 0
    for image, target in enumerate(targets):
        claims = loops.cells(
            target["boxes"].tolist(), target["masks"].tolist(), canvas=(SIDE, SIDE), grids=GRIDS, scale_ranges=RANGES
        )
        for cell, number in claims:
            owner.setdefault(cell + image * sum(side * side for side in GRIDS), number + start)
        start += len(target["boxes"])
    return dict(sorted(owner.items()))


def outputs_of(model: SOLOv2, images: list[Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Class logits (P, K), kernels (P, E) and mask features (N, E, h, w)."""
    with torch.no_grad():
        batch = model.preprocess(images)
        found = model.stage.predict(model.neck(model.backbone(batch.pixels)), batch)
    return found.predictions.logits, found.kernels, found.features


def slow_dice(model: SOLOv2, images: list[Tensor], targets) -> list[float]:
    """Dice of each positive cell with its own object, cell by cell."""
    _, kernels, features = outputs_of(model, images)
    shapes = torch.cat([target["masks"] for target in targets]).float().unfold(1, 4, 4).unfold(2, 4, 4)
    shapes = (shapes[..., 1:3, 1:3].mean((3, 4)) >= 0.5).float()
    cells = sum(side * side for side in GRIDS)
    dices = []
    for cell, number in cells_of(targets).items():
        drawn = torch.einsum("e,ehw->hw", kernels[cell], features[cell // cells]).sigmoid()
        dices.append(loops.dice(drawn.flatten().tolist(), shapes[number].flatten().tolist(), eps=2e-3))
    return dices


def test_each_positive_is_labelled_with_the_dice_of_its_own_cell(images):
    """Several objects share levels, not in raster order: the published code would permute these labels."""
    model = a_model()
    seen = watched(model)
    model(images, TARGETS)
    owner = cells_of(TARGETS)
    assert (seen["index"] // K).tolist() == list(owner)
    labels = torch.cat([target["labels"] for target in TARGETS])
    assert (seen["index"] % K).tolist() == labels[list(owner.values())].tolist()
    expected = slow_dice(model, images, TARGETS)
    assert seen["quality"].tolist() == pytest.approx(expected, rel=1e-4)
    by_object = sorted(range(len(expected)), key=lambda i: list(owner.values())[i])
    assert [expected[i] for i in by_object] != expected, "the example would not tell the orders apart"


def test_the_order_of_the_objects_does_not_matter_where_no_cell_is_shared(images):
    apart = {
        "boxes": torch.tensor([[64.0, 60, 90, 92], [4, 6, 30, 34], [60, 2, 92, 30]]),
        "labels": torch.tensor([1, 0, 2]),
        "masks": torch.zeros(3, SIDE, SIDE, dtype=torch.bool),
    }
    for mask, (x1, y1, x2, y2) in zip(apart["masks"], apart["boxes"].int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = True
        mask[y1 : y1 + 9, x1 : x1 + 5] = False
    order = torch.tensor([1, 2, 0])
    model = a_model()
    seen = watched(model)
    first = model(images[:1], [apart])
    quality = seen["quality"]
    second = model(images[:1], [{key: value[order] for key, value in apart.items()}])
    assert len(quality) > 3
    torch.testing.assert_close(seen["quality"], quality)
    for name, value in first.items():
        torch.testing.assert_close(second[name], value)


def test_changing_one_cell_changes_its_label_alone(images):
    model = a_model()
    seen = watched(model)
    model(images, TARGETS)
    before, cells = seen["quality"], seen["index"] // K
    predict = model.stage.predict
    victim = len(cells) // 2

    def bent(maps, batch):
        found = predict(maps, batch)
        return found._replace(kernels=found.kernels.index_copy(0, cells[victim : victim + 1], torch.full((1, 8), 50.0)))

    model.stage.predict = bent
    model(images, TARGETS)
    changed = (seen["quality"] != before).nonzero().squeeze(1).tolist()
    assert changed == [victim]


def test_mask_loss_equals_rank_and_sort_and_there_is_no_box_loss(images):
    losses = a_model()(images, TARGETS)
    assert sorted(losses) == ["mask", "ranking", "sorting"]
    torch.testing.assert_close(losses["mask"], losses["ranking"] + losses["sorting"])


def test_mask_loss_is_weighted_by_the_score_of_its_cell(images):
    model = a_model()
    seen = watched(model)
    model.stage.mask_criterion.balance = ConstantBalance()
    loss = model(images, TARGETS)["mask"]
    logits, _, _ = outputs_of(model, images)
    weights = logits[list(cells_of(TARGETS))].sigmoid().amax(1)
    torch.testing.assert_close(seen["weights"], weights)
    assert seen["rows"].tolist() == list(range(len(weights)))
    expected = (weights * (1 - torch.tensor(slow_dice(model, images, TARGETS)))).sum() / weights.sum()
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)


def test_the_original_is_focal_loss_and_three_times_dice(images):
    """Focal loss over positives and one more; where two objects share a cell both masks count."""
    model = a_model(criterion=solo_criterion())
    assert isinstance(model.stage.assigner.conflict, LastObject)
    twin = {key: torch.cat((value, value[:1])) for key, value in TARGETS[0].items()}
    twin["labels"][-1] = (twin["labels"][0] + 1) % K
    with torch.no_grad():
        losses = model(images[:1], [twin])
    logits, kernels, features = outputs_of(model, images[:1])
    claims = loops.cells(
        twin["boxes"].tolist(), twin["masks"].tolist(), canvas=(SIDE, SIDE), grids=GRIDS, scale_ranges=RANGES
    )
    owner = dict(claims)
    assert len(owner) < len(claims)
    targets = torch.zeros_like(logits)
    for cell, number in owner.items():
        targets[cell, twin["labels"][number]] = 1
    p = logits.sigmoid()
    focal = -(0.25 * targets * (1 - p) ** 2 * p.log() + 0.75 * (1 - targets) * p**2 * (1 - p).log())
    torch.testing.assert_close(losses["classification"], focal.sum() / (len(owner) + 1), rtol=1e-4, atol=1e-6)
    shapes = (twin["masks"].float().unfold(1, 4, 4).unfold(2, 4, 4)[..., 1:3, 1:3].mean((3, 4)) >= 0.5).float()
    dices = [
        loops.dice(
            torch.einsum("e,ehw->hw", kernels[cell], features[0]).sigmoid().flatten().tolist(),
            shapes[number].flatten().tolist(),
            eps=2e-3,
        )
        for cell, number in claims
    ]
    assert float(losses["mask"]) == pytest.approx(3 * (1 - sum(dices) / len(dices)), rel=1e-4)


@pytest.mark.parametrize("quality", [MaskDice(eps=2e-3), BoxIoU()], ids=str)
def test_the_log_tells_the_quality(quality, images):
    model = a_model(criterion=RankingCriterion(quality=quality))
    seen = watched(model)
    losses = model(images, TARGETS)
    assert float(losses.logs["quality"]) == pytest.approx(float(seen["quality"].mean()))
    assert 0 <= float(seen["quality"].min()) <= float(seen["quality"].max()) <= 1


def slow_detections(model: SOLOv2, image: Tensor) -> list[tuple[float, int, set[int]]]:
    """(score, class, cells of the mask) of each detection, by the published steps, nothing thresholded."""
    logits, kernels, features = outputs_of(model, [image])
    start, found = 0, []
    for side, least in zip(model.stage.head.grids, (8, 8, 16, 32, 32), strict=True):
        level = logits[start : start + side * side].sigmoid().view(side, side, K)
        for row in range(side):
            for column in range(side):
                window = level[max(row - 1, 0) : row + 1, max(column - 1, 0) : column + 1]
                drawn = torch.einsum("e,ehw->hw", kernels[start + row * side + column], features[0]).sigmoid()
                inside = set((drawn.flatten() > 0.5).nonzero().squeeze(1).tolist())
                if len(inside) <= least:
                    continue
                sureness = float(drawn.flatten()[list(inside)].mean())
                for label in range(K):
                    if level[row, column, label] == window[..., label].amax():
                        found.append((float(level[row, column, label]) * sureness, label, inside))
        start += side * side
    found.sort(key=lambda detection: -detection[0])
    scores, labels, masks = zip(*found, strict=True)
    decayed = loops.matrix_nms(list(masks), scores, labels, f=lambda o: math.exp(-2 * o * o))
    return sorted(zip(decayed, labels, masks, strict=True), key=lambda detection: -detection[0])


@pytest.mark.parametrize("seed", range(2))
def test_detections_equal_the_published_steps(seed):
    model = a_model(
        head=head_of((5, 4, 4, 3, 2)), postprocess=MatrixPostprocess(pre_nms=100000, max_detections=100000)
    ).eval()
    torch.manual_seed(seed)
    for parameter in (model.stage.head.generate.weight, model.stage.head.classify.weight):
        torch.nn.init.normal_(parameter, std=0.3)
    image = torch.rand(3, SIDE, SIDE)
    expected = slow_detections(model, image)
    with torch.no_grad():
        found = model([image])[0]
    assert len(expected) > 20
    assert found["scores"].tolist() == pytest.approx(
        [score for score, _, _ in expected][: len(found["scores"])], rel=1e-3
    )
    assert found["labels"].tolist() == [label for _, label, _ in expected][: len(found["labels"])]
    torch.testing.assert_close(found["logits"].sigmoid(), found["scores"])


def test_boxes_enclose_the_masks():
    torch.manual_seed(2)
    model = a_model().eval()
    torch.nn.init.normal_(model.stage.head.generate.weight, std=0.3)
    with torch.no_grad():
        found = model([torch.rand(3, 80, 61)])[0]
    assert found["masks"].shape[1:] == (80, 61)
    assert len(found["masks"]) > 5
    for mask, (x1, y1, x2, y2) in zip(found["masks"], found["boxes"].int().tolist(), strict=True):
        assert mask[y1:y2, x1:x2].sum() == mask.sum() > 0
        assert mask[y1].any()
        assert mask[y2 - 1].any()
        assert mask[:, x1].any()
        assert mask[:, x2 - 1].any()


def test_thresholds_take_away_from_below_only():
    torch.manual_seed(2)
    model = a_model().eval()
    torch.nn.init.normal_(model.stage.head.classify.weight, std=0.5)
    image = torch.rand(3, SIDE, SIDE)
    with torch.no_grad():
        everything = model([image])[0]
        middle = float(everything["scores"].median())
        model.postprocess.score_threshold = middle
        above = model([image])[0]
    expected = everything["scores"] > middle
    torch.testing.assert_close(above["scores"], everything["scores"][expected])
    torch.testing.assert_close(above["boxes"], everything["boxes"][expected])
    with pytest.raises(ValueError, match="class_threshold"):
        MatrixPostprocess(class_threshold=1.0)


def test_classes_below_the_class_threshold_are_never_drawn():
    postprocess = MatrixPostprocess(class_threshold=0.5, pre_nms=5)
    logits = torch.tensor([[[0.2, -0.1], [-torch.inf, 3.0], [0.0, 1.0]], [[0.0, 0.0], [0.0, 0.0], [0.0, 1.0]]])
    assert [of_image.tolist() for of_image in postprocess.candidates(logits)] == [[3, 5, 0], [5]]
    assert MatrixPostprocess(pre_nms=2).candidates(logits)[0].tolist() == [3, 5]
    assert [len(of_image) for of_image in MatrixPostprocess().candidates(logits)] == [5, 6]


def test_the_head_resizes_to_its_grids_and_sees_coordinates():
    head = KernelHead(8, num_logits=K, grids=(7, 6, 5, 4, 3), width=16, stacked=2, kernel_channels=4)
    maps = [torch.randn(2, 8, side, side + 2) for side in (24, 12, 6, 4, 2)]
    outputs = head(maps)
    cells = 7 * 7 + 6 * 6 + 5 * 5 + 4 * 4 + 3 * 3
    assert outputs.logits.shape == (2, cells, K)
    assert outputs.kernels.shape == (2, cells, 4)
    assert outputs.quality_logits.shape == (2, cells, 0)
    torch.testing.assert_close(outputs.logits.sigmoid().mean(), torch.tensor(0.01), atol=5e-3, rtol=0)
    level = F.interpolate(
        torch.cat((maps[1], coordinates(maps[1])), 1), size=(6, 6), mode="bilinear", align_corners=False
    )
    expected = head.generate(head.kernel_tower(level)).flatten(2).mT
    torch.testing.assert_close(outputs.kernels[:, 49:85], expected)
    with pytest.raises(ValueError, match="a map each"):
        head(maps[:4])


def test_mask_features_have_the_finest_size():
    network = MaskFeatures(8, width=8, out_channels=6)
    maps = [torch.randn(2, 8, side, 2 * side) for side in (32, 16, 8, 4, 2)]
    assert network(maps).shape == (2, 6, 32, 64)
    assert network.levels[3][0].in_channels == 10


def test_light_is_lighter():
    light = SOLOv2Light(num_classes=K, backbone="test_resnet", channels=32)
    assert light.stage.head.kernel_channels == 16
    assert len(light.stage.head.class_tower) == 6
    assert light.stage.assigner.scale_ranges[-1] == (224, 896)
    with pytest.raises(ValueError, match="5 levels"):
        SOLOv2(num_classes=K, backbone="test_resnet", head=head_of((4, 3)))


def test_a_positive_without_a_trace_of_its_mask_is_still_one(images):
    """Quality 0 is a label, not a reason to become a negative."""
    model = a_model()
    seen = watched(model)
    torch.nn.init.constant_(model.stage.head.generate.bias, -100.0)
    losses = model(images, TARGETS)
    assert seen["quality"].max() < 1e-6
    assert float(losses["ranking"].detach()) > 0


def test_half_precision_keeps_losses_finite(images):
    model = a_model()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model(images, TARGETS)
    sum(losses.values()).backward()
    assert all(math.isfinite(value.detach()) for value in losses.values())
