"""Two-stage detectors: proposals from a dense stage, then regions of interest classified and refined, once or more."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from rankdet.assign.assignment import IGNORE, Assigner, Assignment
from rankdet.assign.ground_truth import GroundTruth
from rankdet.assign.samplers import KeepAll, Sampler
from rankdet.criteria.criterion import Criterion, CriterionOutput
from rankdet.criteria.predictions import Predictions
from rankdet.models.dense import Candidates, DenseStage
from rankdet.models.detector import Detection, Detector, Losses
from rankdet.models.postprocess import Postprocess
from rankdet.nn.preprocess import ImageBatch, Preprocess
from rankdet.nn.roi import BoxHead, RoIPooler
from rankdet.ops.boxes import clip_boxes
from rankdet.ops.coder import BoxCoder
from rankdet.ops.nms import top_after_nms
from rankdet.ops.priors import Priors


class ProposalSelection:
    """Which boxes of the first stage become regions of the second.

    Args:
        per_level_training: best candidates that each pyramid level sends in training.
        per_level_evaluation: the same in evaluation.
        keep: proposals per image after suppression, over all levels.
        nms_threshold: IoU above which the worse of two candidates of the same level goes.
        add_objects: whether the objects themselves join the proposals in training, as published for RS Loss and for
            cross entropy; not so for aLRP Loss.
    """

    def __init__(
        self,
        *,
        per_level_training: int = 2000,
        per_level_evaluation: int = 1000,
        keep: int = 1000,
        nms_threshold: float = 0.7,
        add_objects: bool = True,
    ) -> None:
        self.per_level_training = per_level_training
        self.per_level_evaluation = per_level_evaluation
        self.keep = keep
        self.nms_threshold = nms_threshold
        self.add_objects = add_objects

    @torch.no_grad()
    def __call__(self, stage: DenseStage, predictions: Predictions, batch: ImageBatch) -> list[Tensor]:
        """Predictions of the first stage -> one (R_i, 4) tensor per image, best first, cut to the image."""
        per_level = self.per_level_training if stage.training else self.per_level_evaluation
        levels = list(stage.candidates(predictions, per_level=per_level))
        boxes, logits, _, _ = Candidates.joined(levels)
        sizes = [candidates.logits.shape[1] for candidates in levels]
        level = torch.cat([torch.full((n,), i, device=logits.device) for i, n in enumerate(sizes)])
        return [self._of_image(boxes[i], logits[i], level, size) for i, size in enumerate(batch.sizes)]

    def _of_image(self, boxes: Tensor, logits: Tensor, level: Tensor, size: tuple[int, int]) -> Tensor:
        boxes = clip_boxes(boxes, size)
        sound = ((boxes[:, 2:] > boxes[:, :2]).all(1) & torch.isfinite(logits)).nonzero().squeeze(1)
        boxes, logits, level = boxes[sound], logits[sound], level[sound]
        return boxes[top_after_nms(boxes, logits, level, threshold=self.nms_threshold, limit=self.keep)]

    def __repr__(self) -> str:
        return f"ProposalSelection({', '.join(f'{name}={value}' for name, value in vars(self).items())})"


@dataclass(frozen=True)
class RoITraining:
    """What a region stage did in a training step: its losses, and all that later stages and masks go on from.

    ``is_object`` (P,) marks the regions that are the objects themselves.
    """

    output: CriterionOutput
    predictions: Predictions
    assignment: Assignment
    is_object: Tensor


class RoIStage(nn.Module):
    """Regions are pooled, classified and refined; who of them is positive, and what is learned from that.

    Args:
        add_objects: whether the objects themselves join the proposals in training, as in the published code.
    """

    def __init__(
        self,
        *,
        pooler: RoIPooler,
        head: BoxHead,
        coder: BoxCoder,
        assigner: Assigner,
        criterion: Criterion,
        sampler: Sampler | None = None,
        add_objects: bool = True,
    ) -> None:
        super().__init__()
        self.pooler = pooler
        self.head = head
        self.coder = coder
        self.assigner = assigner
        self.criterion = criterion
        self.sampler = sampler or KeepAll()
        self.add_objects = add_objects

    def predict(self, maps: Sequence[Tensor], priors: Priors) -> Predictions:
        """Pyramid maps and regions -> predictions for the regions."""
        pooled = self.pooler(maps, torch.cat(priors.boxes), priors.image_index)
        logits, deltas = self.head(pooled)
        return Predictions(logits, deltas, logits[:, :0], priors, self.coder)

    def train_on(self, maps: Sequence[Tensor], proposals: Sequence[Tensor], truth: GroundTruth) -> RoITraining:
        """Assign, sample, predict, compare."""
        priors, assignment, is_object = self._assign(proposals, truth)
        predictions = self.predict(maps, priors)
        return RoITraining(self.criterion(predictions, assignment), predictions, assignment, is_object)

    def _assign(self, proposals: Sequence[Tensor], truth: GroundTruth) -> tuple[Priors, Assignment, Tensor]:
        """Regions to train on, what each shall predict, and which of them are objects."""
        added = [len(boxes) if self.add_objects else 0 for boxes in truth.boxes]
        regions = [torch.cat((o[:n], r)) for o, n, r in zip(truth.boxes, added, proposals, strict=True)]
        is_object = torch.cat([torch.arange(len(r), device=r.device) < n for r, n in zip(regions, added, strict=True)])
        priors = Priors.proposals(regions)
        assignment = self.sampler(self.assigner(priors, truth), priors)
        if isinstance(self.sampler, KeepAll):
            return priors, assignment, is_object
        rows = assignment.labels != IGNORE
        return priors.select(rows), assignment.select(rows), is_object[rows]

    @torch.no_grad()
    def refine(self, predictions: Predictions, labels: Tensor, batch: ImageBatch) -> list[Tensor]:
        """Boxes (R_i, 4) of the regions of each image, cut to it; for the classes (P,), the likeliest where < 0."""
        logits = self.criterion.detection_logits(predictions.logits, predictions.quality_logits)
        classes = torch.where(labels >= 0, labels, logits.argmax(1))
        rows = torch.arange(len(classes), device=classes.device)
        regions = torch.cat(predictions.priors.boxes)
        boxes = predictions.coder.decode(regions, predictions.deltas_of(rows, classes))
        counts = [len(of_image) for of_image in predictions.priors.boxes]
        return [clip_boxes(part, size) for part, size in zip(boxes.split(counts), batch.sizes, strict=True)]

    @torch.no_grad()
    def candidates(self, predictions: Predictions) -> list[tuple[Tensor, Tensor, Tensor]]:
        """All (region, class) pairs: boxes (R_i K, 4), logits and classes (R_i K,) of each image."""
        logits = self.criterion.detection_logits(predictions.logits, predictions.quality_logits).float()
        regions, classes = logits.shape
        priors = torch.cat(predictions.priors.boxes)[:, None].expand(-1, classes, -1)
        deltas = predictions.deltas.unflatten(1, (-1, 4)).expand(-1, classes, -1)
        boxes = predictions.coder.decode(priors, deltas)
        labels = torch.arange(classes, device=logits.device).expand(regions, -1)
        sizes = [len(of_image) for of_image in predictions.priors.boxes]
        parts = zip(boxes.split(sizes), logits.split(sizes), labels.split(sizes), strict=True)
        return [(b.flatten(0, 1), s.flatten(), c.flatten()) for b, s, c in parts]


class RoIHead(nn.Module, ABC):
    """Everything behind the proposals."""

    needs_masks = False

    @property
    @abstractmethod
    def box_stages(self) -> Sequence[RoIStage]:
        """The region stages, in order."""

    @abstractmethod
    def losses(
        self, maps: Sequence[Tensor], proposals: Sequence[Tensor], truth: GroundTruth, batch: ImageBatch
    ) -> Losses:
        """Losses of all stages, names prefixed by stage."""

    @abstractmethod
    def detect(
        self, maps: Sequence[Tensor], proposals: Sequence[Tensor], batch: ImageBatch, postprocess: Postprocess
    ) -> list[Detection]:
        """Detections of each image."""


class Cascade(RoIHead):
    """Region stages, each refining the boxes of the one before, or just one.

    Cascade R-CNN (Cai & Vasconcelos, CVPR 2018). Every stage assigns anew, by its own standard.
    In evaluation the class outputs are averaged over the stages, the
    boxes are those of the last.

    Args:
        stages: in order.
        weights: factor on the losses of each; 1 by default.
    """

    def __init__(self, stages: Sequence[RoIStage], *, weights: Sequence[float] | None = None) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.weights = tuple(weights) if weights is not None else (1.0,) * len(stages)
        if len(self.weights) != len(stages):
            raise ValueError(f"there are {len(stages)} stages but {len(self.weights)} weights {self.weights}")

    @property
    def box_stages(self) -> Sequence[RoIStage]:
        """See `RoIHead`."""
        return list(self.stages)  # type: ignore[arg-type]

    def prefix(self, number: int) -> str:
        """Of the names of the losses of a stage: roi_, or roi1_, roi2_, ... where there are several."""
        return "roi_" if len(self.stages) == 1 else f"roi{number + 1}_"

    def train_stages(
        self, maps: Sequence[Tensor], proposals: Sequence[Tensor], truth: GroundTruth, batch: ImageBatch
    ) -> list[RoITraining]:
        """Train every stage on what the one before made of the proposals; objects that were added do not go on."""
        done: list[RoITraining] = []
        for stage in self.box_stages:
            if done:
                before = done[-1]
                refined = self.box_stages[len(done) - 1].refine(before.predictions, before.assignment.labels, batch)
                is_object = before.is_object.split([len(boxes) for boxes in refined])
                proposals = [boxes[~added] for boxes, added in zip(refined, is_object, strict=True)]
            done.append(stage.train_on(maps, proposals, truth))
        return done

    def losses(
        self, maps: Sequence[Tensor], proposals: Sequence[Tensor], truth: GroundTruth, batch: ImageBatch
    ) -> Losses:
        """See `RoIHead`."""
        losses = Losses()
        for number, done in enumerate(self.train_stages(maps, proposals, truth, batch)):
            losses.include(done.output, prefix=self.prefix(number), weight=self.weights[number])
        return losses

    def detect(
        self, maps: Sequence[Tensor], proposals: Sequence[Tensor], batch: ImageBatch, postprocess: Postprocess
    ) -> list[Detection]:
        """See `RoIHead`."""
        logits = []
        for number, stage in enumerate(self.box_stages):
            predictions = stage.predict(maps, Priors.proposals(proposals))
            logits.append(predictions.logits)
            if number + 1 < len(self.stages):
                unknown = torch.full((len(predictions.logits),), -1, device=predictions.logits.device)
                proposals = stage.refine(predictions, unknown, batch)
        averaged = replace(predictions, logits=torch.stack(logits).mean(0))
        found = zip(self.box_stages[-1].candidates(averaged), batch.sizes, strict=True)
        return [postprocess(*candidates, size) for candidates, size in found]


class TwoStageDetector(Detector):
    """Proposals, then regions: Faster R-CNN and its kin, put together from parts."""

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: nn.Module,
        neck: nn.Module,
        rpn: DenseStage,
        proposals: ProposalSelection,
        roi: RoIHead,
        postprocess: Postprocess,
        preprocess: Preprocess | None = None,
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            preprocess=preprocess or Preprocess(),
            backbone=backbone,
            neck=neck,
            postprocess=postprocess,
        )
        self.rpn = rpn
        self.proposals = proposals
        self.roi = roi
        self.needs_masks = roi.needs_masks

    @property
    def criterion(self) -> Criterion:
        """What the second stage learns from."""
        return self.roi.box_stages[0].criterion

    @property
    def sampler(self) -> Sampler:
        """Regions that the second stage learns from."""
        return self.roi.box_stages[0].sampler

    @property
    def rpn_criterion(self) -> Criterion:
        """What the first stage learns from."""
        return self.rpn.criterion

    @property
    def rpn_sampler(self) -> Sampler:
        """Anchors to learn from."""
        return self.rpn.sampler

    @property
    def rpn_coder(self) -> BoxCoder:
        """How the first stage regresses boxes."""
        return self.rpn.coder

    @property
    def class_layers(self) -> Sequence[nn.Conv2d | nn.Linear]:
        """See `Detector`; the logits of several stages are averaged."""
        return [stage.head.classify for stage in self.roi.box_stages]

    def losses(self, maps: list[Tensor], batch: ImageBatch, truth: GroundTruth) -> Losses:
        """See `Detector`."""
        losses = Losses()
        predictions = self.rpn.predict(maps, batch)
        losses.include(self.rpn.loss(predictions, truth.without_classes()), prefix="rpn_")
        proposals = self.proposals(self.rpn, predictions, batch)
        losses.merge(self.roi.losses(maps, proposals, truth, batch))
        return losses

    def detect(self, maps: list[Tensor], batch: ImageBatch) -> list[Detection]:
        """See `Detector`."""
        proposals = self.proposals(self.rpn, self.rpn.predict(maps, batch), batch)
        return self.roi.detect(maps, proposals, batch, self.postprocess)
