"""Hybrid Task Cascade (Chen et al., CVPR 2019).

Cascade Mask R-CNN whose masks learn from the boxes that their own stage has refined (interleaving), whose mask heads
pass their features on (information flow), and whose regions are seen beside a semantic map of the image. As published
an object also has its best region, from the IoU of the stage on, even where that overlaps another object more.

Masks of refined boxes all weigh the same, also with a criterion that ranks: it has ranked the boxes of before. The
semantic loss is the mean over the pixels that are known; later versions of MMDetection divide by all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankdet.assign.ground_truth import GroundTruth
from rankdet.assign.max_iou import BestPriors, MaxIoU
from rankdet.criteria.criterion import Criterion
from rankdet.criteria.semantic import CellCriterion
from rankdet.models.dense.stage import DenseStage
from rankdet.models.detector import Detection, Losses
from rankdet.models.postprocess import Postprocess
from rankdet.models.region.branch import Branch, RegionStep
from rankdet.models.region.cascade import Cascade
from rankdet.models.region.mask_branch import Drawing, MaskBranch, Regions
from rankdet.models.region.recipe import RCNN
from rankdet.models.region.rpn import RPN, RPNFactory
from rankdet.models.region.settings import CASCADE_BY_SCORE, RegionSettings
from rankdet.models.region.stages import RoIStageTemplate
from rankdet.nn.backbone import Backbone
from rankdet.nn.blocks import conv_block, init_kaiming
from rankdet.nn.neck import Neck, NeckFactory
from rankdet.nn.preprocess import ImageBatch
from rankdet.nn.semantic_head import ContextPooler, MapsWithContext, SemanticPredictor, SemanticPredictorFactory
from rankdet.ops.part import Part, made
from rankdet.ops.predictions import Predictions


class FlowingMaskBranch(MaskBranch):
    """A `MaskBranch` whose head sees, beside the region, what that of the stage before made of it.

    Args as `MaskBranch`, whose pooler is a `ContextPooler` here, and whose head has a ``tower`` and draws with
    ``masks_of`` what comes out of it, like `MaskHead`.
    """

    default_pooler = ContextPooler

    def join(self, earlier: Sequence[Branch]) -> None:
        """See `Branch`: all but the first stage get a convolution of the features of the stage before."""
        channels = self.head.classify.in_channels
        self.flow = nn.Sequential(*conv_block(channels, channels, kernel=1)) if earlier else None
        if self.flow is not None:
            init_kaiming(self.flow)

    def draw(self, features: Tensor, regions: Regions, *, peers: Sequence[Branch]) -> Drawing:
        """See `MaskBranch`: the heads of all stages up to this one, one after another."""
        passed: Tensor | None = None
        for peer in peers:
            assert isinstance(peer, FlowingMaskBranch), "stages have the same branches"
            seen = features if passed is None or peer.flow is None else features + peer.flow(passed)
            passed = peer.head.tower(seen)
        return Drawing(self.head.masks_of(passed, regions.labels), features)


class LastFlowingMaskBranch(FlowingMaskBranch):
    """A `FlowingMaskBranch` whose detections have the masks of the last stage alone: MMDetection 3.

    Its version 2 and the paper take the mean of all stages, and so does `FlowingMaskBranch`.

    Args as `MaskBranch`.
    """

    def drawings(self, maps: Sequence[Tensor], regions: Regions, *, peers: Sequence[Branch]) -> list[Drawing]:
        """See `MaskBranch`."""
        return [self.draw(self.pool(maps, regions), regions, peers=peers)]


class InterleavedCascade(Cascade):
    """A `Cascade` whose branches learn from the boxes that their stage refined, assigned and sampled again."""

    def branch_step(self, number: int, step: RegionStep, truth: GroundTruth, batch: ImageBatch) -> RegionStep:
        """See `Cascade`."""
        stage = self.box_stages[number]
        priors, assignment, objects = stage.assign(self.refined(number, step, batch), truth)
        nothing = step.predictions.logits.new_zeros(len(priors), 0)
        weights = nothing.new_ones(len(assignment.positive_index))
        return RegionStep(
            replace(step.output, weights=weights),
            Predictions(nothing, nothing, nothing, priors, stage.coder),
            assignment,
            objects,
        )


RISING = tuple(
    MaxIoU(positive_iou=iou, negative_iou=iou, low_quality=BestPriors(min_iou=iou)) for iou in (0.5, 0.6, 0.7)
)


@dataclass(frozen=True, kw_only=True)
class SemanticBranch(Part):
    """What looks at the whole image beside the regions, and what it learns from.

    Attributes:
        head: ``partial(SemanticHead, num_classes=183)`` is that of COCO-stuff.
        criterion: by default `CellCriterion`.
    """

    head: SemanticPredictor | SemanticPredictorFactory
    criterion: CellCriterion | None = None


class HybridTaskCascade(RCNN):
    """Hybrid Task Cascade with any backbone and any criterion; by default all stages learn by Rank & Sort Loss.

    Args as `RCNN`, whose stages have a `FlowingMaskBranch` each here, and

    Args:
        semantic_branch: looks at the whole image for all regions. The targets must then have ``semantic`` (1, H, W)
            (`rankdet.data.WithSemantics`). None goes without.

    >>> model = HybridTaskCascade(num_classes=5, backbone="resnet18", channels=32)
    >>> [stage.branches[0].flow is None for stage in model.roi.box_stages]
    [True, False, False]
    """

    needs_masks = True
    by_score = CASCADE_BY_SCORE
    standards = RISING
    stage_defaults = {"box_outputs": 1, "pooler": partial(ContextPooler, 7), "branches": [FlowingMaskBranch]}
    default_rpn = staticmethod(partial(RPN, border=0.0))
    cascade = InterleavedCascade

    def __init__(
        self,
        *,
        num_classes: int,
        backbone: str | Backbone = "resnet50",
        neck: Neck | NeckFactory | None = None,
        rpn: DenseStage | RPNFactory | None = None,
        stage: RoIStageTemplate | None = None,
        criterion: Criterion | None = None,
        settings: RegionSettings | None = None,
        channels: int = 256,
        postprocess: Postprocess | None = None,
        semantic_branch: SemanticBranch | None = None,
    ) -> None:
        super().__init__(
            num_classes=num_classes,
            backbone=backbone,
            neck=neck,
            rpn=rpn,
            stage=stage,
            criterion=criterion,
            settings=settings,
            channels=channels,
            postprocess=postprocess,
        )
        self.semantic: Any = None
        self.semantic_criterion: CellCriterion | None = None
        if semantic_branch is not None:
            self.semantic = made(semantic_branch.head, self.neck.channels, levels=len(self.strides))
            self.semantic_criterion = semantic_branch.criterion or CellCriterion()

    def batch_of(self, images: Sequence[Tensor], targets: Sequence[Mapping[str, Any]] | None = None) -> ImageBatch:
        """See `Detector`.

        Raises:
            ValueError: the semantic branch is trained, and targets have no semantic map, or one of another size.
        """
        batch = super().batch_of(images, targets)
        if self.semantic is None or not self.training:
            return batch
        return replace(batch, semantic=_canvas(targets or (), batch))

    def losses(self, maps: list[Tensor], batch: ImageBatch, truth: GroundTruth) -> Losses:
        """See `Detector`."""
        if self.semantic is None:
            return super().losses(maps, batch, truth)
        logits, context = self.semantic(maps)
        losses = super().losses(self._within(maps, context), batch, truth)
        assert batch.semantic is not None, "batch_of sees to it"
        assert self.semantic_criterion is not None, "it comes with the branch"
        cells = F.interpolate(batch.semantic[:, None], logits.shape[-2:], mode="nearest")[:, 0]
        losses["semantic"] = self.semantic_criterion(logits, cells, self.criterion.group)
        return losses

    def detect(self, maps: list[Tensor], batch: ImageBatch) -> list[Detection]:
        """See `Detector`."""
        if self.semantic is not None:
            maps = self._within(maps, self.semantic(maps)[1])
        return super().detect(maps, batch)

    def _within(self, maps: list[Tensor], context: Tensor) -> MapsWithContext:
        return MapsWithContext(maps, context=context, stride=self.strides[self.semantic.level])


def _canvas(targets: Sequence[Mapping[str, Any]], batch: ImageBatch) -> Tensor:
    """The semantic maps of a batch (N, H, W) uint8 at the size of its pixels, 0 beside the images."""
    canvas = torch.zeros(len(targets), *batch.canvas, dtype=torch.uint8, device=batch.pixels.device)
    for number, (row, target, size) in enumerate(zip(canvas, targets, batch.sizes, strict=True)):
        name = f"image {target['image_id']}" if "image_id" in target else f"targets[{number}]"
        if "semantic" not in target:
            raise ValueError(
                f"{name} has no semantic map, from which the model learns; give every target semantic (1, H, W), in a "
                "configuration by data.semantic, or leave the model's semantic branch out"
            )
        found = target["semantic"].as_subclass(Tensor)
        if tuple(found.shape) != (1, *size):
            raise ValueError(f"{name}: its semantic map is of shape {tuple(found.shape)}; accepted is {(1, *size)}")
        row[: size[0], : size[1]] = found[0].to(row)
    return canvas
