"""Does every method learn, by its published criterion and by ranking? The same short training from scratch for each.

    python benchmarks/methods.py run --output runs/methods      # what is not there yet; can be interrupted
    python benchmarks/methods.py table --output runs/methods

Three classes of large shapes at 96 pixels, 480 images, 4 epochs of 60 steps, AdamW at 0.002, timm's `test_resnet` and
32 channels for all, so that a row takes a minute. Nothing is tuned to a method: the numbers tell whether it learns, and
what ranking does beside its own criterion, not which method is the better one.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from compare import evaluate, focal_with_centerness, train
from torch import nn

from rankdet.criteria import Criterion, RankingCriterion, ScoreCriterion
from rankdet.criteria.score_based import BoxesPerPositive
from rankdet.data import DetectionData, KeepSize, Shapes
from rankdet.losses.boxes import SmoothL1Loss
from rankdet.losses.gradient_harmonising import GHMClassificationLoss, GHMRegressionLoss
from rankdet.models import (
    ATSS,
    DFINE,
    FCOS,
    FSAF,
    PAA,
    RFCN,
    RFDETR,
    SSD300,
    YOLACT,
    CascadeMaskRCNN,
    CascadeRCNN,
    ConditionalDETR,
    DeformableDETR,
    DEIMv2,
    DoubleHeadRCNN,
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
    ProposalSelection,
    RegionSettings,
    RetinaNet,
    RoIStage,
    RTDETRv2,
    ScratchDet300,
    SOLOv2,
    TridentNet,
    deformable_detr_criterion,
    deim_criterion,
    dice_ranking_criterion,
    double_head_criterion,
    dynamic_criterion,
    fcos_criterion,
    fovea_criterion,
    fsaf_criterion,
    libra_criterion,
    paa_criterion,
    query_ranking_criterion,
    rf_detr_criterion,
    rt_detr_criterion,
    smooth_softmax_criterion,
    softmax_criterion,
    solo_criterion,
    ssd_criterion,
    yolact_criterion,
)
from rankdet.nn import MLFPN, DoubleHead, DoublePooler, GridHead, GroupNorm, RootResNet
from rankdet.nn.solov2 import KernelHead

CLASSES, EPOCHS, LR = 3, 4, 2e-3
SMALL: dict[str, Any] = {"num_classes": CLASSES, "backbone": "test_resnet", "channels": 32}


def looking_at(regions: int) -> dict[str, Any]:
    """Of a region-based detector: how many regions an image, and a branch of TridentNet, has at most."""
    return {"settings": RegionSettings(proposals=ProposalSelection(keep=regions))}


REGIONS = {**SMALL, **looking_at(60)}
NO_PYRAMID = {"num_classes": CLASSES, "backbone": "test_resnet"}
FLAT = partial(MLFPN, channels=16, networks=2, norm=GroupNorm())
ROOT = {"widths": (16,) * 8, "blocks": (1,) * 8, "stem": 16}
CELLS = partial(KernelHead, grids=(12, 10, 8, 6, 4), width=32, stacked=2, kernel_channels=32)
NARROW = {"d_model": 64, "decoder_layers": 2, "encoder_layers": 1, "encoder_ffn_dim": 64, "decoder_ffn_dim": 64}
DINO = {
    "model_type": "rf_detr_dinov2",
    "hidden_size": 64,
    "num_attention_heads": 2,
    "num_hidden_layers": 4,
    "patch_size": 8,
    "num_windows": 2,
    "image_size": 96,
    "out_features": ["stage2", "stage4"],
    "use_mask_token": False,
}
WINDOWS = {
    "backbone_config": DINO,
    "d_model": 64,
    "decoder_layers": 2,
    "decoder_ffn_dim": 64,
    "decoder_self_attention_heads": 2,
    "decoder_cross_attention_heads": 4,
}
HYBRID = {"encoder_hidden_dim": 64, "decoder_in_channels": [64] * 3, "num_denoising": 10, "hidden_expansion": 0.5}


def focal() -> ScoreCriterion:
    """RetinaNet's."""
    return ScoreCriterion(box_loss=SmoothL1Loss(beta=0.11))


def harmonised() -> ScoreCriterion:
    """GHM-C and GHM-R."""
    return ScoreCriterion(
        classification=GHMClassificationLoss(), box_loss=GHMRegressionLoss(), normaliser=BoxesPerPositive()
    )


DOUBLE = partial(RoIStage, head=partial(DoubleHead, width=64, bottlenecks=2), pooler=DoublePooler)
POINTS = partial(RoIStage, branches=[partial(GridBranch, head=partial(GridHead, channels=8, stacked=2))])
Make = Callable[..., nn.Module]
Criteria = Callable[[], Criterion]
METHODS: dict[str, tuple[Make, Criteria, Criteria]] = {
    "RetinaNet": (partial(RetinaNet, **SMALL), focal, RankingCriterion),
    "RetinaNet, GHM": (
        partial(RetinaNet, **SMALL),
        harmonised,
        lambda: RankingCriterion(box_loss=GHMRegressionLoss()),
    ),
    "ATSS": (partial(ATSS, **SMALL), focal_with_centerness, RankingCriterion),
    "PAA": (partial(PAA, **SMALL), paa_criterion, RankingCriterion),
    "FoveaBox": (partial(FoveaBox, **SMALL), fovea_criterion, RankingCriterion),
    "FCOS": (partial(FCOS, **SMALL), fcos_criterion, RankingCriterion),
    "FSAF": (partial(FSAF, **SMALL), fsaf_criterion, RankingCriterion),
    "FSAF on RetinaNet": (partial(FSAFRetinaNet, **SMALL), focal, RankingCriterion),
    "GA-RetinaNet": (partial(GuidedRetinaNet, **SMALL), focal, RankingCriterion),
    "SSD300": (partial(SSD300, **NO_PYRAMID), ssd_criterion, RankingCriterion),
    "M2Det": (partial(M2Det, neck=FLAT, **NO_PYRAMID), ssd_criterion, RankingCriterion),
    "ScratchDet300": (
        lambda **more: ScratchDet300(num_classes=CLASSES, backbone=RootResNet(**ROOT), **more),
        ssd_criterion,
        RankingCriterion,
    ),
    "Faster R-CNN": (partial(FasterRCNN, **REGIONS), softmax_criterion, RankingCriterion),
    "Cascade R-CNN": (partial(CascadeRCNN, **REGIONS), smooth_softmax_criterion, RankingCriterion),
    "Double-Head R-CNN": (partial(DoubleHeadRCNN, stage=DOUBLE, **REGIONS), double_head_criterion, RankingCriterion),
    "Dynamic R-CNN": (partial(DynamicRCNN, **REGIONS), dynamic_criterion, RankingCriterion),
    "Libra R-CNN": (partial(LibraRCNN, **REGIONS), libra_criterion, RankingCriterion),
    "Grid R-CNN": (partial(GridRCNN, stage=POINTS, **REGIONS), softmax_criterion, RankingCriterion),
    "GA-Faster R-CNN": (partial(GuidedFasterRCNN, **REGIONS), softmax_criterion, RankingCriterion),
    "TridentNet": (partial(TridentNet, **NO_PYRAMID, **looking_at(20)), softmax_criterion, RankingCriterion),
    "R-FCN": (partial(RFCN, **NO_PYRAMID, **looking_at(60)), smooth_softmax_criterion, RankingCriterion),
    "Mask R-CNN": (partial(MaskRCNN, **REGIONS), softmax_criterion, RankingCriterion),
    "Mask Scoring R-CNN": (partial(MaskScoringRCNN, **REGIONS), softmax_criterion, RankingCriterion),
    "Cascade Mask R-CNN": (partial(CascadeMaskRCNN, **REGIONS), smooth_softmax_criterion, RankingCriterion),
    "Hybrid Task Cascade": (partial(HybridTaskCascade, **REGIONS), smooth_softmax_criterion, RankingCriterion),
    "YOLACT": (partial(YOLACT, image_size=96, **SMALL), yolact_criterion, RankingCriterion),
    "SOLOv2": (partial(SOLOv2, head=CELLS, **SMALL), solo_criterion, dice_ranking_criterion),
    "Deformable DETR": (
        partial(DeformableDETR, queries=30, options=NARROW, **NO_PYRAMID),
        deformable_detr_criterion,
        query_ranking_criterion,
    ),
    "Conditional DETR": (
        partial(ConditionalDETR, queries=30, options=NARROW, **NO_PYRAMID),
        deformable_detr_criterion,
        query_ranking_criterion,
    ),
    "RT-DETRv2": (
        partial(RTDETRv2, queries=30, options={**NARROW, **HYBRID}, **NO_PYRAMID),
        rt_detr_criterion,
        query_ranking_criterion,
    ),
    "D-FINE": (
        partial(DFINE, queries=30, options={**NARROW, **HYBRID, "depth_mult": 0.34}, **NO_PYRAMID),
        rt_detr_criterion,
        query_ranking_criterion,
    ),
    "DEIMv2": (
        partial(DEIMv2, queries=30, options={**NARROW, **HYBRID, "depth_mult": 0.34}, **NO_PYRAMID),
        deim_criterion,
        query_ranking_criterion,
    ),
    "RF-DETR": (
        partial(RFDETR, num_classes=CLASSES, queries=30, options=WINDOWS),
        rf_detr_criterion,
        query_ranking_criterion,
    ),
}
MASKS = ("Mask R-CNN", "Mask Scoring R-CNN", "Cascade Mask R-CNN", "Hybrid Task Cascade", "YOLACT", "SOLOv2")


def shapes(*, masks: bool) -> DetectionData:
    """The same images for all."""
    options: dict[str, Any] = {
        "image_size": 96,
        "num_classes": CLASSES,
        "objects": (1, 3),
        "sizes": (0.25, 0.6),
        "clutter": 2,
        "masks": masks,
    }
    parts = {"train": Shapes(length=480, seed=0, **options), "val": Shapes(length=150, seed=1, **options)}
    return DetectionData(**parts, batch_size=8, workers=0, resize=KeepSize())


def run(method: str, *, ranking: bool) -> dict[str, Any]:
    """Train and evaluate one row."""
    torch.manual_seed(0)
    make, published, by_ranking = METHODS[method]
    data = shapes(masks=method in MASKS)
    model = make(criterion=(by_ranking if ranking else published)())
    began = time.process_time()
    train(model, data, epochs=EPOCHS, lr=LR, seed=0)
    spent = time.process_time() - began
    found = evaluate(model, data, masks=method in MASKS)
    wanted = ("AP", "AP50", "oLRP")
    metrics = {kind: {name: one.metrics[name] for name in wanted} for kind, one in found.items()}
    return {"method": method, "ranking": ranking, "cpu_seconds": round(spent, 1), **metrics}


def table(folder: Path) -> str:
    """Markdown of what is there: boxes, masks if any, in percent; the published criterion first, then ranking."""
    lines = [
        "| method | AP50 | AP50, RS | AP | AP, RS | oLRP | oLRP, RS | mask AP50 | mask AP50, RS |",
        "| --- |" + " ---: |" * 8,
    ]
    for method in METHODS:
        files = [_file(folder, method, ranking=ranking) for ranking in (False, True)]
        if not all(file.is_file() for file in files):
            continue
        pair = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        cells = [_cell(one, "bbox", name) for name in ("AP50", "AP", "oLRP") for one in pair]
        cells += [_cell(one, "segm", "AP50") for one in pair]
        lines.append("| " + " | ".join([method, *cells]) + " |")
    return "\n".join(lines)


def _cell(run: dict[str, Any], kind: str, name: str) -> str:
    return f"{100 * run[kind][name]:.1f}" if kind in run else "–"


def _file(folder: Path, method: str, *, ranking: bool) -> Path:
    name = "".join(letter if letter.isalnum() else "_" for letter in method)
    return folder / f"{name}-{'ranking' if ranking else 'published'}.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("run", "table"), help="train what is missing, or print what is there")
    parser.add_argument("--output", type=Path, required=True, help="folder of the results, one JSON file a run")
    parser.add_argument("--only", default="", help="run only methods whose names contain this")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for method in METHODS if options.action == "run" else ():
        for ranking in (False, True):
            file = _file(options.output, method, ranking=ranking)
            if file.exists() or options.only not in method:
                continue
            result = run(method, ranking=ranking)
            file.write_text(json.dumps(result, indent=1), encoding="utf-8")
            print(f"{file.stem}: AP50 {result['bbox']['AP50']:.3f}, {result['cpu_seconds']} s", flush=True)
    print(table(options.output))


if __name__ == "__main__":
    main()
