"""The query stage: every layer of a transformer learns from the same criterion, matched with objects one to one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from rankdet.assign.assignment import Assigner, Assignment
from rankdet.assign.ground_truth import GroundTruth, InstanceTruth
from rankdet.assign.hungarian import HungarianMatcher
from rankdet.criteria.criterion import Criterion, CriterionOutput
from rankdet.losses.classification import ABSENT
from rankdet.models.detector import Losses
from rankdet.models.queries.masks import ObjectMasks, QueryMasks
from rankdet.models.queries.outputs import LayerOutputs, QueryOutputs
from rankdet.models.queries.union import UnionOfMatches
from rankdet.ops.part import Part
from rankdet.ops.predictions import Predictions, SampledMasks
from rankdet.ops.priors import Priors


@dataclass(frozen=True)
class _Matched:
    """One layer: what its losses are called, what it says and so predicts, the objects, and what it learns from.

    ``masks``: those of the objects, where masks are learned.
    """

    name: str
    said: LayerOutputs
    predictions: Predictions
    truth: GroundTruth
    criterion: Criterion
    masks: ObjectMasks | None = None

    def positives(self) -> int:
        """How many there will be: objects, or queries where those are fewer. Shapes tell it."""
        pairs = zip(self.predictions.priors.boxes, self.truth.boxes, strict=True)
        return sum(min(len(queries), len(objects)) for queries, objects in pairs)


class LayerTerm(nn.Module, Part, ABC):
    """What a layer learns beside its criterion, from more than logits and boxes.

    Invariant: for what says nothing of the kind, no losses; otherwise the same names for every batch.
    """

    @abstractmethod
    def forward(self, said: LayerOutputs, predictions: Predictions, assignment: Assignment) -> dict[str, Tensor]:
        """Named losses of what a layer says, given the same as predictions, and who is positive."""


class QueryStage(nn.Module, Part):
    """Matches the queries of all layers with objects, in one call, and compares each layer with what it should predict.

    The last decoder layer has losses by the names of its criterion; those of the earlier layers are added up as
    ``auxiliary_...``, those of the proposals and of the denoising queries are ``encoder_...`` and ``denoising_...``.

    Args:
        criterion: what decoder layers learn from.
        matcher: who is positive; by default `HungarianMatcher`.
        encoder: what the proposals of the encoder learn from; by default the criterion.
        denoising: what denoising queries learn from; by default the criterion.
        proposals_have_classes: whether proposals learn the classes of objects, or that there is one (class 0).
        beside: what every layer learns beside its criterion; None for nothing.
        box_matches: who learns boxes, and what is learned beside, from the matchings of all layers (`UnionOfMatches`);
            None: those whom the layer itself is matched with.
        masks: what masks learn, of a network that draws them; None for nothing.

    Raises:
        ValueError: a criterion asks for a quality branch, which queries do not have.
    """

    def __init__(
        self,
        *,
        criterion: Criterion,
        matcher: Assigner | None = None,
        encoder: Criterion | None = None,
        denoising: Criterion | None = None,
        proposals_have_classes: bool = True,
        beside: LayerTerm | None = None,
        box_matches: UnionOfMatches | None = None,
        masks: QueryMasks | None = None,
    ) -> None:
        super().__init__()
        self.criterion = criterion
        self.matcher = matcher or HungarianMatcher()
        self.encoder = encoder
        self.denoising = denoising
        self.proposals_have_classes = proposals_have_classes
        self.beside = beside
        self.box_matches = box_matches
        self.masks = masks
        for role in (criterion, encoder, denoising):
            if role is not None and role.quality_channels:
                raise ValueError(
                    f"this {type(role).__name__} judges a quality, for which queries have no branch; leave `judged` out"
                )

    def loss(self, outputs: QueryOutputs, truth: GroundTruth) -> Losses:
        """Match, compare, add up."""
        losses = Losses()
        for name, output in self._outputs(outputs, truth):
            for term, loss in output.losses.items():
                losses[f"{name}{term}"] = losses.get(f"{name}{term}", 0) + loss
            if not name:
                losses.logs.update(output.logs)
        return losses

    def _outputs(self, outputs: QueryOutputs, truth: GroundTruth) -> Iterator[tuple[str, CriterionOutput]]:
        """What the criterion of each layer says, and what its losses are called."""
        layers = list(self._layers(outputs, truth))
        assignments = list(self.match(layers))
        if self.box_matches is not None:
            assignments = self.box_matches(assignments, layers[0].truth)
        for layer, assignment in zip(layers, assignments, strict=True):
            yield layer.name, self._compare(layer, assignment)
        if outputs.denoising is not None:
            assignment, criterion = outputs.denoising.assignment(truth), self.denoising or self.criterion
            for said in outputs.denoising.layers:
                layer = _Matched("denoising_", said, said.predictions(outputs.frames), truth, criterion)
                yield layer.name, self._compare(layer, assignment)

    def _compare(self, layer: _Matched, assignment: Assignment) -> CriterionOutput:
        """What the criterion says of a layer, with the losses of what it learns beside."""
        output: CriterionOutput = layer.criterion(layer.predictions, assignment)
        more: dict[str, Tensor] = {}
        if self.beside is not None:
            more |= self.beside(layer.said, layer.predictions, assignment.for_boxes)
        if self.masks is not None and layer.masks is not None:
            more |= self.masks(layer.said.masks, layer.masks, assignment.for_boxes, output)
        return replace(output, losses=output.losses | more)

    def _layers(self, outputs: QueryOutputs, truth: GroundTruth) -> Iterator[_Matched]:
        """The layers whose queries are to be matched."""
        repeated, masks = _repeated(truth, outputs.groups), self._object_masks(outputs, truth)
        for number, said in enumerate(reversed(outputs.decoder)):
            name = "auxiliary_" if number else ""
            yield _Matched(name, said, self._predicted(outputs, said, masks), repeated, self.criterion, masks)
        if outputs.encoder is not None:
            objects = repeated if self.proposals_have_classes else repeated.without_classes()
            predictions = self._predicted(outputs, outputs.encoder, masks)
            criterion = self.encoder or self.criterion
            yield _Matched("encoder_", outputs.encoder, predictions, objects, criterion, masks)

    def _object_masks(self, outputs: QueryOutputs, truth: GroundTruth) -> ObjectMasks | None:
        """The masks of the objects, where masks are learned."""
        if self.masks is None or outputs.canvas is None:
            return None
        assert isinstance(truth, InstanceTruth), "needs_masks makes the detector read masks"
        return ObjectMasks.of(truth, outputs.canvas, groups=outputs.groups)

    def _predicted(self, outputs: QueryOutputs, said: LayerOutputs, masks: ObjectMasks | None) -> Predictions:
        """What a layer says as predictions, with what the matcher may look at."""
        predictions = said.predictions(outputs.frames, groups=outputs.groups)
        if self.masks is None or masks is None or said.masks is None:
            return predictions
        return replace(predictions, sampled=self.masks.sampled(said.masks, masks))

    def match(self, layers: Sequence[_Matched]) -> Iterator[Assignment]:
        """The assignment of each layer, all matched in one call as if they were further images."""
        predictions = _joined([layer.predictions for layer in layers])
        together = self.matcher.match(predictions, _together([layer.truth for layer in layers]), self.criterion)
        row = positive = first_object = 0
        for layer in layers:
            rows = slice(row, row + len(layer.predictions.priors))
            positives = slice(positive, positive + layer.positives())
            yield together.part(rows, positives, first_object=first_object)
            row, positive = rows.stop, positives.stop
            first_object += sum(len(boxes) for boxes in layer.truth.boxes)

    @torch.no_grad()
    def candidates(self, outputs: QueryOutputs, *, most: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """The best pairs of a query and a class of each image: boxes (D, 4), logits (D,), labels (D,), best first."""
        last = outputs.decoder[-1]
        logits, queries, labels = self.best_pairs(outputs, most=most)
        coder = last.predictions(outputs.frames).coder
        for image, frame in enumerate(outputs.frames):
            boxes = coder.decode(frame, last.boxes[image][queries[image]].float())
            yield boxes, logits[image], labels[image]

    def best_pairs(self, outputs: QueryOutputs, *, most: int) -> tuple[Tensor, Tensor, Tensor]:
        """The best pairs of a query and a class of each image: logits, queries and labels, (N, D) each, best first."""
        last = outputs.decoder[-1]
        logits = self.criterion.detection_logits(last.logits, last.logits[..., :0]).float()
        classes = logits.shape[2]
        best, index = logits.flatten(1).topk(min(most, logits[0].numel()), dim=1)
        return best, index // classes, index % classes


def _repeated(truth: GroundTruth, groups: int) -> GroundTruth:
    """The objects of each image as often as there are groups of queries."""
    if groups == 1:
        return truth
    boxes, labels, crowd = (
        tuple(rows for rows in of_images for _ in range(groups))
        for of_images in (truth.boxes, truth.labels, truth.crowd)
    )
    return GroundTruth(boxes, labels, crowd)


def _together(truths: Sequence[GroundTruth]) -> GroundTruth:
    """The images of all, one after another."""
    return GroundTruth(
        tuple(rows for truth in truths for rows in truth.boxes),
        tuple(rows for truth in truths for rows in truth.labels),
        tuple(rows for truth in truths for rows in truth.crowd),
    )


def _joined(layers: Sequence[Predictions]) -> Predictions:
    """The images of all, one after another; classes that a layer does not know are as good as impossible there."""
    first = layers[0]
    widest = max(layer.logits.shape[1] for layer in layers)
    logits = torch.cat(
        [F.pad(layer.logits.detach(), (0, widest - layer.logits.shape[1]), value=ABSENT) for layer in layers]
    )
    priors = Priors(
        tuple(boxes for layer in layers for boxes in layer.priors.boxes),
        tuple(valid for layer in layers for valid in layer.priors.valid),
    )
    deltas = torch.cat([layer.deltas.detach() for layer in layers])
    sampled = [layer.sampled for layer in layers if layer.sampled is not None]
    if sampled:
        targets = tuple(masks for layer in sampled for masks in layer.targets)
        first = replace(first, sampled=SampledMasks(torch.cat([layer.logits for layer in sampled]), targets))
    return replace(first, logits=logits, deltas=deltas, quality_logits=logits[:, :0], priors=priors)
