"""Dynamic R-CNN (Zhang et al., "Dynamic R-CNN: Towards High Quality Object Detection via Dynamic Training", ECCV 2020).

As the proposals get better in training, the standard of the regions rises and smooth L1 loss gets sharper. The rules
are MMDetection's; the authors start from an IoU of 0.4 and take their statistics over all images of a device. Unlike
there the state is saved with the model. A criterion without a `DynamicSmoothL1Loss` has the rising standard alone.
Several devices go by the regions of the first, whose buffers distributed training hands to the others.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from rankdet.assign.assignment import Assigner, Assignment
from rankdet.assign.ground_truth import GroundTruth
from rankdet.assign.max_iou import MaxIoU
from rankdet.assign.samplers import Sampler
from rankdet.criteria.criterion import Criterion
from rankdet.criteria.score_based import PerSample, ScoreCriterion
from rankdet.losses.boxes import DynamicSmoothL1Loss
from rankdet.losses.classification import SoftmaxCrossEntropyLoss
from rankdet.models.region.branch import Branch, BranchFactory, RegionStep
from rankdet.models.region.proposals import ProposalSelection
from rankdet.models.region.recipe import RCNN
from rankdet.models.region.settings import BY_RANKING, BY_SCORE
from rankdet.models.region.stage import RoIStage
from rankdet.nn.box_head import RegionPredictor, RegionPredictorFactory
from rankdet.nn.roi import Pooler, PoolerFactory
from rankdet.ops.coder import BoxCoder
from rankdet.ops.part import Part
from rankdet.ops.priors import Priors


class RisingStandard(nn.Module, Part):
    """What a dynamic stage remembers of its regions, and the standard that follows every ``interval`` steps.

    Args:
        interval: training steps between two changes.
        least_iou: the lowest standard.
        start: the standard before the first change.
        rank: the standard is the mean of the overlaps of this rank in each image.
        beta_rank: beta is the median of the offsets of this rank, times the images of a step.
    """

    belongs_to_training = True  # see `rankdet.ops.class_rows`
    iou: Tensor
    steps: Tensor
    overlaps: Tensor
    offsets: Tensor

    def __init__(
        self,
        *,
        interval: int = 100,
        least_iou: float = 0.4,
        start: float = 0.5,
        rank: int = 75,
        beta_rank: int = 10,
    ) -> None:
        super().__init__()
        if min(interval, rank, beta_rank) < 1:
            raise ValueError(f"interval and ranks are at least 1; got {interval=}, {rank=}, {beta_rank=}")
        self.interval, self.least_iou, self.start = interval, least_iou, start
        self.rank, self.beta_rank = rank, beta_rank
        self.register_buffer("iou", torch.tensor(start))
        self.register_buffer("steps", torch.tensor(0))
        self.register_buffer("overlaps", torch.zeros(interval))
        self.register_buffer("offsets", torch.full((interval,), torch.nan))

    @torch.no_grad()
    def see_overlaps(self, overlaps: Sequence[Tensor]) -> None:
        """The largest overlap of each region, image by image, in a training step."""
        best = [of_image.topk(min(self.rank, len(of_image))).values[-1] for of_image in overlaps if len(of_image)]
        seen = torch.stack(best).mean() if best else self.iou
        self.overlaps.index_copy_(0, (self.steps % self.interval)[None], seen[None].to(self.overlaps))

    @torch.no_grad()
    def see_targets(self, targets: Tensor, *, images: int) -> None:
        """The regression targets (M, 4) of the positives of as many images; the step is over then."""
        place = (self.steps % self.interval)[None]
        offsets = targets[:, :2].abs().mean(1)
        count = min(self.beta_rank * images, len(offsets))
        seen = offsets.topk(count, largest=False).values[-1] if count else offsets.new_tensor(torch.nan)
        self.offsets.index_copy_(0, place, seen[None].to(self.offsets))
        self.steps += 1

    @torch.no_grad()
    def rise(self, beta: Tensor) -> None:
        """Every ``interval`` steps: the new standard, and ``beta`` in place; nothing in between, without a look."""
        due = self.steps % self.interval == 0
        self.iou.copy_(torch.where(due, self.overlaps.mean().clamp(min=self.least_iou), self.iou))
        median = self.offsets.nanquantile(0.5)
        usable = due & (median >= 1e-15)
        beta.copy_(torch.where(usable, median.clamp(max=1), beta))
        self.offsets.copy_(torch.where(due, torch.nan, self.offsets))


class DynamicStage(RoIStage):
    """A `RoIStage` whose standard follows what its regions overlap.

    Args as `RoIStage`, and

    Args:
        in_channels: as `RoIStage`.
        num_classes: as `RoIStage`.
        strides: as `RoIStage`.
        criterion: as `RoIStage`.
        assigner: a `MaxIoU`, whose thresholds are replaced.
        pooler: as `RoIStage`.
        head: as `RoIStage`.
        coder: as `RoIStage`.
        sampler: as `RoIStage`.
        box_outputs: as `RoIStage`.
        add_objects: as `RoIStage`.
        branches: as `RoIStage`.
        standard: by default `RisingStandard`.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        num_classes: int,
        strides: Sequence[float],
        criterion: Criterion,
        assigner: Assigner,
        pooler: Pooler | PoolerFactory | None = None,
        head: RegionPredictor | RegionPredictorFactory | None = None,
        coder: BoxCoder | None = None,
        sampler: Sampler | None = None,
        box_outputs: int | None = None,
        add_objects: bool | None = None,
        branches: Sequence[Branch | BranchFactory] | None = None,
        standard: RisingStandard | None = None,
    ) -> None:
        super().__init__(
            in_channels,
            num_classes=num_classes,
            strides=strides,
            criterion=criterion,
            assigner=assigner,
            pooler=pooler,
            head=head,
            coder=coder,
            sampler=sampler,
            box_outputs=box_outputs,
            add_objects=add_objects,
            branches=branches,
        )
        if not isinstance(assigner, MaxIoU):
            raise ValueError(f"the standard of a DynamicStage is that of a MaxIoU; got {type(assigner).__name__}")
        self.standard = standard or RisingStandard()

    def train_on(self, maps: Sequence[Tensor], proposals: Sequence[Tensor], truth: GroundTruth) -> RegionStep:
        """See `RoIStage`."""
        step = super().train_on(maps, proposals, truth)
        priors = step.predictions.priors.gather(step.assignment.positive_index)
        targets = self.coder.encode(priors, step.assignment.matched_boxes)
        self.standard.see_targets(targets, images=truth.num_images)
        losses = [part for part in self.criterion.modules() if isinstance(part, DynamicSmoothL1Loss)]
        self.standard.rise(losses[0].beta if losses else self.standard.iou.new_ones(()))
        return step

    def match(self, priors: Priors, truth: GroundTruth) -> Assignment:
        """See `RoIStage`: by the standard of now."""
        standard = copy.copy(self.assigner)
        standard.positive_iou = standard.negative_iou = self.standard.iou  # type: ignore[attr-defined]
        assignment = standard(priors, truth)
        assert assignment.overlaps is not None, "MaxIoU says them"
        self.standard.see_overlaps(assignment.overlaps.split([len(boxes) for boxes in priors.boxes]))
        return assignment


def dynamic_criterion() -> ScoreCriterion:
    """The original loss of the regions: softmax cross entropy with a background class, and smooth L1 that sharpens."""
    return ScoreCriterion(
        classification=SoftmaxCrossEntropyLoss(), box_loss=DynamicSmoothL1Loss(), normaliser=PerSample()
    )


class DynamicRCNN(RCNN):
    """Dynamic R-CNN with any backbone and any criterion; by default both stages learn by Rank & Sort Loss.

    Args as `RCNN`, whose stage is a `DynamicStage` here; `dynamic_criterion` gives the original.

    >>> model = DynamicRCNN(num_classes=5, backbone="resnet18", channels=32, criterion=dynamic_criterion())
    >>> float(model.roi.box_stages[0].standard.iou)
    0.5
    """

    by_score = replace(BY_SCORE, proposals=ProposalSelection(nms_threshold=0.85))
    by_ranking = replace(BY_RANKING, proposals=ProposalSelection(nms_threshold=0.85))
    stage_kind = DynamicStage
