"""Every detector with every kind of criterion: emptiness, crowds, odd sizes; finite losses, a gradient everywhere."""

from __future__ import annotations

import copy
import inspect
from functools import partial

import pytest
import torch
from torch import Tensor

from rankdet.criteria import (
    BoxesPerPositive,
    BoxIoU,
    Centerness,
    ClassScore,
    ConstantBalance,
    Correlated,
    RankingCriterion,
    ScoreCriterion,
)
from rankdet.losses import APELoss, GHMClassificationLoss, GHMRegressionLoss, IABCELoss, SpearmanLoss, VarifocalLoss
from rankdet.losses.boxes import GIoULoss, SmoothL1Loss
from rankdet.losses.classification import QualityFocalLoss
from rankdet.models import (
    ATSS,
    FSAF,
    PAA,
    RFCN,
    SSD300,
    YOLACT,
    CascadeMaskRCNN,
    CascadeRCNN,
    DoubleHeadRCNN,
    DynamicMaskDetector,
    DynamicRCNN,
    FasterRCNN,
    FoveaBox,
    FSAFRetinaNet,
    GridBranch,
    GridRCNN,
    GuidedFasterRCNN,
    GuidedRetinaNet,
    HybridTaskCascade,
    LibraRCNN,
    M2Det,
    MaskRCNN,
    MaskScoringRCNN,
    Postprocess,
    ProposalSelection,
    RegionSettings,
    RetinaNet,
    RoIStage,
    ScratchDet300,
    SemanticBranch,
    SOLOv2,
    SOLOv2Light,
    TridentNet,
    TwoStageDetector,
    build,
    dice_ranking_criterion,
    double_head_criterion,
    dynamic_criterion,
    fovea_criterion,
    fsaf_criterion,
    libra_criterion,
    paa_criterion,
    rpn_cross_entropy,
    smooth_softmax_criterion,
    softmax_criterion,
    solo_criterion,
    ssd_criterion,
    yolact_criterion,
)
from rankdet.nn import MLFPN, DoubleHead, DoublePooler, GridHead, GroupNorm, SemanticHead, SSDHead, SSDLayer, SSDNeck
from rankdet.nn.solov2 import KernelHead
from tests.models.adapted import FastRCNNOnGrid, HTCOfAnyImages, RPNOfAnyClasses

K = 3
SMALL = {"num_classes": K, "backbone": "test_resnet", "channels": 16}


def ranking() -> RankingCriterion:
    return RankingCriterion()


def focal() -> ScoreCriterion:
    return ScoreCriterion(box_loss=SmoothL1Loss(beta=0.11))


def quality_focal() -> ScoreCriterion:
    return ScoreCriterion(classification=QualityFocalLoss(), weighting=BoxIoU())


def focal_with_centerness() -> ScoreCriterion:
    return ScoreCriterion(box_loss=GIoULoss(weight=2.0), weighting=Centerness(), judged=Centerness())


def harmonised() -> ScoreCriterion:
    return ScoreCriterion(
        classification=GHMClassificationLoss(), box_loss=GHMRegressionLoss(), normaliser=BoxesPerPositive()
    )


def adaptive_pairs() -> RankingCriterion:
    return RankingCriterion(ranking=APELoss(), weighting=ClassScore(), balance=ConstantBalance())


def correlated_varifocal() -> Correlated:
    return Correlated(ScoreCriterion(classification=VarifocalLoss()), correlation=SpearmanLoss())


def ia_bce() -> ScoreCriterion:
    return ScoreCriterion(classification=IABCELoss(), weighting=BoxIoU())


def ranking_with_judge() -> RankingCriterion:
    return RankingCriterion(judged=BoxIoU())


PAIRS = [
    (recipe, criterion)
    for recipe in (ATSS, RetinaNet)
    for criterion in (ranking, focal, quality_focal, focal_with_centerness)
]
PAIRS += [(RetinaNet, harmonised), (RetinaNet, adaptive_pairs), (FoveaBox, correlated_varifocal), (PAA, ia_bce)]
PAIRS += [(PAA, criterion) for criterion in (ranking, ranking_with_judge, quality_focal, paa_criterion)]
PAIRS += [(FoveaBox, criterion) for criterion in (ranking, quality_focal, fovea_criterion)]
PAIRS += [(FSAF, criterion) for criterion in (ranking, fsaf_criterion, quality_focal)]
PAIRS += [(FSAFRetinaNet, criterion) for criterion in (ranking, focal)]
PAIRS += [(SSD300, criterion) for criterion in (ranking, ssd_criterion, focal_with_centerness)]
PAIRS += [(ScratchDet300, criterion) for criterion in (ranking, ssd_criterion)]
PAIRS += [(M2Det, criterion) for criterion in (ranking, ssd_criterion)]
PAIRS += [(FasterRCNN, criterion) for criterion in (ranking, softmax_criterion, focal)]
PAIRS += [
    (recipe, criterion)
    for recipe in (CascadeRCNN, MaskRCNN, CascadeMaskRCNN)
    for criterion in (ranking, softmax_criterion)
]
PAIRS += [(DoubleHeadRCNN, criterion) for criterion in (ranking, double_head_criterion)]
PAIRS += [(MaskScoringRCNN, criterion) for criterion in (ranking, softmax_criterion)]
PAIRS += [(GridRCNN, criterion) for criterion in (ranking, softmax_criterion)]
PAIRS += [(HybridTaskCascade, criterion) for criterion in (ranking, softmax_criterion)]
PAIRS += [(HTCOfAnyImages, smooth_softmax_criterion)]
PAIRS += [(GuidedFasterRCNN, criterion) for criterion in (ranking, softmax_criterion)]
PAIRS += [(GuidedRetinaNet, criterion) for criterion in (ranking, focal)]
PAIRS += [(TridentNet, criterion) for criterion in (ranking, softmax_criterion)]
PAIRS += [(RFCN, criterion) for criterion in (ranking, smooth_softmax_criterion)]
PAIRS += [(DynamicRCNN, criterion) for criterion in (ranking, dynamic_criterion)]
PAIRS += [(LibraRCNN, criterion) for criterion in (ranking, libra_criterion)]
PAIRS += [(FastRCNNOnGrid, criterion) for criterion in (ranking, softmax_criterion)]
PAIRS += [(RPNOfAnyClasses, criterion) for criterion in (ranking, rpn_cross_entropy)]
PAIRS += [(YOLACT, criterion) for criterion in (ranking, yolact_criterion, quality_focal, focal_with_centerness)]
PAIRS += [(SOLOv2, criterion) for criterion in (dice_ranking_criterion, ranking, solo_criterion, focal_with_centerness)]
PAIRS += [(SOLOv2Light, criterion) for criterion in (dice_ranking_criterion, quality_focal)]
# Regions, cells and channels are few, so that the suite stays quick.
HALVING = SSDLayer(channels=16, stride=2, padding=1)
FEW = {
    SSD300: {"neck": partial(SSDNeck, layers=[HALVING, HALVING, SSDLayer(channels=16), SSDLayer(channels=16)])},
    ScratchDet300: {"head": partial(SSDHead, norm=GroupNorm())},  # batches of one cell have no statistics
    M2Det: {"neck": partial(MLFPN, channels=8, networks=2, norm=GroupNorm())},
    TwoStageDetector: {"settings": RegionSettings(proposals=ProposalSelection(keep=30))},
    DoubleHeadRCNN: {
        "stage": partial(RoIStage, head=partial(DoubleHead, width=32, bottlenecks=1), pooler=DoublePooler)
    },
    GridRCNN: {
        "stage": partial(RoIStage, branches=[partial(GridBranch, head=partial(GridHead, channels=4, stacked=1))])
    },
    HTCOfAnyImages: {"semantic_branch": SemanticBranch(head=partial(SemanticHead, num_classes=3, stacked=1))},
    RPNOfAnyClasses: {"postprocess": Postprocess(nms_threshold=0.7, max_detections=50)},
    DynamicMaskDetector: {
        "head": partial(KernelHead, grids=(12, 10, 8, 6, 4), width=16, stacked=2, kernel_channels=16)
    },
    YOLACT: {"image_size": 96},
}


def make(recipe, criterion) -> torch.nn.Module:
    """A small detector."""
    few = {name: value for kind, some in FEW.items() if issubclass(recipe, kind) for name, value in some.items()}
    taken = inspect.signature(recipe).parameters
    return recipe(criterion=criterion(), **{name: value for name, value in (SMALL | few).items() if name in taken})


every_pair = pytest.mark.parametrize(("recipe", "criterion"), PAIRS, ids=lambda part: part.__name__)


def target(count: int, side: int, *, crowd: bool = False) -> dict[str, Tensor]:
    """``count`` random objects within a square of ``side`` pixels: of the first of `images`, or of the second."""
    generator = torch.Generator().manual_seed(count)
    corners = torch.rand(count, 2, generator=generator) * side * 0.6
    sizes = torch.rand(count, 2, generator=generator) * side * 0.35 + 3
    boxes = torch.cat((corners, corners + sizes), 1)
    height, width = (70, 53) if side == 50 else (side, side)
    along = [torch.arange(length) + 0.5 for length in (width, height)]
    inside = [(pixels > boxes[:, i, None]) & (pixels < boxes[:, i + 2, None]) for i, pixels in enumerate(along)]
    return {
        "boxes": boxes,
        "masks": inside[1][:, :, None] & inside[0][:, None, :],
        "labels": torch.arange(count) % K,
        "iscrowd": torch.full((count,), crowd),
    }


def two_images() -> list[Tensor]:
    """Of both types and of different sizes, always the same."""
    torch.manual_seed(0)
    return [torch.rand(3, 96, 96), torch.randint(0, 256, (3, 70, 53), dtype=torch.uint8)]


@pytest.fixture
def images() -> list[Tensor]:
    return two_images()


@every_pair
@pytest.mark.parametrize(
    ("first", "second"), [(0, 0), (2, 0), (300, 1)], ids=["no objects", "one empty image", "crowded"]
)
def test_a_step_is_finite_and_reaches_every_parameter(recipe, criterion, first, second, images):
    model = make(recipe, criterion)
    losses = model(images, [target(first, 96), target(second, 50)])
    total = sum(losses.values())
    assert torch.isfinite(total)
    total.backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert not without, f"no gradient reaches {without[:3]}"
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)


@every_pair
def test_names_of_the_losses_do_not_depend_on_the_batch(recipe, criterion, images):
    model = make(recipe, criterion)
    empty = model(images, [target(0, 96), target(0, 50)])
    full = model(images, [target(4, 96), target(1, 50)])
    assert list(empty) == list(full)
    assert set(empty.logs) == set(full.logs)
    assert all(not value.requires_grad for value in full.logs.values())


@pytest.mark.parametrize("recipe", [ATSS, RetinaNet, PAA, FoveaBox, FSAF, SSD300])
def test_ranking_without_objects_is_zero(recipe, images):
    losses = make(recipe, ranking)(images, [target(0, 96), target(0, 50)])
    assert {name: float(value.detach()) for name, value in losses.items()} == dict.fromkeys(losses, 0.0)


def spare_crowds(model: torch.nn.Module) -> None:
    """Assigners that ignore crowd regions shall take them for ordinary background."""
    for module in model.modules():
        candidates = getattr(getattr(module, "assigner", None), "candidates", None)
        if hasattr(candidates, "crowd_scale"):
            candidates.crowd_scale = None


@every_pair
def test_crowd_regions_are_not_learned_as_objects(recipe, criterion, images):
    """Only crowd: the same losses as without any object."""
    model = make(recipe, criterion)
    same = copy.deepcopy(model)  # some criteria remember the step before
    torch.manual_seed(1)
    for module in (model, same):
        spare_crowds(module)
    crowd = model(images, [target(3, 96, crowd=True), target(0, 50)])
    torch.manual_seed(1)
    empty = same(images, [target(0, 96), target(0, 50)])
    for name, value in empty.items():
        torch.testing.assert_close(crowd[name], value)


@every_pair
def test_detections_follow_the_convention(recipe, criterion, images):
    model = make(recipe, criterion).eval()
    with torch.no_grad():
        detections = model(images)
    assert len(detections) == 2
    for image, found in zip(images, detections, strict=True):
        boxes, logits = found["boxes"], found["logits"]
        assert 0 < len(boxes) <= model.postprocess.max_detections
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert (boxes >= 0).all()
        assert (boxes[:, 2] <= image.shape[2]).all()
        assert (boxes[:, 3] <= image.shape[1]).all()
        assert (logits.diff() <= 0).all()
        torch.testing.assert_close(found["scores"], logits.sigmoid())
        assert found["labels"].min() >= 0
        assert found["labels"].max() < K


@every_pair
def test_an_image_is_detected_alike_alone_and_in_a_batch_of_its_size(recipe, criterion):
    torch.manual_seed(3)
    model = make(recipe, criterion).eval()
    pair = [torch.rand(3, 64, 64), torch.rand(3, 64, 64)]
    with torch.no_grad():
        together, alone = model(pair)[1], model(pair[1:])[0]
    torch.testing.assert_close(together["logits"][:20], alone["logits"][:20], rtol=1e-4, atol=1e-4)


@every_pair
def test_a_plan_builds_the_same_model_again(recipe, criterion):
    torch.manual_seed(0)
    model = make(recipe, criterion).eval()
    again = build(model.plan(), trusted=("rankdet", "tests")).eval()
    assert again.plan() == model.plan()
    again.load_state_dict(model.state_dict())
    with torch.no_grad():
        (before,), (after,) = (detector([torch.ones(3, 64, 64)]) for detector in (model, again))
    assert all(torch.equal(before[name], after[name]) for name in before)


ODD_SIZES = [[(33, 97)], [(65, 64), (7, 130)], [(1, 1), (50, 3)]]


@every_pair
@pytest.mark.parametrize("sizes", ODD_SIZES, ids=str)
def test_images_of_any_size_are_learned_and_detected(recipe, criterion, sizes):
    torch.manual_seed(0)
    images = [torch.rand(3, height, width) for height, width in sizes]
    model = make(recipe, criterion)
    targets = [whole_image(height, width) for height, width in sizes]
    losses = model(images, targets)
    assert all(torch.isfinite(value) for value in losses.values())
    sum(losses.values()).backward()
    with torch.no_grad():
        detections = model.eval()(images)
    for (height, width), found in zip(sizes, detections, strict=True):
        assert (found["boxes"] <= torch.tensor([width, height, width, height])).all()
        if "masks" in found:
            assert found["masks"].shape == (len(found["boxes"]), height, width)


def whole_image(height: int, width: int) -> dict[str, Tensor]:
    """One object that fills its image."""
    return {
        "boxes": torch.tensor([[0.0, 0, width, height]]),
        "masks": torch.ones(1, height, width, dtype=torch.bool),
        "labels": torch.tensor([1]),
    }


@pytest.mark.parametrize("recipe", [ATSS, *(pytest.param(r, marks=pytest.mark.long) for r in (FasterRCNN, YOLACT))])
def test_a_compiled_backbone_gives_the_same_losses(recipe, images):
    model = make(recipe, ranking)
    targets = [target(3, 96), target(1, 50)]
    torch.manual_seed(0)
    plain = model(images, targets)
    keys = list(model.state_dict())
    model.backbone.compile(backend="aot_eager", fullgraph=True)
    torch.manual_seed(0)
    compiled = model(images, targets)
    for name, loss in plain.items():
        torch.testing.assert_close(compiled[name], loss, rtol=1e-4, atol=1e-5)
    sum(compiled.values()).backward()
    assert all(p.grad is not None for p in model.backbone.parameters())
    assert list(model.state_dict()) == keys


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": torch.tensor([K])}, r"0\.\.2"),
        ({"labels": torch.tensor([-1])}, "Labels that start at 1"),
        ({"boxes": torch.tensor([[5.0, 5.0, 5.0, 9.0]])}, "x1 < x2"),
        ({"boxes": torch.tensor([[5.0, 5.0, torch.nan, 9.0]])}, "finite"),
        ({"boxes": torch.zeros(1, 5)}, r"\(G, 4\)"),
        ({"labels": torch.zeros(2, dtype=torch.long)}, r"\(G,\)"),
    ],
)
def test_wrong_targets_are_named(change, message):
    good = {"boxes": torch.tensor([[1.0, 1.0, 9.0, 9.0]]), "labels": torch.tensor([0]), "image_id": 77}
    with pytest.raises(ValueError, match=message) as caught:
        RetinaNet(**SMALL)([torch.rand(3, 32, 32)], [{**good, **change}])
    assert "image 77" in str(caught.value)


def test_wrong_calls_are_explained():
    model = RetinaNet(**SMALL)
    with pytest.raises(ValueError, match=r"model\.eval"):
        model([torch.rand(3, 32, 32)])
    with pytest.raises(ValueError, match="one target per image"):
        model([torch.rand(3, 32, 32)], [])
    with pytest.raises(ValueError, match=r"images\[0\]"):
        model([torch.rand(32, 32)], [target(1, 32)])
    with pytest.raises(TypeError, match="uint8"):
        model([torch.zeros(3, 32, 32, dtype=torch.int32)], [target(1, 32)])
    with pytest.raises(ValueError, match="empty"):
        model([], [])
    with pytest.raises(ValueError, match="background does not count"):
        RetinaNet(num_classes=0)
