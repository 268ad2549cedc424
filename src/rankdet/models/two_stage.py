"""Two-stage detectors: proposals from a dense stage, then regions of interest classified and refined."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from rankdet.assign.assignment import IGNORE, Assigner, Assignment
from rankdet.assign.ground_truth import GroundTruth
from rankdet.assign.samplers import KeepAll, Sampler
from rankdet.criteria.criterion import Criterion, CriterionOutput
from rankdet.criteria.predictions import Predictions
from rankdet.models.dense import DenseStage
from rankdet.models.detector import Detector, Losses
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
        per_level: best candidates of each pyramid level in training and in evaluation.
        keep: proposals per image after suppression, over all levels.
        nms_threshold: IoU above which the worse of two candidates of the same level goes.
    """

    def __init__(
        self,
        *,
        per_level_training: int = 2000,
        per_level_evaluation: int = 1000,
        keep: int = 1000,
        nms_threshold: float = 0.7,
    ) -> None:
        self.per_level_training = per_level_training
        self.per_level_evaluation = per_level_evaluation
        self.keep = keep
        self.nms_threshold = nms_threshold

    @torch.no_grad()
    def __call__(self, stage: DenseStage, predictions: Predictions, batch: ImageBatch) -> list[Tensor]:
        """Predictions of the first stage -> one (R_i, 4) tensor per image, best first, cut to the image."""
        per_level = self.per_level_training if stage.training else self.per_level_evaluation
        levels = list(stage.candidates(predictions, per_level=per_level))
        boxes, logits, _ = (torch.cat(parts, 1) for parts in zip(*levels, strict=True))
        sizes = [level_logits.shape[1] for _, level_logits, _ in levels]
        level = torch.cat([torch.full((n,), i, device=logits.device) for i, n in enumerate(sizes)])
        return [self._of_image(boxes[i], logits[i], level, size) for i, size in enumerate(batch.sizes)]

    def _of_image(self, boxes: Tensor, logits: Tensor, level: Tensor, size: tuple[int, int]) -> Tensor:
        boxes = clip_boxes(boxes, size)
        sound = (boxes[:, 2:] > boxes[:, :2]).all(1) & torch.isfinite(logits)
        boxes, logits, level = boxes[sound], logits[sound], level[sound]
        return boxes[top_after_nms(boxes, logits, level, threshold=self.nms_threshold, limit=self.keep)]

    def __repr__(self) -> str:
        return f"ProposalSelection({', '.join(f'{name}={value}' for name, value in vars(self).items())})"


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

    def assign(self, proposals: Sequence[Tensor], truth: GroundTruth) -> tuple[Priors, Assignment]:
        """Regions to train on, and what each shall predict."""
        if self.add_objects:
            proposals = [torch.cat(pair) for pair in zip(truth.boxes, proposals, strict=True)]
        priors = Priors.proposals(proposals)
        assignment = self.sampler(self.assigner(priors, truth), priors)
        if isinstance(self.sampler, KeepAll):
            return priors, assignment
        rows = assignment.labels != IGNORE
        return priors.select(rows), assignment.select(rows)

    def loss(self, maps: Sequence[Tensor], proposals: Sequence[Tensor], truth: GroundTruth) -> CriterionOutput:
        """Assign, sample, predict, compare."""
        priors, assignment = self.assign(proposals, truth)
        return self.criterion(self.predict(maps, priors), assignment)

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
        roi: RoIStage,
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

    @property
    def criterion(self) -> Criterion:
        """What the second stage learns from."""
        return self.roi.criterion

    @property
    def rpn_criterion(self) -> Criterion:
        """What the first stage learns from."""
        return self.rpn.criterion

    @property
    def sampler(self) -> Sampler:
        """Regions to learn from."""
        return self.roi.sampler

    @property
    def rpn_sampler(self) -> Sampler:
        """Anchors to learn from."""
        return self.rpn.sampler

    @property
    def rpn_coder(self) -> BoxCoder:
        """How the first stage regresses boxes."""
        return self.rpn.coder

    def losses(self, maps: list[Tensor], batch: ImageBatch, truth: GroundTruth) -> Losses:
        """See `Detector`."""
        losses = Losses()
        predictions = self.rpn.predict(maps, batch)
        losses.include(self.rpn.loss(predictions, truth.without_classes()), prefix="rpn_")
        losses.include(self.roi.loss(maps, self.proposals(self.rpn, predictions, batch), truth), prefix="roi_")
        return losses

    def detect(self, maps: list[Tensor], batch: ImageBatch) -> list[dict[str, Tensor]]:
        """See `Detector`."""
        proposals = self.proposals(self.rpn, self.rpn.predict(maps, batch), batch)
        predictions = self.roi.predict(maps, Priors.proposals(proposals))
        found = zip(self.roi.candidates(predictions), batch.sizes, strict=True)
        return [self.postprocess(*candidates, size) for candidates, size in found]
