"""Detectors with a transformer, whatever the network: DETR and its kin."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from rankdet.assign.ground_truth import GroundTruth
from rankdet.criteria.criterion import Criterion
from rankdet.models.detector import Detection, Detector, Losses
from rankdet.models.postprocess import Postprocess
from rankdet.models.queries.outputs import QueryNetwork
from rankdet.models.queries.postprocess import TopPostprocess
from rankdet.models.queries.stage import QueryStage
from rankdet.nn.network import require
from rankdet.nn.preprocess import ImageBatch, Preprocess


class QueryDetector(Detector):
    """A transformer whose queries are matched with objects one to one, layer by layer.

    Args as `Detector`, and

        network: images to what its layers say of the queries; has as many logits as the criterion of the stage wants.
        stage: what the layers learn.
        postprocess: how detections are chosen; by default `TopPostprocess`.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        network: QueryNetwork,
        stage: QueryStage,
        postprocess: Postprocess | None = None,
        preprocess: Preprocess | None = None,
    ) -> None:
        super().__init__(num_classes=num_classes, postprocess=postprocess or TopPostprocess(), preprocess=preprocess)
        require(network, QueryNetwork, "class_layers")
        self.network: Any = network
        self.stage = stage

    @property
    def criterion(self) -> Criterion:
        """See `Detector`."""
        return self.stage.criterion

    @property
    def class_layers(self) -> Sequence[nn.Conv2d | nn.Linear]:
        """See `Detector`."""
        return list(self.network.class_layers)

    def losses_of(self, batch: ImageBatch, truth: GroundTruth) -> Losses:
        """See `Detector`."""
        return self.stage.loss(self.network(batch, truth), truth)

    def detections_in(self, batch: ImageBatch) -> list[Detection]:
        """See `Detector`."""
        candidates = self.stage.candidates(self.network(batch, None), most=self.postprocess.pre_nms)
        boxes, logits, labels = zip(*candidates, strict=True)
        found: list[Detection] = self.postprocess.of_batch(boxes, logits, labels, batch.sizes)
        return found
