"""Dense detectors, and the dense stage that they share with region proposal networks."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from rankdet.assign.assignment import Assigner
from rankdet.assign.ground_truth import GroundTruth
from rankdet.assign.samplers import KeepAll, Sampler
from rankdet.criteria.criterion import Criterion, CriterionOutput
from rankdet.criteria.predictions import Predictions
from rankdet.models.detector import Detection, Detector, Losses
from rankdet.models.postprocess import Postprocess
from rankdet.nn.anchors import AnchorGenerator
from rankdet.nn.preprocess import ImageBatch, Preprocess
from rankdet.ops.coder import BoxCoder


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
        outputs = self.head(maps)
        priors = self.anchors(maps, sizes=batch.sizes, padded_sizes=batch.padded_sizes)
        logits, deltas, quality_logits = (output.flatten(0, 1) for output in outputs)
        return Predictions(logits, deltas, quality_logits, priors, self.coder)

    def loss(self, predictions: Predictions, truth: GroundTruth) -> CriterionOutput:
        """Assign, sample, compare."""
        assignment = self.sampler(self.assigner(predictions.priors, truth), predictions.priors)
        return self.criterion(predictions, assignment)

    @torch.no_grad()
    def candidates(self, predictions: Predictions, *, per_level: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Best (prior, class) pairs, level by level: boxes (N, D, 4), logits (N, D) and classes (N, D)."""
        priors = predictions.priors
        images = priors.num_images
        logits = self.criterion.detection_logits(predictions.logits, predictions.quality_logits)
        classes = logits.shape[1]
        by_image = logits.detach().float().view(images, -1, classes).split(list(priors.level_sizes), 1)
        deltas = predictions.deltas.detach().view(images, -1, 4).split(list(priors.level_sizes), 1)
        boxes = priors.boxes[0].split(list(priors.level_sizes))
        for level_logits, level_deltas, level_boxes in zip(by_image, deltas, boxes, strict=True):
            pairs = level_logits.flatten(1)
            best, index = pairs.topk(min(per_level, pairs.shape[1]), dim=1)
            rows, labels = index // classes, index % classes
            chosen = level_deltas.gather(1, rows[..., None].expand(-1, -1, 4))
            yield predictions.coder.decode(level_boxes[rows], chosen), best, labels


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

    def losses(self, maps: list[Tensor], batch: ImageBatch, truth: GroundTruth) -> Losses:
        """See `Detector`."""
        losses = Losses()
        losses.include(self.stage.loss(self.stage.predict(maps, batch), truth))
        return losses

    def detect(self, maps: list[Tensor], batch: ImageBatch) -> list[Detection]:
        """See `Detector`."""
        levels = list(self.stage.candidates(self.stage.predict(maps, batch), per_level=self.postprocess.pre_nms))
        boxes, logits, labels = (torch.cat(parts, 1) for parts in zip(*levels, strict=True))
        return [self.postprocess(boxes[i], logits[i], labels[i], size) for i, size in enumerate(batch.sizes)]
