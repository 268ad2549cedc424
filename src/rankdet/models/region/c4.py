"""Faster R-CNN on C4 (Ren et al., NeurIPS 2015; He et al., CVPR 2016) and TridentNet (Li et al., ICCV 2019).

Proposals and regions come from one map of stride 16; behind the pooling stands the last stage of the backbone.
TridentNet is as in MMDetection: no ranges of sizes for its branches, and the branch in the middle alone in evaluation.
Each branch has targets, proposals and samples of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from functools import partial
from typing import Any, ClassVar

from torch import Tensor

from rankdet.assign.ground_truth import GroundTruth
from rankdet.assign.max_iou import MaxIoU
from rankdet.assign.samplers import RandomSampler
from rankdet.criteria.criterion import Criterion
from rankdet.criteria.ranking import RankingCriterion
from rankdet.models.dense.stage import DenseStage
from rankdet.models.detector import Losses
from rankdet.models.postprocess import Postprocess
from rankdet.models.region.cascade import Cascade
from rankdet.models.region.detector import TwoStageDetector
from rankdet.models.region.proposals import ProposalSelection
from rankdet.models.region.rpn import RPN, RPNFactory
from rankdet.models.region.settings import BY_RANKING, BY_SCORE, RegionSettings
from rankdet.models.region.stages import RoIStageTemplate, region_stages
from rankdet.nn.anchors import AnchorGenerator
from rankdet.nn.backbone import Backbone
from rankdet.nn.caffe_resnet import StrideInFirstConv
from rankdet.nn.dense_head import DensePredictorFactory
from rankdet.nn.last_stage import LastStageHead
from rankdet.nn.modification import Modification
from rankdet.nn.neck import NoNeck
from rankdet.nn.preprocess import ImageBatch
from rankdet.nn.roi import RoIPooler
from rankdet.nn.timm_backbone import TimmBackbone
from rankdet.nn.trident import TridentBlocks

C4_PROPOSALS = ProposalSelection(
    per_level_training=12000, per_level_evaluation=6000, keep=1000, keep_training=2000, nms_threshold=0.7
)


class FasterRCNNC4(TwoStageDetector):
    """Faster R-CNN on C4 with a residual network and any criterion; by default both stages learn by Rank & Sort Loss.

    Args:
        num_classes: K, without a background.
        backbone: a ResNet of timm (random weights), one with a tag (``resnet50.tv_in1k``, downloads), or a
            `TimmBackbone` of one map of stride 16.
        rpn: makes the proposals; by default `RPN`. Its anchors and its head are those of the recipe, unless stated.
        stage: of the regions; by default `RoIStage` with the last stage of the backbone (`LastStageHead`), whose stride
            is where the backbone has it.
        criterion: what the regions are learned from; by default `RankingCriterion`; `softmax_criterion` gives the
            original.
        settings: samplers, coders and proposals; whatever it leaves open is as published for the criterion.
        postprocess: how detections are chosen; by default `Postprocess`.

    Attributes:
        by_score: the settings for a criterion that does not rank.
        by_ranking: the settings for one that does.
        modifications: of the backbone.
        scales: of the anchors, in strides.
        rpn_head: that of the RPN unless another is stated.

    >>> model = FasterRCNNC4(num_classes=5, backbone="resnet50")
    >>> model.roi.box_stages[0].head.shared.channels
    2048
    """

    by_score: ClassVar[RegionSettings] = replace(BY_SCORE, proposals=C4_PROPOSALS)
    by_ranking: ClassVar[RegionSettings] = replace(BY_RANKING, proposals=C4_PROPOSALS)
    modifications: ClassVar[Sequence[Modification]] = ()
    scales: ClassVar[Sequence[float]] = (2.0, 4.0, 8.0, 16.0, 32.0)
    rpn_head: ClassVar[DensePredictorFactory | None] = None

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: str | Backbone = "resnet50",
        rpn: DenseStage | RPNFactory | None = None,
        stage: RoIStageTemplate | None = None,
        criterion: Criterion | None = None,
        settings: RegionSettings | None = None,
        postprocess: Postprocess | None = None,
    ) -> None:
        if isinstance(backbone, str):
            backbone = TimmBackbone(backbone, strides=(16,), modifications=self.modifications)
        if not isinstance(backbone, TimmBackbone) or tuple(backbone.strides) != (16,):
            raise ValueError(
                f"{type(self).__name__} takes the name of a ResNet of timm, or TimmBackbone(..., strides=(16,)), whose "
                f"last stage stands behind the pooling; got {type(backbone).__name__} of strides {backbone.strides}"
            )
        criterion = criterion or RankingCriterion()
        settings = (settings or RegionSettings()).completed(
            criterion, by_score=self.by_score, by_ranking=self.by_ranking
        )
        stages = region_stages(
            stage,
            criterion,
            settings,
            assigners=[MaxIoU(positive_iou=0.5, negative_iou=0.5)],
            **self.stage_defaults(backbone, criterion, num_classes),
        )
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=NoNeck,
            rpn=self.completed_rpn(rpn or RPN),
            roi=partial(Cascade, stages=stages),
            settings=settings,
            strides=(16,),
            postprocess=postprocess,
        )

    def completed_rpn(self, stated: DenseStage | RPNFactory) -> DenseStage | RPNFactory:
        """The first stage with the anchors and the head of the recipe, unless it states others."""
        if isinstance(stated, DenseStage):
            return stated
        keywords = {name: value for name, value in getattr(stated, "keywords", {}).items() if value is not None}
        anchors = AnchorGenerator(strides=(16,), scales=self.scales, ratios=(0.5, 1.0, 2.0))
        defaults = {"anchors": anchors, "head": self.rpn_head}
        return partial(getattr(stated, "func", stated), **{**defaults, **keywords})

    def stage_defaults(self, backbone: TimmBackbone, criterion: Criterion, num_classes: int) -> dict[str, Any]:  # noqa: ARG002
        """The pooler and the head of the stage, unless others are stated."""
        strides = [change for change in backbone.modifications if isinstance(change, StrideInFirstConv)]
        head = partial(LastStageHead, modifications=strides, **network_of(backbone))
        return {"pooler": partial(RoIPooler, 14), "head": head}


def network_of(backbone: TimmBackbone) -> dict[str, Any]:
    """What makes the same network again."""
    return {"network": backbone.name, "weights": backbone.weights, "norm": backbone.norm}


class TridentNet(FasterRCNNC4):
    """TridentNet with a residual network and any criterion; by default both stages learn by Rank & Sort Loss.

    Args as `FasterRCNNC4`, whose backbone has `TridentBlocks` here.

    >>> model = TridentNet(num_classes=5, backbone="resnet50")
    >>> model.backbone.network.layer3.dilations
    (1, 2, 3)
    """

    by_score = replace(
        BY_SCORE,
        sampler=RandomSampler(num=128, positive_fraction=0.5),
        proposals=ProposalSelection(
            per_level_training=12000, per_level_evaluation=6000, keep=1000, keep_training=500, add_objects=False
        ),
    )
    by_ranking = replace(
        BY_RANKING,
        proposals=ProposalSelection(
            per_level_training=12000, per_level_evaluation=6000, keep=1000, keep_training=500, add_objects=False
        ),
    )
    modifications = (TridentBlocks(),)

    def losses(self, maps: list[Tensor], batch: ImageBatch, truth: GroundTruth) -> Losses:
        """See `Detector`: each branch is an image of its own with the same objects."""
        branches = len(maps[0]) // len(batch.sizes)
        repeated = replace(batch, sizes=batch.sizes * branches, padded_sizes=batch.padded_sizes * branches)
        objects = {field.name: getattr(truth, field.name) * branches for field in fields(truth)}
        return super().losses(maps, repeated, replace(truth, **objects))
