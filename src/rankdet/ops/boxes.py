"""Overlaps of boxes, pair by pair and each with each.

Shapes: P priors or predictions, G ground truths, M matched pairs. Boxes are float xyxy in pixels, width = x2 - x1.
Differences from ``torchvision.ops``: divisors are floored (``max(union, eps)``) instead of shifted, so that equal boxes
have an overlap of exactly 1; the aligned forms never build the M x M matrix.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPS = 1e-6


def box_area(boxes: Tensor) -> Tensor:
    """Areas in square pixels of boxes (..., 4) -> (...); negative sides count as zero."""
    return _area(*boxes.unbind(-1))


def _area(x1: Tensor, y1: Tensor, x2: Tensor, y2: Tensor) -> Tensor:
    """The same of sides. Not `Tensor.prod`: its gradient makes the host wait, and it is slow over two numbers."""
    return (x2 - x1).clamp(min=0) * (y2 - y1).clamp(min=0)


def _intersection(first: Tensor, second: Tensor) -> Tensor:
    (x1, y1, x2, y2), (u1, v1, u2, v2) = first.unbind(-1), second.unbind(-1)
    return _area(torch.maximum(x1, u1), torch.maximum(y1, v1), torch.minimum(x2, u2), torch.minimum(y2, v2))


def aligned_iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of each pair (M, 4), (M, 4) -> (M,), in [0, 1].

    Shapes broadcast, so ``aligned_iou(a[:, None], b[None])`` is the matrix of all pairs.

    >>> aligned_iou(torch.tensor([[0., 0., 10., 10.]]), torch.tensor([[0., 0., 10., 5.]]))
    tensor([0.5000])
    """
    intersection = _intersection(first, second)
    union = box_area(first) + box_area(second) - intersection
    return intersection / union.clamp(min=EPS)


def pairwise_iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of all pairs, (..., G, 4) x (..., P, 4) -> (..., G, P), in [0, 1]."""
    return aligned_iou(first[..., :, None, :], second[..., None, :, :])


def aligned_intersection_over_second(first: Tensor, second: Tensor) -> Tensor:
    """Share of each second box that lies inside its first box, (M, 4), (M, 4) -> (M,), in [0, 1]; shapes broadcast."""
    return _intersection(first, second) / box_area(second).clamp(min=EPS)


def pairwise_intersection_over_second(first: Tensor, second: Tensor) -> Tensor:
    """Share of each second box that lies inside each first box, (G, 4) x (P, 4) -> (G, P), in [0, 1]."""
    return aligned_intersection_over_second(first[:, None], second[None])


def aligned_giou(first: Tensor, second: Tensor) -> Tensor:
    """Generalised IoU of each pair (M, 4), (M, 4) -> (M,), in [-1, 1].

    IoU - (enclosing - union) / enclosing, Rezatofighi et al. 2019, eq. 5; 1 for equal boxes, towards -1 for boxes
    that are small and far apart.

    >>> aligned_giou(torch.tensor([[0., 0., 10., 10.]]), torch.tensor([[20., 20., 30., 40.]]))
    tensor([-0.7500])
    """
    intersection = _intersection(first, second)
    union = box_area(first) + box_area(second) - intersection
    low, high = torch.minimum(first[..., :2], second[..., :2]), torch.maximum(first[..., 2:], second[..., 2:])
    enclosing = box_area(torch.cat((low, high), -1)).clamp(min=EPS)
    return intersection / union.clamp(min=EPS) - (enclosing - union) / enclosing


def clip_boxes(boxes: Tensor, size: tuple[float, float]) -> Tensor:
    """Boxes (..., 4) cut to an image of (height, width) pixels; the right and lower edge may equal the size."""
    height, width = (torch.sym_float(side) for side in size)  # bounds of one kind: ONNX knows no others
    x, y = boxes.unflatten(-1, (2, 2)).unbind(-1)
    return torch.stack((x.clamp(0.0, width), y.clamp(0.0, height)), -1).flatten(-2)


def centres_and_sizes(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Centres (..., 2) as x, y and sizes (..., 2) as width, height of boxes (..., 4)."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2, boxes[..., 2:] - boxes[..., :2]
