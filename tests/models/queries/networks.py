"""Small transformers, and a batch for them: what their tests share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rankdet.assign import GroundTruth
from rankdet.models import (
    DFINE,
    RFDETR,
    ConditionalDETR,
    DeformableDETR,
    DEIMv2,
    QueryDetector,
    QueryOutputs,
    RFDETRSegmentation,
    RTDETRv2,
)

K = 3
WIDTHS = {"d_model": 32, "decoder_ffn_dim": 32, "encoder_ffn_dim": 32, "decoder_layers": 2}
HEADS = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
HYBRID = {"encoder_hidden_dim": 32, "decoder_in_channels": [32] * 3, "num_denoising": 10, "hidden_expansion": 0.5}
DINO = {
    "model_type": "rf_detr_dinov2",
    "hidden_size": 32,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "patch_size": 8,
    "num_windows": 2,
    "image_size": 64,
    "out_features": ["stage1", "stage2"],
    "use_mask_token": False,
}
OPTIONS: dict[type[QueryDetector], dict[str, Any]] = {
    ConditionalDETR: {**WIDTHS, **HEADS, "encoder_layers": 1},
    DeformableDETR: {**WIDTHS, **HEADS, "encoder_layers": 1},
    RTDETRv2: {**WIDTHS, **HEADS, **HYBRID},
    DFINE: {**WIDTHS, **HEADS, **HYBRID, "depth_mult": 0.34},
    DEIMv2: {**WIDTHS, **HEADS, **HYBRID, "depth_mult": 0.34},
    RFDETR: {
        "backbone_config": DINO,
        "d_model": 32,
        "decoder_layers": 2,
        "decoder_ffn_dim": 32,
        "decoder_self_attention_heads": 2,
        "decoder_cross_attention_heads": 2,
        "group_detr": 3,
    },
}
OPTIONS[RFDETRSegmentation] = {**OPTIONS[RFDETR], "intermediate_size": 32}
RECIPES = list(OPTIONS)
IMAGES = [torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)), torch.full((3, 50, 80), 0.4)]
OBJECTS = {"boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0], [30.0, 4.0, 60.0, 20.0]]), "labels": torch.tensor([2, 0])}
NOTHING = {"boxes": torch.empty(0, 4), "labels": torch.empty(0, dtype=torch.long)}
CROWD = {"boxes": torch.tensor([[0.0, 0.0, 30.0, 30.0]]), "labels": torch.tensor([1]), "iscrowd": torch.tensor([1])}
MANY = {"boxes": OBJECTS["boxes"].repeat(15, 1), "labels": OBJECTS["labels"].repeat(15)}


def small(recipe: Callable[..., QueryDetector], **settings: Any) -> QueryDetector:
    """A detector of three classes with 20 queries, the same every time."""
    torch.manual_seed(0)
    arguments = {"num_classes": K, "queries": 20, "options": OPTIONS[recipe]}
    backbone = {} if recipe in (RFDETR, RFDETRSegmentation) else {"backbone": "test_resnet"}
    return recipe(**(arguments | backbone | settings))


def with_masks(target: dict[str, Tensor], size: tuple[int, int] = (64, 64)) -> dict[str, Tensor]:
    """The same with an ellipse in each box as the mask of the object."""
    rows, columns = (torch.arange(side) + 0.5 for side in size)
    masks = [
        ((columns - (x1 + x2) / 2) / (x2 - x1)) ** 2 + ((rows[:, None] - (y1 + y2) / 2) / (y2 - y1)) ** 2 < 0.25
        for x1, y1, x2, y2 in target["boxes"].tolist()
    ]
    return {**target, "masks": torch.stack(masks) if masks else torch.zeros(0, *size, dtype=torch.bool)}


def targets_for(recipe: Callable[..., QueryDetector], *targets: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Targets of `IMAGES`, with masks for detectors that want them."""
    if not getattr(recipe, "needs_masks", False):
        return list(targets)
    return [with_masks(target, image.shape[1:]) for target, image in zip(targets, IMAGES, strict=True)]


def truth_of(*targets: dict[str, Tensor]) -> GroundTruth:
    return GroundTruth.from_targets(list(targets), num_classes=K, device=torch.device("cpu"))


def said_of(model: QueryDetector, truth: GroundTruth, *, seed: int = 0) -> QueryOutputs:
    """What the layers say of the images; the noise is that of the seed."""
    torch.manual_seed(seed)
    return model.network(model.preprocess(IMAGES), truth)


def untouched(model: nn.Module) -> list[str]:
    """The parameters that got no gradient though they are to learn."""
    return [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None]
