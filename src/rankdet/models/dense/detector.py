"""Dense detectors: RetinaNet, ATSS and their kin, assembled from parts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from rankdet.assign.ground_truth import GroundTruth
from rankdet.criteria.criterion import Criterion
from rankdet.models.dense.stage import Candidates, DenseStage, DenseStageFactory
from rankdet.models.detector import Detection, Losses, class_layers_of
from rankdet.models.postprocess import Postprocess
from rankdet.models.pyramid_detector import PyramidDetector
from rankdet.nn.backbone import Backbone
from rankdet.nn.neck import Neck, NeckFactory
from rankdet.nn.preprocess import ImageBatch, Preprocess
from rankdet.ops.part import made


class DenseDetector(PyramidDetector):
    """One dense stage on a pyramid.

    Args as `PyramidDetector`, and ``stage``, which a factory makes from the channels of the neck and K.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: Backbone,
        neck: Neck | NeckFactory,
        stage: DenseStage | DenseStageFactory,
        postprocess: Postprocess | None = None,
        preprocess: Preprocess | None = None,
        inputs: int | None = None,
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=neck,
            postprocess=postprocess,
            preprocess=preprocess,
            inputs=inputs,
        )
        self.stage: Any = made(stage, self.neck.channels, num_classes=num_classes)

    @property
    def criterion(self) -> Criterion:
        """See `Detector`."""
        criterion: Criterion = self.stage.criterion
        return criterion

    @property
    def class_layers(self) -> Sequence[nn.Conv2d | nn.Linear]:
        """See `Detector`."""
        return class_layers_of(self.stage.head)

    def losses(self, maps: list[Tensor], batch: ImageBatch, truth: GroundTruth) -> Losses:
        """See `Detector`."""
        losses = Losses()
        losses.include(self.stage.loss(self.stage.predict(maps, batch), truth))
        return losses

    def candidates(self, maps: list[Tensor], batch: ImageBatch) -> Candidates:
        """What may become detections, before any suppression."""
        predictions, chosen = self.stage.predict(maps, batch), self.postprocess
        levels = self.stage.candidates(predictions, per_level=chosen.pre_nms, selection=chosen.selection)
        return Candidates.joined(levels)

    def detect(self, maps: list[Tensor], batch: ImageBatch) -> list[Detection]:
        """See `Detector`."""
        boxes, logits, labels, _ = self.candidates(maps, batch)
        found: list[Detection] = self.postprocess.of_batch(boxes, logits, labels, batch.sizes)
        return found
