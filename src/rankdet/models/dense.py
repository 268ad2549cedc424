"""Dense detectors, and the dense stage that they share with region proposal networks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from rankdet.assign.assignment import Assigner, Assignment, CostAssigner
from rankdet.assign.ground_truth import GroundTruth
from rankdet.assign.samplers import KeepAll, Sampler
from rankdet.criteria.criterion import Criterion, CriterionOutput
from rankdet.criteria.predictions import Predictions
from rankdet.models.detector import Detection, Detector, Losses
from rankdet.models.postprocess import Postprocess
from rankdet.nn.anchors import AnchorGenerator
from rankdet.nn.dense_head import DenseOutputs
from rankdet.nn.preprocess import ImageBatch, Preprocess
from rankdet.ops.coder import BoxCoder


class Candidates(NamedTuple):
    """Pairs of a prior and a class that may become detections, D for each of N images.

    Attributes:
        boxes: (N, D, 4), decoded, not yet cut to the image.
        logits: (N, D), float32.
        labels: (N, D), classes.
        rows: (N, D), the prior of each among those of its image.
    """

    boxes: Tensor
    logits: Tensor
    labels: Tensor
    rows: Tensor

    @classmethod
    def joined(cls, levels: Iterable[Candidates]) -> Candidates:
        """Those of all levels together."""
        return cls(*(torch.cat(parts, 1) for parts in zip(*levels, strict=True)))


class DenseStage(nn.Module):
    """Predictions at every cell of a pyramid, who of them is positive, and what is learned from that."""

    def __init__(
        self,
        *,
        head: nn.Module,
        anchors: AnchorGenerator,
        coder: BoxCoder,
        assigner: Assigner,
        criterion: Criterion,
        sampler: Sampler | None = None,
    ) -> None:
        super().__init__()
        self.head = head
        self.anchors = anchors
        self.coder = coder
        self.assigner = assigner
        self.criterion = criterion
        self.sampler = sampler or KeepAll()

    def predict(self, maps: list[Tensor], batch: ImageBatch) -> Predictions:
        """Pyramid maps -> predictions of all images, image by image and level by level."""
        return self.read(self.head(maps), maps, batch)

    def read(self, outputs: DenseOutputs, maps: list[Tensor], batch: ImageBatch) -> Predictions:
        """Outputs of the head -> the same as predictions."""
        priors = self.anchors(maps, sizes=batch.sizes, padded_sizes=batch.padded_sizes)
        logits, deltas, quality_logits = (output.flatten(0, 1) for output in outputs)
        return Predictions(logits, deltas, quality_logits, priors, self.coder)

    def assign(self, predictions: Predictions, truth: GroundTruth) -> Assignment:
        """Who is positive, and who is looked at."""
        priors = predictions.priors
        assignment = self.assigner(priors, truth)
        if isinstance(self.assigner, CostAssigner):
            cost = self.criterion.cost(predictions, assignment)
            assignment = self.assigner.choose(assignment, cost, priors=priors, truth=truth)
        return self.sampler(assignment, priors)

    def loss(self, predictions: Predictions, truth: GroundTruth) -> CriterionOutput:
        """Assign, sample, compare."""
        return self.criterion(predictions, self.assign(predictions, truth))

    @torch.no_grad()
    def candidates(self, predictions: Predictions, *, per_level: int) -> Iterator[Candidates]:
        """The best ``per_level`` (prior, class) pairs of each image, level by level."""
        priors = predictions.priors
        images = priors.num_images
        logits = self.criterion.detection_logits(predictions.logits, predictions.quality_logits)
        classes = logits.shape[1]
        by_image = logits.detach().float().view(images, -1, classes).split(list(priors.level_sizes), 1)
        deltas = predictions.deltas.detach().view(images, -1, 4).split(list(priors.level_sizes), 1)
        boxes = priors.boxes[0].split(list(priors.level_sizes))
        start = 0
        for level_logits, level_deltas, level_boxes in zip(by_image, deltas, boxes, strict=True):
            pairs = level_logits.flatten(1)
            best, index = pairs.topk(min(per_level, pairs.shape[1]), dim=1)
            rows, labels = index // classes, index % classes
            chosen = level_deltas.gather(1, rows[..., None].expand(-1, -1, 4))
            yield Candidates(predictions.coder.decode(level_boxes[rows], chosen), best, labels, start + rows)
            start += len(level_boxes)


class DenseDetector(Detector):
    """One dense stage on a pyramid: RetinaNet, ATSS and their kin, put together from parts."""

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: nn.Module,
        neck: nn.Module,
        stage: DenseStage,
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
        self.stage = stage

    @property
    def criterion(self) -> Criterion:
        """What it learns from."""
        return self.stage.criterion

    @property
    def assigner(self) -> Assigner:
        """Who is positive."""
        return self.stage.assigner

    @property
    def coder(self) -> BoxCoder:
        """How boxes are regressed."""
        return self.stage.coder

    @property
    def class_layers(self) -> Sequence[nn.Conv2d | nn.Linear]:
        """See `Detector`."""
        return [self.stage.head.classify]  # type: ignore[list-item]

    def losses(self, maps: list[Tensor], batch: ImageBatch, truth: GroundTruth) -> Losses:
        """See `Detector`."""
        losses = Losses()
        losses.include(self.stage.loss(self.stage.predict(maps, batch), truth))
        return losses

    def detect(self, maps: list[Tensor], batch: ImageBatch) -> list[Detection]:
        """See `Detector`."""
        levels = self.stage.candidates(self.stage.predict(maps, batch), per_level=self.postprocess.pre_nms)
        boxes, logits, labels, _ = Candidates.joined(levels)
        return [self.postprocess(boxes[i], logits[i], labels[i], size) for i, size in enumerate(batch.sizes)]
