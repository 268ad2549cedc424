"""The dense stage, which one-stage detectors and region proposal networks share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from rankdet.assign.assignment import Assigner, Assignment
from rankdet.assign.ground_truth import GroundTruth
from rankdet.assign.samplers import KeepAll, Sampler
from rankdet.criteria.criterion import Criterion, CriterionOutput
from rankdet.models.selection import CandidateSelection, TopPairs
from rankdet.nn.anchors import GridPriors
from rankdet.nn.dense_head import DenseOutputs, DensePredictor, DensePredictorFactory
from rankdet.nn.preprocess import ImageBatch
from rankdet.ops.coder import BoxCoder, DeltaCoder
from rankdet.ops.part import Part, made
from rankdet.ops.predictions import Predictions


class Candidates(NamedTuple):
    """Pairs of a prior and a class that may become detections, D for each of N images.

    Attributes:
        boxes: (N, D, 4), decoded, not yet cut to the image.
        logits: (N, D), float32.
        labels: (N, D), classes.
        rows: (N, D), the prior of each among those of its image.
    """

    boxes: Tensor
    logits: Tensor
    labels: Tensor
    rows: Tensor

    @classmethod
    def joined(cls, levels: Iterable[Candidates]) -> Candidates:
        """Those of all levels together."""
        return cls(*(torch.cat(parts, 1) for parts in zip(*levels, strict=True)))


class DenseStage(nn.Module, Part):
    """Predictions at every cell of a pyramid, who of them is positive, and what is learned from that.

    Args:
        in_channels: channels of the pyramid maps; a number for each level where they differ.
        num_classes: K; 1 for a region proposal network.
        head: predicts at every anchor; a factory is given what `DensePredictorFactory` says.
        anchors: the boxes that predictions start from.
        coder: how boxes are regressed from them; by default `DeltaCoder`.
        assigner: who is positive.
        criterion: what it learns from.
        sampler: which priors it looks at; all by default.
    """

    def __init__(
        self,
        in_channels: int | Sequence[int],
        *,
        num_classes: int,
        head: DensePredictor | DensePredictorFactory,
        anchors: GridPriors,
        assigner: Assigner,
        criterion: Criterion,
        coder: BoxCoder | None = None,
        sampler: Sampler | None = None,
    ) -> None:
        super().__init__()
        self.head: Any = made(
            head,
            in_channels,
            num_logits=criterion.num_logits(num_classes),
            anchors_per_cell=anchors.per_cell,
            quality_channels=criterion.quality_channels,
        )
        self.anchors = anchors
        self.coder = coder or DeltaCoder()
        self.assigner = assigner
        self.criterion = criterion
        self.sampler = sampler or KeepAll()

    def predict(self, maps: list[Tensor], batch: ImageBatch) -> Predictions:
        """Pyramid maps -> predictions of all images, image by image and level by level."""
        return self.read(self.head(maps), maps, batch)

    def read(self, outputs: DenseOutputs, maps: list[Tensor], batch: ImageBatch) -> Predictions:
        """Outputs of the head -> the same as predictions."""
        priors = self.anchors(maps, sizes=batch.sizes, padded_sizes=batch.padded_sizes)
        logits, deltas, quality_logits = (output.flatten(0, 1) for output in outputs)
        return Predictions(logits, deltas, quality_logits, priors, self.coder)

    def assign(self, predictions: Predictions, truth: GroundTruth) -> Assignment:
        """Who is positive, and who is looked at."""
        assignment = self.assigner.match(predictions, truth, self.criterion)
        return self.sampler(assignment, predictions.priors, truth)

    def loss(self, predictions: Predictions, truth: GroundTruth) -> CriterionOutput:
        """Assign, sample, compare."""
        output: CriterionOutput = self.criterion(predictions, self.assign(predictions, truth))
        return output

    def detection_logits(self, predictions: Predictions) -> Tensor:
        """Logits (P, K) of what may become detections."""
        return self.criterion.detection_logits(predictions.logits, predictions.quality_logits)

    @torch.no_grad()
    def candidates(
        self, predictions: Predictions, *, per_level: int, selection: CandidateSelection | None = None
    ) -> Iterator[Candidates]:
        """The best ``per_level`` (prior, class) pairs of each image, level by level, or what a selection takes."""
        select = selection or TopPairs()
        priors = predictions.priors
        logits = self.detection_logits(predictions)
        of_classes = self.criterion.class_logits(predictions.logits)
        classes = logits.shape[1]
        sizes = list(priors.level_sizes)
        by_image, by_class = (
            part.detach().float().view(-1, sum(sizes), classes).split(sizes, 1) for part in (logits, of_classes)
        )
        deltas = predictions.deltas.detach().view(-1, sum(sizes), 4).split(sizes, 1)
        start = 0
        for level_logits, class_logits, level_deltas, level_boxes in zip(
            by_image, by_class, deltas, priors.stacked.split(sizes, 1), strict=True
        ):
            best, index = select(level_logits, class_logits, number=per_level)
            rows, labels = index // classes, index % classes
            deltas_of, boxes_of = (_rows_of(parts, rows) for parts in (level_deltas, level_boxes))
            yield Candidates(predictions.coder.decode(boxes_of, deltas_of), best, labels, start + rows)
            start += level_boxes.shape[1]


def _rows_of(parts: Tensor, rows: Tensor) -> Tensor:
    """Rows (N, D) of each image among (N, S, 4), or among (1, S, 4) for all -> (N, D, 4)."""
    return parts.expand(rows.shape[0], -1, -1).gather(1, rows[..., None].expand(-1, -1, 4))


class DenseStageFactory(Protocol):
    """Makes a stage once the channels of the pyramid and K are known; ``partial(DenseStage, head=...)`` is one."""

    def __call__(self, in_channels: int | Sequence[int], *, num_classes: int) -> DenseStage:
        """See the class."""
