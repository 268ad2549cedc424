"""A region stage: regions are pooled, classified and refined, and what its branches do with them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from rankdet.assign.assignment import IGNORE, Assigner, Assignment
from rankdet.assign.ground_truth import GroundTruth
from rankdet.assign.samplers import KeepAll, Sampler
from rankdet.criteria.criterion import Criterion
from rankdet.models.region.branch import Branch, BranchFactory, RegionStep
from rankdet.nn.box_head import BoxHead, RegionPredictor, RegionPredictorFactory
from rankdet.nn.preprocess import ImageBatch
from rankdet.nn.roi import Pooler, PoolerFactory, RoIPooler
from rankdet.ops.boxes import clip_boxes
from rankdet.ops.coder import BoxCoder, DeltaCoder
from rankdet.ops.part import Part, made
from rankdet.ops.predictions import Predictions
from rankdet.ops.priors import Priors, listed

LEVELS = 4
"""Pyramid levels that regions are pooled from: P2 to P5."""


class RoIStage(nn.Module, Part):
    """Regions are pooled, classified and refined; who of them is positive, and what is learned from that.

    A recipe completes what is None in its template (see `RoIStageTemplate`); elsewhere the defaults below hold.

    Args:
        in_channels: channels of the pyramid maps.
        num_classes: K.
        strides: of the pyramid maps.
        criterion: what it learns from.
        assigner: who is positive.
        pooler: by default `RoIPooler` on 7 x 7 cells of P2 to P5.
        head: by default `BoxHead`.
        coder: how boxes are regressed; by default `DeltaCoder`.
        sampler: regions to learn from; all by default.
        box_outputs: boxes per region; by default one for each class, 1 for one box shared by all, 0 for the region
            itself.
        add_objects: whether the objects themselves join the proposals in training, as in the published code; they do by
            default.
        branches: what else it says of its positives and of detections; nothing by default.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        num_classes: int,
        strides: Sequence[float],
        criterion: Criterion,
        assigner: Assigner,
        pooler: Pooler | PoolerFactory | None = None,
        head: RegionPredictor | RegionPredictorFactory | None = None,
        coder: BoxCoder | None = None,
        sampler: Sampler | None = None,
        box_outputs: int | None = None,
        add_objects: bool | None = None,
        branches: Sequence[Branch | BranchFactory] | None = None,
    ) -> None:
        super().__init__()
        if criterion.quality_channels:
            raise ValueError(
                f"{type(criterion).__name__} judges by a quality branch, which the stages of an R-CNN do not have; set "
                "judged=None, or take a dense detector such as ATSS"
            )
        self.pooler: Any = made(pooler or partial(RoIPooler, 7), strides=tuple(strides[:LEVELS]))
        self.head: Any = made(
            head or BoxHead,
            getattr(self.pooler, "channels", in_channels),
            num_logits=criterion.num_logits(num_classes),
            box_outputs=num_classes if box_outputs is None else box_outputs,
            prior_probability=criterion.prior_score,
        )
        self.coder = coder or DeltaCoder()
        self.assigner = assigner
        self.criterion = criterion
        self.sampler = sampler or KeepAll()
        self.add_objects = add_objects is not False
        self.branches = nn.ModuleList(
            made(branch, in_channels, num_classes=num_classes, strides=strides, follows=criterion)
            for branch in branches or ()
        )

    def predict(self, maps: Sequence[Tensor], priors: Priors) -> Predictions:
        """Pyramid maps and regions -> predictions for the regions."""
        pooled = self.pooler(maps, torch.cat(priors.boxes), priors.image_index)
        logits, deltas = self.head(pooled)
        return Predictions(logits, deltas, logits[:, :0], priors, self.coder)

    def train_on(self, maps: Sequence[Tensor], proposals: Sequence[Tensor], truth: GroundTruth) -> RegionStep:
        """Assign, sample, predict, compare."""
        priors, assignment, objects = self.assign(proposals, truth)
        predictions = self.predict(maps, priors)
        return RegionStep(self.criterion(predictions, assignment), predictions, assignment, objects)

    def assign(self, proposals: Sequence[Tensor], truth: GroundTruth) -> tuple[Priors, Assignment, list[int]]:
        """Regions to train on, what each should predict, and how many of each image, the first, are its objects."""
        added = [boxes if self.add_objects else boxes[:0] for boxes in truth.boxes]
        priors = Priors.proposals([torch.cat(of_image) for of_image in zip(added, proposals, strict=True)])
        assignment = self.sampler(self.match(priors, truth), priors, truth)
        if isinstance(self.sampler, KeepAll):
            return priors, assignment, [len(objects) for objects in added]
        sizes = [len(part) for of_image in zip(added, proposals, strict=True) for part in of_image]
        looked_at, positive = assignment.labels != IGNORE, assignment.labels >= 0
        rows, (*counts, _) = listed(torch.cat((looked_at, positive)), [*sizes, len(priors)])
        rows, known = rows[: sum(counts)], rows[sum(counts) :] - len(priors)
        objects, others = counts[::2], counts[1::2]
        of_images = [sum(of_image) for of_image in zip(objects, others, strict=True)]
        return priors.take(rows, of_images), assignment.select(rows, known=known), objects

    def match(self, priors: Priors, truth: GroundTruth) -> Assignment:
        """Who of all regions is positive."""
        return self.assigner(priors, truth)

    @torch.no_grad()
    def refine(self, predictions: Predictions, labels: Tensor, batch: ImageBatch) -> list[Tensor]:
        """Boxes (R_i, 4) of the regions of each image, cut to it; for the classes (P,), the likeliest where < 0."""
        logits = self.criterion.detection_logits(predictions.logits, predictions.quality_logits)
        classes = torch.where(labels >= 0, labels, logits.argmax(1))
        rows = torch.arange(classes.shape[0], device=classes.device)
        boxes = predictions.boxes_of(rows, predictions.deltas_of(rows, classes))
        counts = [of_image.shape[0] for of_image in predictions.priors.boxes]
        return [clip_boxes(part, size) for part, size in zip(boxes.split(counts), batch.sizes, strict=True)]

    @torch.no_grad()
    def candidates(self, predictions: Predictions) -> list[tuple[Tensor, Tensor, Tensor]]:
        """All (region, class) pairs: boxes (R_i K, 4), logits and classes (R_i K,) of each image."""
        logits = self.criterion.detection_logits(predictions.logits, predictions.quality_logits).float()
        regions, classes = logits.shape
        boxes = torch.cat(predictions.priors.boxes)[:, None].expand(-1, classes, -1)
        if predictions.regresses_boxes:
            boxes = predictions.coder.decode(boxes, predictions.deltas.unflatten(1, (-1, 4)).expand(-1, classes, -1))
        labels = torch.arange(classes, device=logits.device).expand(regions, -1)
        sizes = [of_image.shape[0] for of_image in predictions.priors.boxes]
        parts = zip(boxes.split(sizes), logits.split(sizes), labels.split(sizes), strict=True)
        return [(b.flatten(0, 1), s.flatten(), c.flatten()) for b, s, c in parts]


class RoIStageFactory(Protocol):
    """Makes a stage once the pyramid and K are known; ``partial(RoIStage, criterion=..., assigner=...)`` is one."""

    def __call__(self, in_channels: int, *, num_classes: int, strides: Sequence[float]) -> RoIStage:
        """See the class."""
