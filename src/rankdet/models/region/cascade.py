"""Everything behind the proposals: one region stage, or several in a row."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankdet.assign.ground_truth import GroundTruth
from rankdet.criteria.criterion import Criterion
from rankdet.models.detector import Detection, Losses
from rankdet.models.postprocess import Postprocess
from rankdet.models.region.branch import Branch, RegionStep
from rankdet.models.region.stage import RoIStage, RoIStageFactory
from rankdet.nn.preprocess import ImageBatch
from rankdet.ops.nms import probability_logit
from rankdet.ops.part import Part, made
from rankdet.ops.priors import Priors


class RoIHead(nn.Module, Part, ABC):
    """Everything behind the proposals."""

    @property
    def needs_masks(self) -> bool:
        """Whether any branch learns from masks."""
        return any(branch.needs_masks for stage in self.box_stages for branch in branches_of(stage))

    @property
    @abstractmethod
    def box_stages(self) -> Sequence[RoIStage]:
        """The region stages, in order."""

    @abstractmethod
    def losses(
        self, maps: Sequence[Tensor], proposals: Sequence[Tensor], truth: GroundTruth, batch: ImageBatch
    ) -> Losses:
        """Losses of all stages, names prefixed by stage."""

    @abstractmethod
    def detect(
        self, maps: Sequence[Tensor], proposals: Sequence[Tensor], batch: ImageBatch, postprocess: Postprocess
    ) -> list[Detection]:
        """Detections of each image."""


class StageAverage(Part, ABC):
    """Makes one class output of those of several stages."""

    @abstractmethod
    def __call__(self, logits: Tensor, criterion: Criterion) -> Tensor:
        """Outputs (stages, R, C) that a criterion makes scores of -> outputs (R, C)."""


class MeanOutput(StageAverage):
    """The mean of the outputs themselves: MMDetection."""

    def __call__(self, logits: Tensor, criterion: Criterion) -> Tensor:  # noqa: ARG002
        """See `StageAverage`."""
        return logits.mean(0)


class MeanScore(StageAverage):
    """The outputs that have the mean of the scores: the paper and Detectron2.

    >>> from rankdet.criteria import RankingCriterion
    >>> MeanScore()(torch.tensor([[[0.0]], [[2.0]]]), RankingCriterion()).sigmoid().round(decimals=4)
    tensor([[0.6904]])
    """

    def __call__(self, logits: Tensor, criterion: Criterion) -> Tensor:
        """See `StageAverage`."""
        if criterion.num_logits(1) > 1:  # a softmax, whose outputs may be the logarithms of its probabilities
            return logits.float().log_softmax(-1).logsumexp(0) - math.log(len(logits))
        return probability_logit(F.logsigmoid(logits.float()).logsumexp(0) - math.log(len(logits)))


class Cascade(RoIHead):
    """Region stages, each refining the boxes of the one before, or just one.

    Cascade R-CNN (Cai & Vasconcelos, CVPR 2018). Every stage assigns again, by its own standard. In evaluation the
    class outputs are averaged over the stages, the boxes are those of the last, and the branches complete the
    detections.

    Args:
        in_channels: channels of the pyramid maps.
        num_classes: K.
        strides: of the pyramid maps.
        stages: in order.
        weights: factor on the losses of each, the last one serving those behind it as well.
        average: of what the stages say about classes; by default `MeanOutput`.
    """

    def __init__(
        self,
        in_channels: int,
        *,
        num_classes: int,
        strides: Sequence[float],
        stages: Sequence[RoIStage | RoIStageFactory],
        weights: Sequence[float] = (1.0,),
        average: StageAverage | None = None,
    ) -> None:
        super().__init__()
        if not stages or not weights:
            raise ValueError(f"a cascade has at least one stage and one weight; got {len(stages)} and {len(weights)}")
        self.stages = nn.ModuleList(
            made(stage, in_channels, num_classes=num_classes, strides=strides) for stage in stages
        )
        self.weights = tuple(nth(weights, number) for number in range(len(stages)))
        self.average = average or MeanOutput()
        for number, stage in enumerate(self.box_stages):
            for place, branch in enumerate(branches_of(stage)):
                branch.join(self.peers(number, place)[:-1])

    @property
    def box_stages(self) -> Sequence[RoIStage]:
        """See `RoIHead`."""
        return list(self.stages)  # type: ignore[arg-type]

    def prefix(self, number: int) -> str:
        """Of the names of the losses of a stage: roi_, or roi1_, roi2_, ... where there are several."""
        return "roi_" if len(self.stages) == 1 else f"roi{number + 1}_"

    def peers(self, number: int, place: int) -> Sequence[Branch]:
        """The branches at a place in all stages up to the one of a number, where a stage has one there."""
        found = (branches_of(stage)[place : place + 1] for stage in self.box_stages[: number + 1])
        return [branch for of_stage in found for branch in of_stage]

    def train_stages(
        self, maps: Sequence[Tensor], proposals: Sequence[Tensor], truth: GroundTruth, batch: ImageBatch
    ) -> list[RegionStep]:
        """Train every stage on what the one before made of the proposals; objects that were added do not go on."""
        done: list[RegionStep] = []
        for stage in self.box_stages:
            if done:
                proposals = self.refined(len(done) - 1, done[-1], batch)
            done.append(stage.train_on(maps, proposals, truth))
        return done

    def refined(self, number: int, step: RegionStep, batch: ImageBatch) -> list[Tensor]:
        """The boxes that a stage made of its regions in training, without the objects among them."""
        boxes = self.box_stages[number].refine(step.predictions, step.assignment.labels, batch)
        return [of_image[objects:] for of_image, objects in zip(boxes, step.objects, strict=True)]

    def branch_step(
        self,
        number: int,  # noqa: ARG002
        step: RegionStep,
        truth: GroundTruth,  # noqa: ARG002
        batch: ImageBatch,  # noqa: ARG002
    ) -> RegionStep:
        """What the branches of a stage learn from; here what the stage itself has learned from."""
        return step

    def losses(
        self, maps: Sequence[Tensor], proposals: Sequence[Tensor], truth: GroundTruth, batch: ImageBatch
    ) -> Losses:
        """See `RoIHead`."""
        losses = Losses()
        for number, step in enumerate(self.train_stages(maps, proposals, truth, batch)):
            outputs = [step.output]
            if branches := branches_of(self.box_stages[number]):
                step = self.branch_step(number, step, truth, batch)
            for place, branch in enumerate(branches):
                outputs.append(branch.loss(maps, step, truth, peers=self.peers(number, place)))
            for output in outputs:
                losses.include(output, prefix=self.prefix(number), weight=self.weights[number])
        return losses

    def detect(
        self, maps: Sequence[Tensor], proposals: Sequence[Tensor], batch: ImageBatch, postprocess: Postprocess
    ) -> list[Detection]:
        """See `RoIHead`."""
        logits = []
        for number, stage in enumerate(self.box_stages):
            predictions = stage.predict(maps, Priors.proposals(proposals))
            logits.append(predictions.logits.float())
            if number + 1 < len(self.stages):
                unknown = torch.full((len(predictions.logits),), -1, device=predictions.logits.device)
                proposals = stage.refine(predictions, unknown, batch)
        averaged = replace(predictions, logits=self.average(torch.stack(logits), self.box_stages[-1].criterion))
        boxes, scores, labels = zip(*self.box_stages[-1].candidates(averaged), strict=True)
        found = postprocess.of_batch(boxes, scores, labels, batch.sizes)
        for place, branch in enumerate(branches_of(self.box_stages[-1])):
            branch.complete(maps, found, batch, peers=self.peers(len(self.stages) - 1, place))
        return found


def branches_of(stage: RoIStage) -> Sequence[Branch]:
    """The branches of a stage, in order."""
    return list(stage.branches)  # type: ignore[arg-type]


def nth(values: Sequence[float], number: int) -> float:
    """The value of a number, the last one where there are less."""
    return values[min(number, len(values) - 1)]


class RoIHeadFactory(Protocol):
    """Makes all behind the proposals once the pyramid and K are known; ``partial(Cascade, stages=...)`` is one."""

    def __call__(self, in_channels: int, *, num_classes: int, strides: Sequence[float]) -> RoIHead:
        """See the class."""
