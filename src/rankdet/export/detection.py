"""Detectors as graphs: one tensor of images in, tensors of a fixed size out.

All images of a batch have one size, so what holds for one image holds for all: parts that ask for the sizes of images
are told of one, and see regions of all images as those of one. The number of images may then be unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import roi_align

from rankdet.eval.score_mapping import ScoreMapping
from rankdet.export.cells import cells
from rankdet.export.fixed import check_postprocess, choose, greedy, rows_of, rows_or_zero
from rankdet.export.mapped_scores import MappedScores
from rankdet.export.raw import left_out, without_suppression
from rankdet.models import (
    Cascade,
    DenseDetector,
    Detector,
    DynamicMaskDetector,
    MaskBranch,
    MatrixPostprocess,
    PrototypeDetector,
    QueryDetector,
    RoIStage,
    TwoStageDetector,
)
from rankdet.models.dense.stage import Candidates
from rankdet.models.masks.prototypes import MARGIN
from rankdet.models.postprocess import large_enough
from rankdet.nn import RoIPooler
from rankdet.nn.preprocess import ImageBatch
from rankdet.ops.boxes import clip_boxes
from rankdet.ops.masks import inside_boxes
from rankdet.ops.predictions import Predictions
from rankdet.ops.priors import Priors

Found = tuple[Tensor, Tensor, Tensor, Tensor | None]
"""Boxes (N, L, 4), logits (N, L) with -inf for none, labels (N, L), perhaps mask probabilities (N, L, h, w)."""


class ExportedGraph(nn.Module):
    """A detector whose outputs have fixed sizes, so that it can become a graph.

    Images (N, 3, H, W), RGB, floating point in 0..1 -> boxes (N, L, 4) in their pixels, scores (N, L), best first,
    labels (N, L), and for a detector with masks mask probabilities (N, L, h, w): within the box for region-based
    detectors, otherwise of the whole image. If there are fewer than L detections, the rest have the score 0 and the
    label -1.

    Args:
        detector: in evaluation mode.
        mapping: of its scores, with the classes in the order of the labels, as `Predictor` has one.
        raw: leave suppression out. The outputs are then the best 4096 candidates, in the order in which suppression
            has to go through them: that of the detector's own scores, whatever a mapping makes of these.

    Attributes:
        suppression: what remains to be done with the outputs; None without `raw`.

    Raises:
        ValueError: the detector has a part that cannot be exported; the message names it.
    """

    def __init__(self, detector: Detector, mapping: ScoreMapping | None = None, *, raw: bool = False) -> None:
        super().__init__()
        self._detect = _way_of(detector)
        self.suppression = left_out(detector) if raw else None
        self.detector = (without_suppression(detector) if raw else detector).eval()
        self.mapped = None if mapping is None else MappedScores(mapping)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """See the class."""
        boxes, logits, labels, drawn = self._detect(self.detector, _batch_of(self.detector, images))
        scores, masks = logits.sigmoid(), [] if drawn is None else [drawn]
        if self.mapped is not None:
            scores = self.mapped(logits, labels)
            if self.suppression is None:
                scores, order = scores.topk(logits.shape[1])
                boxes, labels, *masks = (rows_of(part, order) for part in (boxes, labels, *masks))
        return (boxes, scores, torch.where(scores > 0, labels, -1), *masks)


def _batch_of(model: Detector, images: Tensor) -> ImageBatch:
    """The images as a batch; with the size of one for all, where their number is unknown."""
    preprocess = model.preprocess
    pixels = (images - preprocess.mean) / preprocess.std
    number, _, height, width = images.shape
    below, right = -height % preprocess.divisor, -width % preprocess.divisor
    pixels = F.pad(pixels, (0, right, 0, below))
    known = number if isinstance(number, int) else 1
    return ImageBatch(pixels, ((height, width),) * known, ((height + below, width + right),) * known)


def _one(batch: ImageBatch) -> ImageBatch:
    """The same with the size of one for all."""
    return replace(batch, sizes=batch.sizes[:1], padded_sizes=batch.padded_sizes[:1])


def _way_of(model: Detector) -> Callable[[Any, ImageBatch], Found]:
    if isinstance(model, DynamicMaskDetector):
        if type(model.postprocess) is not MatrixPostprocess:
            raise ValueError(f"{type(model.postprocess).__name__} cannot be exported; known is MatrixPostprocess")
        return cells
    check_postprocess(model.postprocess)
    if isinstance(model, TwoStageDetector):
        _check_regions(model)
        return _regions
    ways = ((PrototypeDetector, _prototypes), (DenseDetector, _dense), (QueryDetector, _queries))
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


def _dense(model: DenseDetector, batch: ImageBatch) -> Found:
    maps, chosen = model.maps_of(batch), model.postprocess
    predictions = model.stage.predict(maps, _one(batch))
    levels = model.stage.candidates(predictions, per_level=chosen.pre_nms, selection=chosen.selection)
    boxes, logits, labels, _ = Candidates.joined(levels)
    return (*choose(chosen, boxes, logits, labels, batch.sizes[0])[:3], None)


def _queries(model: QueryDetector, batch: ImageBatch) -> Found:
    said, most = model.network(batch, None), model.postprocess.pre_nms
    found = model.stage.candidates(said, most=most)
    boxes, logits, labels = (torch.stack(part) for part in zip(*found, strict=True))
    boxes, logits, labels, rows = choose(model.postprocess, boxes, logits, labels, batch.sizes[0])
    masks = said.decoder[-1].masks
    if masks is None:
        return boxes, logits, labels, None
    _, queries, _ = model.stage.best_pairs(said, most=most)
    return boxes, logits, labels, rows_or_zero(rows_of(masks.float().sigmoid(), queries), rows)


def _prototypes(model: PrototypeDetector, batch: ImageBatch) -> Found:
    maps, chosen = model.maps_of(batch), model.postprocess
    outputs, coefficients = model.stage.head(maps)
    predictions = model.stage.read(outputs, maps, _one(batch))
    levels = model.stage.candidates(predictions, per_level=chosen.pre_nms, selection=chosen.selection)
    found = Candidates.joined(levels)
    prototypes = model.masks.network(maps[0])
    boxes, logits, labels, rows = choose(chosen, found.boxes, found.logits, found.labels, batch.sizes[0])
    mixed = rows_or_zero(rows_of(coefficients, found.rows), rows)
    drawn = (mixed @ prototypes.flatten(2)).unflatten(2, prototypes.shape[2:])
    return boxes, logits, labels, _cut_to_boxes(drawn, boxes, batch)


def _cut_to_boxes(drawn: Tensor, boxes: Tensor, batch: ImageBatch) -> Tensor:
    """Probabilities of mask logits (N, L, h, w), 0 outside of their boxes."""
    height, width = drawn.shape[2:]
    down, across = height / batch.canvas[0], width / batch.canvas[1]
    x1, y1, x2, y2 = boxes.flatten(0, 1).unbind(1)
    in_cells = torch.stack((x1 * across, y1 * down, x2 * across, y2 * down), 1)
    inside = inside_boxes(in_cells, (height, width), margin=MARGIN).view_as(drawn)
    return drawn.float().sigmoid() * inside


def _regions(model: TwoStageDetector, batch: ImageBatch) -> Found:
    maps = model.maps_of(batch)
    proposed, real = _proposals(model, maps, batch)
    limit, stages, logits = proposed.shape[1], model.roi.box_stages, []
    regions, (rows,) = proposed.flatten(0, 1), torch.where(real.flatten())
    likeliest = torch.full_like(real.flatten(), -1, dtype=torch.long)
    for stage in stages:
        outputs = stage.head(pool(stage.pooler, maps, regions[rows], rows // limit))
        class_logits, deltas = (_spread(output, rows, number=regions.shape[0]) for output in outputs)
        predictions = Predictions(class_logits, deltas, class_logits[:, :0], Priors.proposals([regions]), stage.coder)
        logits.append(class_logits)
        if stage is not stages[-1]:
            (regions,) = stage.refine(predictions, likeliest, _one(batch))
    assert isinstance(model.roi, Cascade), "others have been refused"
    averaged = model.roi.average(torch.stack(logits), stages[-1].criterion)
    of_regions = stages[-1].candidates(replace(predictions, logits=averaged))[0]
    boxes, scores, labels = (part.unflatten(0, (-1, limit * model.num_classes)) for part in of_regions)
    counted = scores.masked_fill(~real.repeat_interleave(model.num_classes, 1), -torch.inf)
    boxes, scores, labels, _ = choose(model.postprocess, boxes, counted, labels, batch.sizes[0])
    return boxes, scores, labels, _drawn(model, maps, boxes, labels)


def _spread(values: Tensor, rows: Tensor, *, number: int) -> Tensor:
    """Values (R, ...) in their rows (R,) among ``number``, with zeros in the others."""
    return values.new_zeros(number, *values.shape[1:]).index_copy(0, rows, values)


def _proposals(model: TwoStageDetector, maps: list[Tensor], batch: ImageBatch) -> tuple[Tensor, Tensor]:
    """Regions (N, R, 4), and which of them are any (N, R)."""
    rule = model.settings.proposals
    assert rule is not None, "settings are complete"
    predictions = model.rpn.predict(maps, _one(batch))
    levels = list(model.rpn.candidates(predictions, per_level=rule.per_level_evaluation))
    joined = Candidates.joined(levels)
    level = torch.cat([torch.full_like(part.labels, number) for number, part in enumerate(levels)], 1)
    cut = clip_boxes(joined.boxes, batch.sizes[0])
    sound = large_enough(cut, rule.least_side) & torch.isfinite(joined.logits)
    counted, most = joined.logits.masked_fill(~sound, -torch.inf), joined.logits.shape[1]
    rows = greedy(cut, counted, level, threshold=rule.nms_threshold, limit=rule.keep, most=most)
    return rows_or_zero(cut, rows), rows != most


def _drawn(model: TwoStageDetector, maps: list[Tensor], boxes: Tensor, labels: Tensor) -> Tensor | None:
    """Mask probabilities (N, L, S, S) of the detections, the mean of all stages."""
    drawn, limit = [], labels.shape[1]
    regions, classes = boxes.flatten(0, 1), labels.flatten()
    index = torch.arange(classes.shape[0], device=classes.device) // limit
    for stage in model.roi.box_stages:
        branch: Any
        for branch in stage.branches:
            drawn.append(branch.head(pool(branch.pooler, maps, regions, index), classes).float().sigmoid())
    return torch.stack(drawn).mean(0).unflatten(0, (-1, limit)) if drawn else None


def pool(pooler: RoIPooler, maps: Sequence[Tensor], boxes: Tensor, image_index: Tensor) -> Tensor:
    """What a `RoIPooler` gives; how many regions a level has is left open, so that each is only pooled from its own."""
    levels = pooler.levels(boxes)
    regions = torch.cat((image_index[:, None].to(boxes.dtype), boxes), 1)
    size = (pooler.output_size,) * 2
    pooled = maps[0].new_zeros(boxes.shape[0], maps[0].shape[1], *size)
    for number, (features, stride) in enumerate(zip(maps, pooler.strides, strict=False)):
        (rows,) = torch.where(levels == number)
        part = roi_align(features, regions[rows], size, 1 / stride, pooler.sampling_ratio, aligned=pooler.aligned)
        pooled = pooled.index_copy(0, rows, part)
    return pooled
