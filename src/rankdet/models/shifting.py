"""Shifting the logits of each class by its bias in the classifier, where that changes no order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from rankdet.models.detector import Detector


def check_shiftable(model: Detector) -> None:
    """ValueError, saying why, unless a shift of the classifier's biases is a shift of the logits of detections."""
    name, criterion = type(model).__name__, model.criterion
    if not model.class_layers:
        raise ValueError(
            f"the scores of a {name} are not those of its classifier alone, so that no bias shifts them; deploy it "
            "with the thresholds in its checkpoint"
        )
    if criterion.num_logits(model.num_classes) != model.num_classes:
        raise ValueError(
            f"this {name} has a softmax over classes and background: a bias of one class changes the scores of all, "
            "and their order; deploy it with the thresholds in its checkpoint"
        )
    if criterion.quality_channels:
        raise ValueError(
            f"the scores of this {name} are products of a class score and a judged quality: a shift of one factor "
            "changes their order; deploy it with the thresholds in its checkpoint"
        )
    if model.postprocess.decays_scores:
        raise ValueError(
            f"in this {name} duplicates lose a share of their scores (soft-NMS), so that a shift changes their order; "
            "choose another postprocess, or deploy it with the thresholds in its checkpoint"
        )
    if model.postprocess.moves_boxes:
        raise ValueError(
            f"the boxes of this {name} are voted on by scores, so that a shift moves them; choose another "
            "postprocess, or deploy it with the thresholds in its checkpoint"
        )


@torch.no_grad()
def shift_layers(layers: Sequence[nn.Conv2d | nn.Linear], shifts: Tensor) -> None:
    """Add ``shifts`` (K,) to biases (A K,), which hold those of the K classes for one anchor after another.

    >>> layer = nn.Linear(1, 4)
    >>> _ = nn.init.zeros_(layer.bias)
    >>> shift_layers([layer], torch.tensor([1.0, 2.0]))
    >>> layer.bias.tolist()
    [1.0, 2.0, 1.0, 2.0]
    """
    if shifts.ndim != 1 or not torch.isfinite(shifts).all():
        raise ValueError(f"shifts must be finite numbers, one for each class; got {shifts}")
    for layer in layers:
        assert layer.bias is not None, "layers of logits have biases"
        if len(layer.bias) % len(shifts):
            raise ValueError(f"there are {len(shifts)} shifts, but {len(layer.bias)} biases; give one for each class")
        layer.bias.view(-1, len(shifts)).add_(shifts.to(layer.bias))
