"""Names and shapes of the weights are pinned: a checkpoint of today can be loaded tomorrow.

``keys/*.txt`` hold them, one tensor a line. After a change that is meant to break old checkpoints, and says so in the
changelog, ``python -m tests.models.test_state_dict_keys`` writes them anew.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from rankdet.criteria import Centerness, ScoreCriterion, SemanticCriterion
from rankdet.models import (
    ATSS,
    DFINE,
    FSAF,
    PAA,
    RFCN,
    RFDETR,
    SSD300,
    SSD512,
    YOLACT,
    CascadeMaskRCNN,
    CascadeRCNN,
    ConditionalDETR,
    DeformableDETR,
    DEIMv2,
    DoubleHeadRCNN,
    DynamicRCNN,
    FasterRCNN,
    FastRCNN,
    FoveaBox,
    FSAFRetinaNet,
    GridRCNN,
    GuidedFasterRCNN,
    GuidedRetinaNet,
    HybridTaskCascade,
    LibraRCNN,
    M2Det,
    MaskBranch,
    MaskRCNN,
    MaskScoringRCNN,
    RetinaNet,
    RFDETRSegmentation,
    RoIStage,
    RPNDetector,
    RTDETRv2,
    ScratchDet300,
    SemanticBranch,
    SOLOv2,
    SOLOv2Light,
    TridentNet,
    dynamic_criterion,
    fovea_criterion,
    paa_criterion,
    solo_criterion,
    ssd_criterion,
    yolact_criterion,
)
from rankdet.nn import (
    CARAFE,
    FPN,
    VGG16,
    BoxHead,
    ConvLevelsOnPath,
    DeformableRoIPooler,
    DeformableStages,
    FrozenStatistics,
    GroupNorm,
    MaskHead,
    PoolLevel,
    RootResNet,
    SemanticHead,
    TimmBackbone,
)

FOLDER = Path(__file__).parent / "keys"
RECIPES = (
    RFCN,
    TridentNet,
    ATSS,
    RetinaNet,
    PAA,
    FoveaBox,
    FasterRCNN,
    CascadeRCNN,
    MaskRCNN,
    CascadeMaskRCNN,
    DoubleHeadRCNN,
    GridRCNN,
    GuidedFasterRCNN,
    GuidedRetinaNet,
    HybridTaskCascade,
    LibraRCNN,
    MaskScoringRCNN,
    FastRCNN,
    YOLACT,
    SOLOv2,
    SOLOv2Light,
    SSD300,
    FSAF,
)


def of_recipe(recipe: Callable[..., nn.Module], **settings: object) -> Callable[[], nn.Module]:
    """A detector of 80 classes on a small backbone, whose weights have a file of their own."""
    return lambda: recipe(num_classes=80, backbone="test_resnet", **settings)


MODELS = {recipe.__name__: of_recipe(recipe) for recipe in RECIPES} | {
    "RPNDetector": lambda: RPNDetector(num_classes=1, backbone="test_resnet"),
    "ATSS-centerness": of_recipe(ATSS, criterion=ScoreCriterion(weighting=Centerness(), judged=Centerness())),
    "PAA-original": of_recipe(PAA, criterion=paa_criterion()),
    "FoveaBox-original": of_recipe(FoveaBox, criterion=fovea_criterion()),
    "SSD512-original": of_recipe(SSD512, criterion=ssd_criterion()),
    "ScratchDet300-original": lambda: ScratchDet300(num_classes=80, criterion=ssd_criterion()),
    "M2Det": of_recipe(M2Det),
    "FSAFRetinaNet": of_recipe(FSAFRetinaNet, criterion=ScoreCriterion()),
    "YOLACT-original": of_recipe(YOLACT, criterion=yolact_criterion(), semantic=SemanticCriterion()),
    "SOLOv2-original": of_recipe(SOLOv2, criterion=solo_criterion()),
    "FasterRCNN-carafe": of_recipe(FasterRCNN, neck=partial(FPN, extra_levels=ConvLevelsOnPath(), upsampling=CARAFE())),
    "DynamicRCNN-original": of_recipe(DynamicRCNN, criterion=dynamic_criterion()),
    "FasterRCNN-deformable": of_recipe(
        FasterRCNN, stage=partial(RoIStage, pooler=partial(DeformableRoIPooler, modulated=True))
    ),
    "HybridTaskCascade-semantic": of_recipe(HybridTaskCascade, semantic_branch=SemanticBranch(head=SemanticHead)),
    "MaskRCNN-normalised": of_recipe(
        MaskRCNN,
        neck=partial(FPN, extra_levels=PoolLevel(), norm=GroupNorm()),
        stage=partial(
            RoIStage,
            head=partial(BoxHead, convs=4, fcs=1, norm=GroupNorm()),
            branches=[partial(MaskBranch, head=partial(MaskHead, norm=GroupNorm()))],
        ),
    ),
    "Backbone-vgg16": VGG16,
    "Backbone-root_resnet34": RootResNet,
    "Backbone-resnet50": lambda: TimmBackbone("resnet50", norm=FrozenStatistics()),
    "Backbone-resnet50-scratch": lambda: TimmBackbone("resnet50"),
    "Backbone-resnet50-deformable": lambda: TimmBackbone(
        "resnet50", norm=FrozenStatistics(), modifications=[DeformableStages(stages=(5,))]
    ),
}
OF_A_LIBRARY = {
    "ConditionalDETR": of_recipe(ConditionalDETR),
    "DEIMv2": lambda: DEIMv2(num_classes=80, variant="n"),
    "DFINE": lambda: DFINE(num_classes=80, variant="n"),
    "DeformableDETR": of_recipe(DeformableDETR),
    "RFDETR": lambda: RFDETR(num_classes=80, variant="nano"),
    "RFDETRSegmentation": lambda: RFDETRSegmentation(num_classes=80, variant="nano"),
    "RTDETRv2": lambda: RTDETRv2(num_classes=80, variant="r18"),
}
MODELS |= OF_A_LIBRARY


def lines_of(name: str) -> list[str]:
    """Names and shapes; of a detector without those of its backbone."""
    with torch.device("meta"):
        state = MODELS[name]().state_dict()
    return [f"{key} {tuple(value.shape)}" for key, value in state.items() if not key.startswith("backbone.")]


@pytest.mark.parametrize("name", MODELS)
def test_names_and_shapes_are_those_of_before(name: str):
    if name in OF_A_LIBRARY:
        pytest.importorskip("transformers", reason="the extra [transformers] is not installed")
    assert lines_of(name) == (FOLDER / f"{name}.txt").read_text(encoding="utf-8").splitlines()


def test_every_file_belongs_to_a_model():
    assert {path.stem for path in FOLDER.glob("*.txt")} == set(MODELS)


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for stale in FOLDER.glob("*.txt"):
        stale.unlink()
    for name in MODELS:
        (FOLDER / f"{name}.txt").write_text("\n".join(lines_of(name)) + "\n", encoding="utf-8")
