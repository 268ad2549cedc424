"""A stand-alone region proposal network (Ren et al., NeurIPS 2015, section 3.1; FPN, section 4.1).

Its detections are proposals: boxes of one class, suppressed level by level, 1000 of an image. By default it learns by
Rank & Sort Loss; with `rpn_cross_entropy` it is the original, of which MMDetection's table 9 varies the beta of smooth
L1, the border and the bound on negatives:

    RPNDetector(
        num_classes=1,
        criterion=rpn_cross_entropy(beta=1 / 15),
        rpn=partial(RPN, border=0.0, sampler=RandomSampler(num=256, positive_fraction=0.5, negatives_per_positive=3)),
    )
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from rankdet.criteria.criterion import Criterion
from rankdet.criteria.ranking import RankingCriterion
from rankdet.criteria.score_based import PerSample, ScoreCriterion
from rankdet.losses.boxes import SmoothL1Loss
from rankdet.losses.classification import BinaryCrossEntropyLoss
from rankdet.models.dense.detector import DenseDetector
from rankdet.models.dense.stage import Candidates, DenseStage, DenseStageFactory
from rankdet.models.detector import Detection
from rankdet.models.postprocess import Postprocess
from rankdet.models.region.rpn import RPN, RPNFactory
from rankdet.models.region.settings import RegionSettings
from rankdet.nn.backbone import Backbone
from rankdet.nn.fpn import PoolLevel
from rankdet.nn.neck import Neck, NeckFactory
from rankdet.nn.preprocess import ImageBatch
from rankdet.nn.pyramid import backbone_of, level_strides, pyramid_on
from rankdet.ops.part import made
from rankdet.ops.priors import image_of_rows


def rpn_cross_entropy(*, beta: float = 1 / 9) -> ScoreCriterion:
    """The original loss: binary cross entropy, and smooth L1 on the deltas, both divided by the sampled anchors."""
    return ScoreCriterion(
        classification=BinaryCrossEntropyLoss(), box_loss=SmoothL1Loss(beta=beta), normaliser=PerSample()
    )


class RPNDetector(DenseDetector):
    """A region proposal network with any backbone and any criterion; by default it learns by Rank & Sort Loss.

    Args:
        num_classes: 1: everything is an object. `DetectionData` of any classes gives such data with ``one_class``.
        backbone: a timm architecture (random weights), one with a tag (``resnet50.tv_in1k``, downloads), or a
            `Backbone`.
        neck: makes P2 to P6; by default an `FPN`.
        rpn: the stage; by default `RPN`. ``partial(RPN, border=0.0)`` ignores anchors that leave the image.
        criterion: what it learns from; by default `RankingCriterion`; `rpn_cross_entropy` gives the original one.
        settings: sampler and coder of the stage; whatever it leaves open is as published for the criterion.
        channels: width of the pyramid and of the head, unless ``neck`` states another.
        postprocess: how proposals are chosen, level by level; by default 1000 after NMS at IoU 0.7.

    >>> import torch
    >>> model = RPNDetector(num_classes=1, backbone="resnet18", channels=32)
    >>> target = {"boxes": torch.tensor([[8., 8., 40., 40.]]), "labels": torch.tensor([0])}
    >>> sorted(model([torch.rand(3, 64, 64)], [target]))
    ['box', 'ranking', 'sorting']
    """

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: str | Backbone = "resnet50",
        neck: Neck | NeckFactory | None = None,
        rpn: DenseStage | RPNFactory | None = None,
        criterion: Criterion | None = None,
        settings: RegionSettings | None = None,
        channels: int = 256,
        postprocess: Postprocess | None = None,
    ) -> None:
        if num_classes != 1:
            raise ValueError(
                f"an RPNDetector tells objects from background, so num_classes is 1; got {num_classes}. Data of one "
                "class: DetectionData(one_class=True), in a configuration data.one_class: true"
            )
        backbone = backbone_of(backbone)
        criterion = criterion or RankingCriterion()
        settings = (settings or RegionSettings()).completed(criterion)
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=neck or pyramid_on(backbone, levels=4, channels=channels, extra_levels=PoolLevel()),
            stage=_stage(rpn or RPN, criterion, settings, level_strides(backbone, finest=4, levels=5)),
            postprocess=postprocess or Postprocess(nms_threshold=0.7, max_detections=1000),
            inputs=4,
        )
        self.settings = settings

    def detect(self, maps: list[Tensor], batch: ImageBatch) -> list[Detection]:
        """See `Detector`."""
        return self._choose(maps, batch, self.postprocess)

    @torch.no_grad()
    def proposals(self, images: Sequence[Tensor], *, keep: int | None = None) -> list[Detection]:
        """Its detections in each image, in evaluation mode; ``keep`` is the most of an image."""
        batch = self.batch_of(images)
        maps = self.maps_of(batch)
        if keep is None:
            return self.detect(maps, batch)
        wider = copy.copy(self.postprocess)
        wider.max_detections, wider.pre_nms = keep, max(keep, wider.pre_nms)
        return self._choose(maps, batch, wider)

    def _choose(self, maps: list[Tensor], batch: ImageBatch, postprocess: Postprocess) -> list[Detection]:
        levels = list(self.stage.candidates(self.stage.predict(maps, batch), per_level=postprocess.pre_nms))
        boxes, logits, labels, _ = Candidates.joined(levels)
        level = image_of_rows([of_level.labels.shape[1] for of_level in levels], labels.device)
        chosen = postprocess.of_batch(boxes, logits, level.expand(len(logits), -1), batch.sizes)
        return [{**found, "labels": torch.zeros_like(found["labels"])} for found in chosen]


def _stage(
    rpn: DenseStage | RPNFactory, criterion: Criterion, settings: RegionSettings, strides: Sequence[float]
) -> DenseStageFactory:
    """The stage as a dense detector makes one, with the criterion unless it states another."""
    stated = getattr(rpn, "keywords", {}).get("criterion") or criterion

    def make(in_channels: int | Sequence[int], *, num_classes: int) -> DenseStage:  # noqa: ARG001
        factory: Any = rpn if isinstance(rpn, nn.Module) else partial(rpn, criterion=stated)  # type: ignore[call-arg]
        stage: DenseStage = made(factory, in_channels, follows=criterion, settings=settings, strides=strides)
        return stage

    return make
