"""Small transformers, and a batch for them: what their tests share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from rankdet.assign import GroundTruth
from rankdet.models import ConditionalDETR, DeformableDETR, QueryDetector, QueryOutputs, RTDETRv2

K = 3
WIDTHS = {"d_model": 32, "decoder_ffn_dim": 32, "encoder_ffn_dim": 32, "decoder_layers": 2}
HEADS = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
HYBRID = {"encoder_hidden_dim": 32, "decoder_in_channels": [32] * 3, "num_denoising": 10, "hidden_expansion": 0.5}
OPTIONS: dict[type[QueryDetector], dict[str, Any]] = {
    ConditionalDETR: {**WIDTHS, **HEADS, "encoder_layers": 1},
    DeformableDETR: {**WIDTHS, **HEADS, "encoder_layers": 1},
    RTDETRv2: {**WIDTHS, **HEADS, **HYBRID},
}
RECIPES = list(OPTIONS)
IMAGES = [torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0)), torch.full((3, 50, 80), 0.4)]
OBJECTS = {"boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0], [30.0, 4.0, 60.0, 20.0]]), "labels": torch.tensor([2, 0])}
NOTHING = {"boxes": torch.empty(0, 4), "labels": torch.empty(0, dtype=torch.long)}
CROWD = {"boxes": torch.tensor([[0.0, 0.0, 30.0, 30.0]]), "labels": torch.tensor([1]), "iscrowd": torch.tensor([1])}
MANY = {"boxes": OBJECTS["boxes"].repeat(15, 1), "labels": OBJECTS["labels"].repeat(15)}


def small(recipe: Callable[..., QueryDetector], **settings: Any) -> QueryDetector:
    """A detector of three classes with 20 queries, the same every time."""
    torch.manual_seed(0)
    arguments = {"num_classes": K, "backbone": "test_resnet", "queries": 20, "options": OPTIONS[recipe]}
    return recipe(**(arguments | settings))


def truth_of(*targets: dict[str, Tensor]) -> GroundTruth:
    return GroundTruth.from_targets(list(targets), num_classes=K, device=torch.device("cpu"))


def said_of(model: QueryDetector, truth: GroundTruth, *, seed: int = 0) -> QueryOutputs:
    """What the layers say of the images; the noise is that of the seed."""
    torch.manual_seed(seed)
    return model.network(model.preprocess(IMAGES), truth)


def untouched(model: nn.Module) -> list[str]:
    """The parameters that got no gradient though they are to learn."""
    return [name for name, value in model.named_parameters() if value.requires_grad and value.grad is None]
