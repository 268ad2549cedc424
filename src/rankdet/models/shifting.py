"""Mapping the logits of each class by straight lines, in the classifier, where that changes no order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from rankdet.models.detector import Detector


def check_shiftable(model: Detector) -> None:
    """ValueError, saying why, unless the logits of detections scale and shift as the outputs of the classifier do."""
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
def rescale_layers(layers: Sequence[nn.Conv2d | nn.Linear], slopes: Tensor, shifts: Tensor) -> None:
    """Multiply the outputs of layers by ``slopes`` (K,) and add ``shifts`` (K,).

    They have A K outputs, those of the K classes for one anchor after another.

    >>> layer = nn.Linear(1, 4)
    >>> _ = nn.init.ones_(layer.weight), nn.init.ones_(layer.bias)
    >>> rescale_layers([layer], torch.tensor([1.0, 3.0]), torch.tensor([0.0, 2.0]))
    >>> layer.weight.squeeze().tolist(), layer.bias.tolist()
    ([1.0, 3.0, 1.0, 3.0], [1.0, 5.0, 1.0, 5.0])
    """
    if shifts.ndim != 1 or not torch.isfinite(shifts).all():
        raise ValueError(f"shifts must be finite numbers, one for each class; got {shifts}")
    if slopes.shape != shifts.shape or not (torch.isfinite(slopes) & (slopes > 0)).all():
        raise ValueError(f"slopes must be finite numbers above 0, one for each class as shifts are; got {slopes}")
    parameters = [(layer.weight, layer.bias) for layer in layers if layer.bias is not None]
    assert len(parameters) == len(layers), "layers of logits have biases"
    for _, bias in parameters:
        if len(bias) % len(shifts):
            raise ValueError(f"there are {len(shifts)} shifts, but {len(bias)} biases; give one for each class")
    for weight, bias in parameters:
        factors = slopes.to(weight).view(-1, *[1] * (weight.ndim - 1))
        weight.unflatten(0, (-1, len(slopes))).mul_(factors)
        bias.view(-1, len(slopes)).mul_(slopes.to(bias)).add_(shifts.to(bias))
