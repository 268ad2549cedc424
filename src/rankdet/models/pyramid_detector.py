"""Detectors that look at the maps of a backbone and a neck: all but those with a transformer."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

from torch import Tensor

from rankdet.assign.ground_truth import GroundTruth
from rankdet.models.detector import Detection, Detector, Losses
from rankdet.models.postprocess import Postprocess
from rankdet.nn.backbone import Backbone
from rankdet.nn.neck import Neck, NeckFactory
from rankdet.nn.network import require
from rankdet.nn.preprocess import ImageBatch, Preprocess
from rankdet.ops.part import made


class PyramidDetector(Detector):
    """A detector whose heads see pyramid maps.

    Args as `Detector`, and

        backbone: images to maps.
        neck: maps of the backbone to those that heads see; a factory is given the channels of the maps it takes.
        inputs: how many of the backbone's maps the neck takes, the coarsest ones; all by default.
    """

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: Backbone,
        neck: Neck | NeckFactory,
        postprocess: Postprocess | None = None,
        preprocess: Preprocess | None = None,
        inputs: int | None = None,
    ) -> None:
        super().__init__(num_classes=num_classes, postprocess=postprocess, preprocess=preprocess)
        require(backbone, Backbone, "channels", "strides")
        self.backbone: Any = backbone
        self.inputs = min(inputs or len(backbone.channels), len(backbone.channels))
        self.neck: Any = made(neck, tuple(backbone.channels[-self.inputs :]))
        require(self.neck, Neck, "channels")

    def maps_of(self, batch: ImageBatch) -> list[Tensor]:
        """What the heads see of a batch."""
        maps: list[Tensor] = self.neck(self.backbone(batch.pixels)[-self.inputs :])
        return maps

    def losses_of(self, batch: ImageBatch, truth: GroundTruth) -> Losses:
        """See `Detector`."""
        return self.losses(self.maps_of(batch), batch, truth)

    def detections_in(self, batch: ImageBatch) -> list[Detection]:
        """See `Detector`."""
        return self.detect(self.maps_of(batch), batch)

    @abstractmethod
    def losses(self, maps: list[Tensor], batch: ImageBatch, truth: GroundTruth) -> Losses:
        """Losses of a batch given its pyramid maps and objects."""

    @abstractmethod
    def detect(self, maps: list[Tensor], batch: ImageBatch) -> list[Detection]:
        """Detections of each image of a batch given its pyramid maps."""
