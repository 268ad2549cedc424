"""RetinaNet and FSAF on the same towers (Zhu, He & Savvides, CVPR 2019, section 3; from the literature [L]).

Both branches send their boxes into one suppression. By ranking each of them is a ranking of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from rankdet.assign.assignment import Assigner
from rankdet.assign.centre_region import CentreRegion
from rankdet.assign.fsaf import FSAFAssigner
from rankdet.assign.ground_truth import GroundTruth
from rankdet.criteria.criterion import Criterion
from rankdet.models.dense.retinanet import RetinaNet
from rankdet.models.dense.settings import AnchorSettings
from rankdet.models.dense.stage import Candidates, DenseStage
from rankdet.models.detector import Losses, class_layers_of
from rankdet.models.postprocess import Postprocess
from rankdet.nn.anchors import AnchorGenerator
from rankdet.nn.backbone import Backbone
from rankdet.nn.dense_head import DenseHead, DensePredictor, DensePredictorFactory
from rankdet.nn.neck import Neck, NeckFactory
from rankdet.nn.network import require
from rankdet.nn.preprocess import ImageBatch
from rankdet.nn.pyramid import backbone_of, level_strides
from rankdet.ops.distance_coder import SideDistanceCoder
from rankdet.ops.part import Part
from rankdet.ops.predictions import Predictions


@dataclass(frozen=True, kw_only=True)
class FreeBranch(Part):
    """The branch without anchors: who is positive, and what it learns from.

    Attributes:
        assigner: by default `FSAFAssigner` with a shadow of half an object.
        criterion: by default a copy of that of the anchors, of half its weight.
    """

    assigner: Assigner | None = None
    criterion: Criterion | None = None


class FSAFRetinaNet(RetinaNet):
    """RetinaNet whose towers have a second pair of outputs, that of FSAF; by default both learn by Rank & Sort Loss.

    Args:
        num_classes: K, without a background.
        backbone: as `RetinaNet`.
        neck: as `RetinaNet`.
        head: of the anchors, with ``towers`` and ``outputs`` as `DenseHead`, the default.
        anchors: as `RetinaNet`.
        assigner: who is positive among the anchors; as `RetinaNet`.
        criterion: what the anchors learn from; by default `RankingCriterion`.
        channels: as `RetinaNet`.
        postprocess: how detections of both branches together are chosen; by default `Postprocess`.
        free: the other branch.

    >>> import torch
    >>> model = FSAFRetinaNet(num_classes=5, backbone="resnet18", channels=32)
    >>> target = {"boxes": torch.tensor([[8., 8., 40., 40.]]), "labels": torch.tensor([2])}
    >>> sorted(model([torch.rand(3, 64, 64)], [target]))
    ['box', 'free_box', 'free_ranking', 'free_sorting', 'ranking', 'sorting']
    """

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: str | Backbone = "resnet50",
        neck: Neck | NeckFactory | None = None,
        head: DensePredictor | DensePredictorFactory | None = None,
        anchors: AnchorSettings | None = None,
        assigner: Assigner | None = None,
        criterion: Criterion | None = None,
        channels: int = 256,
        postprocess: Postprocess | None = None,
        free: FreeBranch | None = None,
    ) -> None:
        backbone = backbone_of(backbone, (8, 16, 32))
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=neck,
            head=head,
            anchors=anchors,
            assigner=assigner,
            criterion=criterion,
            channels=channels,
            postprocess=postprocess,
        )
        require(self.stage.head, DenseHead, "towers", "outputs")
        free = free or FreeBranch()
        self.free_stage = DenseStage(
            self.neck.channels,
            num_classes=num_classes,
            head=partial(DenseHead, stacked=0, box_start=0.25),
            anchors=AnchorGenerator(strides=level_strides(backbone, finest=8, levels=5), scales=(1.0,)),
            coder=SideDistanceCoder(),
            assigner=free.assigner or FSAFAssigner(candidates=CentreRegion(shadow=0.5)),
            criterion=free.criterion or self.criterion.with_weight(0.5),
        )
        self.settle(free=FreeBranch(assigner=self.free_stage.assigner, criterion=self.free_stage.criterion))

    @property
    def class_layers(self) -> Sequence[nn.Conv2d | nn.Linear]:
        """See `Detector`: those of both branches."""
        return [layer for stage in (self.stage, self.free_stage) for layer in class_layers_of(stage.head)]

    def losses(self, maps: list[Tensor], batch: ImageBatch, truth: GroundTruth) -> Losses:
        """See `Detector`."""
        losses = Losses()
        for prefix, stage, predictions in self._predictions(maps, batch):
            losses.include(stage.loss(predictions, truth), prefix=prefix)
        return losses

    def candidates(self, maps: list[Tensor], batch: ImageBatch) -> Candidates:
        """See `DenseDetector`: those of both branches."""
        branches = self._predictions(maps, batch)
        sent = (stage.candidates(read, per_level=self.postprocess.pre_nms) for _, stage, read in branches)
        return Candidates.joined(level for levels in sent for level in levels)

    def _predictions(self, maps: list[Tensor], batch: ImageBatch) -> Iterator[tuple[str, DenseStage, Predictions]]:
        """Of each branch what its losses are called by, its stage, and what it says."""
        towers = self.stage.head.towers(maps)
        for prefix, stage in (("", self.stage), ("free_", self.free_stage)):
            yield prefix, stage, stage.read(stage.head.outputs(towers), maps, batch)
