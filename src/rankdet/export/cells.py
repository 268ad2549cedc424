"""SOLOv2 as a graph: the best cells draw masks, `matrix_nms` lowers their scores, boxes are what lies around them."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from rankdet.models import DynamicMaskDetector
from rankdet.models.selection import least_logit
from rankdet.nn.preprocess import ImageBatch
from rankdet.ops.boxes import clip_boxes
from rankdet.ops.matrix_nms import log_factors
from rankdet.ops.nms import probability_logit


def cells(model: DynamicMaskDetector, batch: ImageBatch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Boxes (N, L, 4), logits (N, L) with -inf for none, labels (N, L) and mask probabilities (N, L, h, w)."""
    said = model.stage.predict(model.maps_of(batch), batch)
    peaks = model.stage.peaks(said.predictions)
    kernels = said.kernels.unflatten(0, (len(batch.sizes), -1))
    found = [_of_image(model, *parts, batch) for parts in zip(peaks, kernels, said.features, strict=True)]
    boxes, logits, labels, masks = (torch.stack(part) for part in zip(*found, strict=True))
    return boxes, logits, labels, masks


def _of_image(
    model: DynamicMaskDetector, peaks: Tensor, kernels: Tensor, features: Tensor, batch: ImageBatch
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rule = model.postprocess
    best, index = peaks.flatten().topk(min(rule.pre_nms, peaks.numel()))
    chosen, labels = index // model.num_classes, index % model.num_classes
    probabilities = (kernels[chosen] @ features.flatten(1)).unflatten(1, features.shape[1:]).float().sigmoid()
    inside = probabilities > 0.5
    area = inside.flatten(1).sum(1)
    counts = torch.isfinite(best) & (best > least_logit(rule.class_threshold)) & (area > model.least_cells(chosen))
    inside = inside & counts[:, None, None]
    sureness = (probabilities * inside).flatten(1).sum(1) / area.clamp(min=1)
    log_scores = F.logsigmoid(best.clamp(min=-1e4)) + sureness.clamp(min=1e-12).log()
    log_scores, order = log_scores.masked_fill(~counts, -1e6).topk(len(log_scores))
    inside, labels, counts, probabilities = (part[order] for part in (inside, labels, counts, probabilities))
    log_scores = log_scores + log_factors(inside, labels, decay=rule.decay)
    kept, place = log_scores.topk(min(rule.max_detections, len(log_scores)))
    logits = probability_logit(kept)
    sound = counts[place] & (logits > least_logit(rule.score_threshold))
    masks = probabilities[place]
    return _around(masks, batch), logits.masked_fill(~sound, -torch.inf), labels[place], masks


def _around(masks: Tensor, batch: ImageBatch) -> Tensor:
    """Boxes (L, 4) around masks (L, h, w) in pixels of the image, to the cell of the mask."""
    boxes = []
    for dim, side, pixels in ((1, masks.shape[2], batch.canvas[1]), (2, masks.shape[1], batch.canvas[0])):
        occupied = (masks > 0.5).any(dim)
        places = torch.arange(side, device=masks.device)
        start = torch.where(occupied, places, side).amin(1)
        end = torch.where(occupied, places + 1, 0).amax(1)
        boxes.append(torch.stack((torch.minimum(start, end), end), 1) * (pixels / side))
    x, y = boxes
    return clip_boxes(torch.stack((x[:, 0], y[:, 0], x[:, 1], y[:, 1]), 1), batch.sizes[0])
