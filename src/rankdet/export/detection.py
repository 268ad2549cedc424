"""Detectors as graphs: one tensor of images in, tensors of a fixed size out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from rankdet.eval.score_mapping import ScoreMapping
from rankdet.export.fixed import check_postprocess, choose, greedy, row_or_zero
from rankdet.export.mapped_scores import MappedScores
from rankdet.models import (
    Cascade,
    DenseDetector,
    Detector,
    DynamicMaskDetector,
    MaskBranch,
    MatrixPostprocess,
    PrototypeDetector,
    RoIStage,
    TwoStageDetector,
)
from rankdet.models.dense.stage import Candidates
from rankdet.models.masks.prototypes import MARGIN
from rankdet.models.postprocess import large_enough
from rankdet.models.pyramid_detector import PyramidDetector
from rankdet.models.selection import least_logit
from rankdet.nn import RoIPooler
from rankdet.nn.preprocess import ImageBatch
from rankdet.ops.boxes import clip_boxes
from rankdet.ops.masks import inside_boxes
from rankdet.ops.matrix_nms import log_factors
from rankdet.ops.nms import probability_logit
from rankdet.ops.predictions import Predictions
from rankdet.ops.priors import Priors

Found = tuple[Tensor, Tensor, Tensor, Tensor | None]
"""Of an image: boxes (L, 4), logits (L,) with -inf for none, labels (L,), perhaps mask probabilities (L, h, w)."""


class ExportedGraph(nn.Module):
    """A detector whose outputs have fixed sizes, so that it can become a graph.

    Images (N, 3, H, W), RGB, floating point in 0..1 -> boxes (N, L, 4) in their pixels, scores (N, L), best first,
    labels (N, L), and for a detector with masks mask probabilities (N, L, h, w): within the box for region-based
    detectors, otherwise of the whole image. If there are fewer than L detections, the rest have the score 0 and the
    label -1.

    Args:
        detector: in evaluation mode.
        mapping: of its scores, with the classes in the order of the labels, as `Predictor` has one.

    Raises:
        ValueError: the detector has a part that cannot be exported; the message names it.
    """

    def __init__(self, detector: Detector, mapping: ScoreMapping | None = None) -> None:
        super().__init__()
        self.detector = detector.eval()
        self.mapped = None if mapping is None else MappedScores(mapping)
        self._detect = _way_of(detector)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        model = self.detector
        batch = _batch_of(model, images)
        assert isinstance(model, PyramidDetector), "others have been refused"
        maps = model.maps_of(batch)
        found = self._detect(model, maps, batch)
        stacked = [torch.stack(part) for part in zip(*found, strict=True) if part[0] is not None]
        boxes, logits, labels, *masks = stacked
        scores = logits.sigmoid()
        if self.mapped is not None:
            scores, order = self.mapped(logits, labels).topk(logits.shape[1])
            boxes, labels, *masks = (_in_order(part, order) for part in (boxes, labels, *masks))
        return (boxes, scores, torch.where(scores > 0, labels, -1), *masks)


def _in_order(values: Tensor, order: Tensor) -> Tensor:
    """Values (N, L, ...) of each image in an order (N, L)."""
    index = order.view(*order.shape, *[1] * (values.ndim - 2)).expand_as(values)
    return values.gather(1, index)


def _batch_of(model: Detector, images: Tensor) -> ImageBatch:
    preprocess = model.preprocess
    pixels = (images - preprocess.mean) / preprocess.std
    height, width = int(images.shape[2]), int(images.shape[3])
    below, right = -height % preprocess.divisor, -width % preprocess.divisor
    pixels = F.pad(pixels, (0, right, 0, below)) if below or right else pixels
    number = int(images.shape[0])
    return ImageBatch(pixels, ((height, width),) * number, ((height + below, width + right),) * number)


def _way_of(model: Detector) -> Callable[[Any, list[Tensor], ImageBatch], list[Found]]:
    if isinstance(model, DynamicMaskDetector):
        if type(model.postprocess) is not MatrixPostprocess:
            raise ValueError(f"{type(model.postprocess).__name__} cannot be exported; known is MatrixPostprocess")
        return _cells
    check_postprocess(model.postprocess)
    if isinstance(model, TwoStageDetector):
        _check_regions(model)
        return _regions
    ways = ((PrototypeDetector, _prototypes), (DenseDetector, _dense))
    for kind, way in ways:
        if isinstance(model, kind):
            return way
    raise ValueError(f"no fixed form is known for a {type(model).__name__}")


def _check_regions(model: TwoStageDetector) -> None:
    if type(model.roi) is not Cascade:
        raise ValueError(f"{type(model.roi).__name__} cannot be exported; known is Cascade")
    for stage in model.roi.box_stages:
        known = {stage: RoIStage, **dict.fromkeys(stage.branches, MaskBranch)}
        for part, kind in known.items():
            if type(part) is not kind:
                raise ValueError(f"{type(part).__name__} cannot be exported; known is {kind.__name__}")
            if not isinstance(part.pooler, RoIPooler):
                raise ValueError(f"{type(part.pooler).__name__} cannot be exported; known is RoIPooler")


def _dense(model: DenseDetector, maps: list[Tensor], batch: ImageBatch) -> list[Found]:
    chosen = model.postprocess
    boxes, logits, labels, _ = model.candidates(maps, batch)
    return [(*choose(chosen, boxes[i], logits[i], labels[i], size)[:3], None) for i, size in enumerate(batch.sizes)]


def _prototypes(model: PrototypeDetector, maps: list[Tensor], batch: ImageBatch) -> list[Found]:
    outputs, coefficients = model.stage.head(maps)
    chosen = model.postprocess
    predictions = model.stage.read(outputs, maps, batch)
    levels = model.stage.candidates(predictions, per_level=chosen.pre_nms, selection=chosen.selection)
    candidates = Candidates.joined(levels)
    prototypes = model.masks.network(maps[0])
    found: list[Found] = []
    for i, size in enumerate(batch.sizes):
        boxes, logits, labels, rows = choose(
            chosen, candidates.boxes[i], candidates.logits[i], candidates.labels[i], size
        )
        mixed = row_or_zero(coefficients[i][candidates.rows[i]], rows)
        drawn = (mixed @ prototypes[i].flatten(1)).unflatten(1, prototypes.shape[2:])
        inside = _cut_to_boxes(drawn, boxes, batch)
        found.append((boxes, logits, labels, inside))
    return found


def _cut_to_boxes(drawn: Tensor, boxes: Tensor, batch: ImageBatch) -> Tensor:
    """Probabilities of mask logits (L, h, w), 0 outside of their boxes."""
    height, width = drawn.shape[1:]
    scale = boxes.new_tensor([width / batch.canvas[1], height / batch.canvas[0]]).repeat(2)
    inside = inside_boxes(boxes * scale, (height, width), margin=MARGIN)
    return drawn.float().sigmoid() * inside


def _cells(model: DynamicMaskDetector, maps: list[Tensor], batch: ImageBatch) -> list[Found]:
    cells = model.stage.predict(maps, batch)
    peaks = model.stage.peaks(cells.predictions)
    kernels = cells.kernels.unflatten(0, (len(batch.sizes), -1))
    return [_cells_of_image(model, peaks[i], kernels[i], cells.features[i], batch) for i in range(len(batch.sizes))]


def _cells_of_image(
    model: DynamicMaskDetector, peaks: Tensor, kernels: Tensor, features: Tensor, batch: ImageBatch
) -> Found:
    rule = model.postprocess
    best, index = peaks.flatten().topk(min(rule.pre_nms, peaks.numel()))
    cells, labels = index // model.num_classes, index % model.num_classes
    probabilities = (kernels[cells] @ features.flatten(1)).unflatten(1, features.shape[1:]).float().sigmoid()
    inside = probabilities > 0.5
    area = inside.flatten(1).sum(1)
    counts = torch.isfinite(best) & (best > least_logit(rule.class_threshold)) & (area > model._least_cells(cells))
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


def _regions(model: TwoStageDetector, maps: list[Tensor], batch: ImageBatch) -> list[Found]:
    boxes, real = _proposals(model, maps, batch)
    number, limit = boxes.shape[:2]
    index = torch.arange(number, device=boxes.device).repeat_interleave(limit)
    stages, logits = model.roi.box_stages, []
    proposals = list(boxes)
    for stage in stages:
        priors = Priors.proposals(proposals)
        pooled = pool(stage.pooler, maps, torch.cat(proposals), index)
        class_logits, deltas = stage.head(pooled)
        predictions = Predictions(class_logits, deltas, class_logits[:, :0], priors, stage.coder)
        logits.append(class_logits)
        if stage is not stages[-1]:
            proposals = stage.refine(predictions, torch.full_like(index, -1), batch)
    assert isinstance(model.roi, Cascade), "others have been refused"
    averaged = model.roi.average(torch.stack(logits), stages[-1].criterion)
    candidates = stages[-1].candidates(replace(predictions, logits=averaged))
    found = []
    for i, (of_image, size) in enumerate(zip(candidates, batch.sizes, strict=True)):
        region_boxes, region_logits, labels = of_image
        counted = region_logits.unflatten(0, (limit, -1)).masked_fill(~real[i][:, None], -torch.inf).flatten()
        chosen = choose(model.postprocess, region_boxes, counted, labels, size)[:3]
        found.append((*chosen, _drawn(model, maps, chosen[0], chosen[2], i)))
    return found


def _proposals(model: TwoStageDetector, maps: list[Tensor], batch: ImageBatch) -> tuple[Tensor, Tensor]:
    """Regions (N, R, 4), and which of them are any (N, R)."""
    rule = model.settings.proposals
    assert rule is not None, "settings are complete"
    levels = list(model.rpn.candidates(model.rpn.predict(maps, batch), per_level=rule.per_level_evaluation))
    joined = Candidates.joined(levels)
    level = torch.cat([torch.full_like(part.labels[0], number) for number, part in enumerate(levels)])
    boxes, real = [], []
    for i, size in enumerate(batch.sizes):
        cut = clip_boxes(joined.boxes[i], size)
        sound = large_enough(cut, rule.least_side) & torch.isfinite(joined.logits[i])
        counted = joined.logits[i].masked_fill(~sound, -torch.inf)
        most = len(counted)
        rows = greedy(cut, counted, level, threshold=rule.nms_threshold, limit=rule.keep, most=most)
        boxes.append(row_or_zero(cut, rows))
        real.append(rows != most)
    return torch.stack(boxes), torch.stack(real)


def _drawn(model: TwoStageDetector, maps: list[Tensor], boxes: Tensor, labels: Tensor, image: int) -> Tensor | None:
    """Mask probabilities (L, S, S) of the detections of an image, the mean of all stages."""
    drawn = []
    index = torch.full_like(labels, image)
    for stage in model.roi.box_stages:
        branch: Any
        for branch in stage.branches:
            drawn.append(branch.head(pool(branch.pooler, maps, boxes, index), labels).float().sigmoid())
    return torch.stack(drawn).mean(0) if drawn else None


def pool(pooler: RoIPooler, maps: Sequence[Tensor], boxes: Tensor, image_index: Tensor) -> Tensor:
    """What a `RoIPooler` gives, from all levels at once: a region is a point on the levels that are not its own."""
    levels = pooler.levels(boxes)
    regions = torch.cat((image_index[:, None].to(boxes.dtype), boxes), 1)
    size = (pooler.output_size,) * 2
    pooled = torch.zeros(1)
    for number, (features, stride) in enumerate(zip(maps, pooler.strides, strict=False)):
        own = (levels == number)[:, None]
        looked_at = torch.where(own, regions, torch.zeros_like(regions))
        part = roi_align(features, looked_at, size, 1 / stride, pooler.sampling_ratio, aligned=pooler.aligned)
        part = part * own[:, :, None, None]
        pooled = part if number == 0 else pooled + part
    return pooled
